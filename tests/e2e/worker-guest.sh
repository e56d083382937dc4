#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Inside the guest of worker.py: an address by DHCP, a shell on the screen, and commands by the line
# on the serial port.
cat >/tmp/lease <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add $ip/${mask:-16} dev $interface
[ -n "$router" ] && ip route add default via $router
for d in $dns; do echo nameserver $d >/etc/resolv.conf; done
END
chmod +x /tmp/lease
ip link set lo up
ip link set eth0 up
udhcpc -i eth0 -n -q -t 10 -s /tmp/lease >/dev/null 2>&1
(while true; do setsid sh -c 'exec sh </dev/tty1 >/dev/tty1 2>&1'; sleep 1; done) &
stty -echo </dev/ttyS0
echo VIREO-READY
while read -r line; do
    eval "$line"
    echo "VIREO-STATUS $?"
done </dev/ttyS0
