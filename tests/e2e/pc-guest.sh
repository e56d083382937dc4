#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Inside the guest of pc.py: the drivers that the kernel's command line names (hyperv: Hyper-V's, and the PC's beside
# them; else the PC's alone), an address by DHCP on the first adapter that has one, and commands by the line on ttyS0.
hyperv=$(grep -c hyperv /proc/cmdline)
while read -r m; do
    case $hyperv$m in
    0*/hv_*) continue ;;
    0*ata_piix*) insmod "$m" prefer_ms_hyperv=0 ;;
    *) insmod "$m" ;;
    esac
done </etc/modules
cat >/tmp/lease <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add $ip/${mask:-16} dev $interface
[ -n "$router" ] && ip route add default via $router
END
chmod +x /tmp/lease
for i in 1 2 3 4 5 6 7 8 9 10; do [ -e /sys/class/net/eth0 ] && [ -b /dev/sda1 ] && break; sleep 1; done
ip link set lo up
nic=eth0
for n in /sys/class/net/eth*; do
    case $hyperv$(readlink -f "$n/device/driver") in 1*hv_netvsc | 0*tulip) nic=${n##*/} ;; esac
done
ip link set "$nic" up
udhcpc -i "$nic" -n -q -t 10 -s /tmp/lease >/dev/null 2>&1
stty -echo </dev/ttyS0
echo VIREO-READY
while read -r line; do
    eval "$line"
    echo "VIREO-STATUS $?"
done </dev/ttyS0
