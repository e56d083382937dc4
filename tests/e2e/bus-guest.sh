#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# The guest's side of tests/e2e/bus: run by init with do=script.
fail() { echo "BUS-FAILED $*"; }
# Names follow the order of probing, which varies: disks are told by their LUN.
disk() { for d in /sys/bus/scsi/devices/*:0:0:$1/block/*; do [ -e "$d" ] && echo "/dev/${d##*/}"; done; }
cd /tmp
a=$(disk 0) b=$(disk 1)
echo "BUS-BEGIN $(cat /sys/class/scsi_disk/*/device/vendor)"
[ "$(ls -d /sys/bus/vmbus/devices/*/ | wc -l)" -ge 8 ] || fail devices
dd if=/dev/urandom of=/tmp/a bs=64k count=64 2>/dev/null
for n in 1 2 3 4; do
    ( dd if=/tmp/a of=$a bs=64k seek=$((n * 100)) conv=fsync 2>/dev/null ) &
done
wait
echo 3 >/proc/sys/vm/drop_caches
for n in 1 2 3 4; do
    dd if=$a bs=64k skip=$((n * 100)) count=64 2>/dev/null | cmp - /tmp/a || fail compare $n
done
echo "BUS-CHANNELS $(ls -d /sys/bus/vmbus/devices/*/channels/* | wc -l)"
mkdir -p /mnt/a /mnt/iso
mount -t ext4 $b /mnt/a || fail mount
cp /tmp/a /mnt/a/a && sync && rm /mnt/a/a && sync
echo BUS-TRIM; fstrim -v /mnt/a || fail trim
umount /mnt/a
mount -t iso9660 -o ro /dev/sr0 /mnt/iso && cat /mnt/iso/hello.txt && umount /mnt/iso
echo BUS-READY
# hot add: sdc comes, is written while it is there, and goes
i=0; while [ ! -b /dev/sdc ] && [ $i -lt 100 ]; do sleep 0.2; i=$((i+1)); done
[ -b /dev/sdc ] && echo BUS-HOT-ADDED || fail hot add
(while dd if=/dev/zero of=/dev/sdc bs=64k count=16 oflag=direct 2>/dev/null; do :; done; echo BUS-IO-ENDED) &
sleep 2; echo BUS-REMOVE-NOW
i=0; while [ -b /dev/sdc ] && [ $i -lt 200 ]; do sleep 0.2; i=$((i+1)); done
[ -b /dev/sdc ] && fail hot remove || echo BUS-HOT-REMOVED
# memory
m0=$(awk '/MemFree/{print $2}' /proc/meminfo); echo BUS-MEMORY-1 $m0
read x
mem_free() { awk '/MemFree/{print $2}' /proc/meminfo; }
m1=$(mem_free); i=0
while [ $((m0 - m1)) -le 100000 ] && [ $i -lt 100 ]; do sleep 0.2; i=$((i+1)); m1=$(mem_free); done
echo BUS-MEMORY-2 $m1
[ $((m0 - m1)) -gt 100000 ] || fail balloon $m0 $m1
read x
m2=$(mem_free); i=0
while [ $((m2 - m1)) -le 100000 ] && [ $i -lt 100 ]; do sleep 0.2; i=$((i+1)); m2=$(mem_free); done
echo BUS-MEMORY-3 $m2
[ $((m2 - m1)) -gt 100000 ] || fail unballoon $m1 $m2
# sockets
vsock-guest echo 5000 &
read x
vsock-guest talk 6000 64 20000
vsock-guest hang 5001 &
h=$!
read x
kill -9 $h
# channels move to the other processor
for c in /sys/bus/vmbus/devices/*/channels/*/cpu; do
    echo 1 >$c 2>/dev/null; echo 0 >$c 2>/dev/null
done
dd if=$a of=/dev/null bs=1M count=8 2>/dev/null || fail read after move
echo "BUS-MOVED"
