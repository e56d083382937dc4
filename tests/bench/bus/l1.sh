# SPDX-License-Identifier: GPL-3.0-or-later
# In L1 of tests/bench/bus/run.py: the same guest on Vireo and on QEMU, in turns. Argument: how often.
until [ -w /dev/ram0 ]; do sleep 0.2; done
dd if=/dev/zero of=/dev/ram0 bs=1M 2>/dev/null
iperf3 -s >/dev/null 2>&1 &
common="console=ttyS0 quiet panic=-1 do=script"
samples() {
    while read -r line; do
        case $line in
        *MARK*) echo "SAMPLE $1 ${line%?} exits=$(cat /sys/kernel/debug/kvm/exits) ticks=$(busy)" ;;
        *) echo "$line" ;;
        esac
    done
}
# What L1 was not idle for, in hundredths of a second.
busy() { awk '/^cpu /{print $2 + $3 + $4 + $7 + $8}' /proc/stat; }
# Private memory beside the largest mapping, which is guest RAM, in KiB.
private() {
    awk '/^[0-9a-f]+-/{m = $1} /^Private_(Clean|Dirty):/{p[m] += $2; all += $2}
        END {for (i in p) if (p[i] > most) most = p[i]; print all - most}' "/proc/$1/smaps"
}
i=0
while [ $i -lt "$1" ]; do
    vireoctl run --accel kvm --memory 256M --kernel /k/vmlinuz --initrd /k/initrd --append "$common on=vireo" \
        --disk /dev/ram0 --net nat,host-access --stats /tmp/stats </dev/null 2>&1 | samples vireo
    echo "MEMORY vireo $(($(sed -n 's/.*"private_other_memory": *\([0-9]*\).*/\1/p' /tmp/stats) / 1024))"
    qemu-system-x86_64 -L /k/qemu -accel kvm -cpu max -m 256 -display none -vga none -nodefaults -no-reboot \
        -kernel /k/vmlinuz -initrd /k/initrd -append "$common on=qemu" -serial stdio \
        -object iothread,id=t -drive if=none,id=d,file=/dev/ram0,format=raw,cache=none,aio=io_uring \
        -device virtio-blk-pci,drive=d,iothread=t -netdev user,id=n -device virtio-net-pci,netdev=n,romfile= \
        </dev/null >/tmp/qemu.out 2>&1 &
    pid=$!
    tail -f /tmp/qemu.out | samples qemu &
    waited=0 # its disk may stand still here
    until grep -q "MARK in end" /tmp/qemu.out || ! kill -0 $pid 2>/dev/null || [ $waited -gt 120 ]; do
        sleep 1
        waited=$((waited + 1))
    done
    echo "MEMORY qemu $(private $pid)"
    [ $waited -le 120 ] || kill $pid
    wait $pid
    kill %%
    i=$((i + 1))
done
