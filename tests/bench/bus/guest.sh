#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# In the guest (L2) of tests/bench/bus/run.py: at rest before and after each part, while its counters are read.
host=10.203.0.2 disk=/dev/sda
if grep -q on=qemu /proc/cmdline; then host=10.0.2.2 disk=/dev/vda; fi
mark() { sleep 1; echo "MARK $*"; sleep 3; }
printf '#!/bin/sh\n[ "$1" = bound ] && ip addr add $ip/16 dev $interface\n' >/tmp/lease
chmod +x /tmp/lease
ip link set eth0 up
udhcpc -i eth0 -n -q -t 20 -s /tmp/lease >/dev/null 2>&1
rate() { awk '/receiver/{print $7}'; }
for depth in 8 1; do
    mark "read$depth" begin
    n=$(randread $disk $depth 3)
    mark "read$depth" end ops="$n"
done
mark out begin
r=$(iperf3 -c $host -t 2 -f m | rate)
mark out end rate="$r"
mark in begin
r=$(iperf3 -c $host -t 2 -f m -R | rate)
mark in end rate="$r"
