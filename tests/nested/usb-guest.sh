# SPDX-License-Identifier: GPL-3.0-or-later
# The person's part in L1, as an ordinary user: a machine on KVM, to whose guest the disk is handed by vireoctl. Its
# own vhci_hcd, fed by vireo-agent over hv_sock, uses it. Lines "QEMU: command" go to QEMU's monitor (usb.py).
export VIREO_WORKER=/bin/vireo-vm VIREO_NO_SYSTEMD=1 XDG_DATA_HOME=/tmp/data
disk=46f4:0001 serial=0403:6001 audio=46f4:0002
. /usb-common.sh

die() {
    echo "FAILED: $*"
    tail -n 60 serial
    vireoctl session status pc
    vireoctl usb list pc
    cat agent.err /tmp/data/vireo/*/worker.log 2>/dev/null | tail -n 30
    root 'dmesg | tail -n 20'
    echo "$said"
    exit 1
}

# Runs a line in the guest; its output into $said, and its status is the function's.
commands=0
guest() {
    before=$(wc -c <serial)
    commands=$((commands + 1)) tries=0
    echo "$*" >&4
    until [ "$(grep -a -c '^VIREO-STATUS' serial)" -ge $commands ]; do
        tries=$((tries + 1))
        [ $tries -lt 1200 ] || die "the guest does not answer: $*"
        sleep 0.3
    done
    said=$(tail -c +$((before + 1)) serial | tr -d '\r')
    [ "$(echo "$said" | sed -n 's/^VIREO-STATUS //p' | tail -n 1)" = 0 ]
}

until_guest() {
    tries2=0
    until guest "$*"; do
        tries2=$((tries2 + 1))
        [ $tries2 -lt 300 ] || die "never in the guest: $*"
        sleep 0.2
    done
}

begin() {
    vireoctl create pc --memory 320M --switch none --kernel /vmlinuz --initrd /l2.cpio.gz \
        --append "console=ttyS0 do=script mitigations=off" processor.accel=kvm || die create
    vireoctl start pc || die start
    mkfifo keys
    vireoctl serial pc <keys >serial &
    exec 4>keys
    tries=0
    until grep -q VIREO-READY serial; do
        tries=$((tries + 1))
        [ $tries -lt 800 ] || die "the guest does not start"
        vireoctl status pc --json | grep -q '"state":"running"' || die "the machine has ended"
        [ $((tries % 20)) != 0 ] || echo "     the guest has said $(wc -c <serial) bytes: $(tail -n 1 serial | cut -c1-90)"
        sleep 1
    done
    vireoctl status pc --json | grep -q '"backend":"kvm"' || die "it is not on KVM"
    tries=0
    until vireoctl session status pc --json | grep -q '"usb":"ready"'; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || die "the agent offers no USB"
        sleep 0.2
    done
    echo "ok: a guest on KVM, and its agent"
}

# lend DEVICE CONDITION [--force]: hands it over and waits until the condition holds in the guest.
lend() {
    vireoctl usb attach pc "$1" $3 >attached 2>&1 || die "attach $1: $(cat attached)"
    until_guest "$2"
    vireoctl usb list pc | grep -q "(attached)" || die "$1 is not listed as the guest's"
}

take_back() {
    vireoctl usb detach pc "$1" || die "detach $1"
    until_guest "$2"
}

attach() {
    lend $disk '[ -b /dev/sda ]'
}

detach() {
    take_back $disk '[ ! -b /dev/sda ]'
}

storage() {
    attach
    find_none_here
    guest "printf 'o\nn\np\n1\n\n\nw\n' | fdisk /dev/sda >/dev/null && mke2fs -F /dev/sda1 >/dev/null && \
mount -t ext2 /dev/sda1 /mnt && dd if=/dev/urandom of=/mnt/file bs=64k count=128 && umount /mnt && sync" ||
        die "the guest cannot use the disk"
    guest "mount -t ext2 -o ro /dev/sda1 /mnt && sha256sum </mnt/file && umount /mnt" || die "the guest cannot read it"
    sum=$(echo "$said" | grep -o '^[0-9a-f]\{64\}')
    detach
    find_disk -v vhci
    here=$said
    until_root "[ -e /dev/${here}1 ]"
    root "mkdir -p /mnt && mount -t ext2 -o ro /dev/${here}1 /mnt && sha256sum </mnt/file && umount /mnt" || die "host: $said"
    [ -n "$sum" ] && [ "$(echo "$said" | grep -o '^[0-9a-f]\{64\}')" = "$sum" ] || die "not what the guest wrote: $said, $sum"
    echo "ok: storage: 8 MiB, byte for byte"
}

# While it is lent it is no disk here.
find_none_here() {
    root '! ls -d /sys/block/sd*' || die "the disk is here and there"
}

pulled_out() {
    attach
    guest 'dd if=/dev/zero of=/dev/sda bs=64k count=2000 conv=fsync >/tmp/dd.log 2>&1 & echo $! >/tmp/writer; sleep 1'
    echo "QEMU: device_del thedisk"
    until_guest '! [ -d /proc/$(cat /tmp/writer) ]'
    guest 'cat /tmp/dd.log; dmesg | grep -i "i/o error.*sda\|sda.*error\|sda.*offline\|usb.*disconnect"' || die "the guest saw no error"
    until_guest '[ ! -b /dev/sda ]'
    tries=0
    while vireoctl usb list pc | grep -q $disk; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || die "it is still lent"
        sleep 0.2
    done
    echo "ok: pulled in the middle of a copy"
    echo "QEMU: device_add usb-storage,bus=x.0,drive=again,id=thedisk2"
    find_disk -v vhci
    attach
    guest 'dd if=/dev/sda of=/dev/null bs=64k count=16' || die "plugged in again"
    detach
    echo "ok: and plugged in again"
}

# What it sends is answered in capitals (usb.py).
serial() {
    lend $serial '[ -c /dev/ttyUSB0 ]'
    guest "stty -F /dev/ttyUSB0 raw -echo && exec 5<>/dev/ttyUSB0 && echo 'hello through USB/IP' >&5 && read -t 60 -r a <&5 && \
exec 5<&- && [ \"\$a\" = 'HELLO THROUGH USB/IP' ]" || die "serial: $said"
    take_back $serial '[ ! -c /dev/ttyUSB0 ]'
    echo "ok: serial, both ways"
}

# QEMU's keyboard is of the same kind.
find_tablet() {
    tablet=$(vireoctl usb list | grep -i tablet | cut -d ' ' -f 1)
    [ -n "$tablet" ] || die "no tablet is listed: $(vireoctl usb list)"
}

tablet() {
    find_tablet
    keyboard=$(vireoctl usb list | grep -i 'usb keyboard' | cut -d ' ' -f 1)
    ! vireoctl usb attach pc "$keyboard" >attached 2>&1 || die "a keyboard is lent without being asked"
    grep -q 'say --force' attached || die "$(cat attached)"
    lend $tablet 'grep -q Phys=usb-vhci /proc/bus/input/devices' --force
    guest 'e=$(grep -A3 Phys=usb-vhci /proc/bus/input/devices | grep -o "event[0-9]*" | head -n 1); dd if=/dev/input/$e of=/tmp/click bs=24 count=1 2>/dev/null & sleep 2'
    echo "QEMU: mouse_button 1"
    until_guest '[ -s /tmp/click ]'
    echo "QEMU: mouse_button 0"
    take_back $tablet '! grep -q Phys=usb-vhci /proc/bus/input/devices'
    echo "ok: tablet, and a click"
}

audio() {
    lend $audio 'ls /dev/snd/pcmC*p'
    guest 'aplay -q -D hw:0,0 /tone.wav' || die "audio: $said"
    take_back $audio '! ls /dev/snd/pcmC*p'
    echo "ok: audio"
}

# What the worker and the agent hold, into $held: descriptors, threads, ports of vhci_hcd.
held() {
    guest 'echo held $(ls /proc/$(pidof vireo-agent)/fd | wc -l) $(cat /sys/devices/platform/vhci_hcd.*/status* | grep -c " 006 ")'
    worker=/proc/$(pidof vireo-vm)
    held="$(ls $worker/fd | wc -l) $(ls $worker/task | wc -l) $(echo "$said" | sed -n 's/^held //p')"
}

# Whether one of $held is more than in $1.
more_than() {
    echo "$1 $held" | awk '{ for (i = 1; i <= NF / 2; i++) if ($(i + NF / 2) > $i) more = 1 } END { exit !more }'
}

heap() {
    awk '/\[heap\]/ { inside = 1 } inside && /^Rss/ { print $2; exit }' /proc/$(pidof vireo-vm)/smaps
}

# The guest waits by itself, which is quicker.
round() {
    vireoctl usb attach pc $tablet --force >attached 2>&1 || die "attach: $(cat attached)"
    guest 'until grep -q Phys=usb-vhci /proc/bus/input/devices; do sleep 0.1; done'
    vireoctl usb detach pc $tablet || die detach
    guest 'while grep -q Phys=usb-vhci /proc/bus/input/devices; do sleep 0.1; done'
}

rounds() {
    find_tablet
    round
    held
    before=$held heap_before=$(heap) n=0
    echo "     at first: holds $before"
    while [ $n -lt "$1" ]; do
        round
        n=$((n + 1))
        [ $((n % 10)) = 0 ] || continue
        held
        echo "     round $n: holds $held, heap $(heap) KiB"
    done
    # what has ended is let go of a little later
    tries=0
    held
    while more_than "$before"; do
        tries=$((tries + 1))
        [ $tries -lt 30 ] || die "leak: $before, then $held"
        sleep 1
        held
    done
    heap_after=$(heap)
    [ "$heap_after" -lt $((heap_before + 1024)) ] || die "leak: heap of $heap_before KiB, then $heap_after"
    echo "ok: $1 rounds: $held, heap $heap_before to $heap_after KiB"
}

# Lent while the machine is saved: given back, and the guest sees it gone when it goes on; then lent again.
saved() {
    find_disk -v vhci
    attach
    vireoctl save pc || die save
    find_disk -v vhci
    exec 4>&-
    vireoctl start pc || die resume
    rm keys
    mkfifo keys
    vireoctl serial pc <keys >>serial &
    exec 4>keys
    until_guest '[ ! -b /dev/sda ]'
    tries=0
    until vireoctl session status pc --json | grep -q '"usb":"ready"'; do
        tries=$((tries + 1))
        [ $tries -lt 600 ] || die "the resumed agent offers no USB"
        sleep 0.2
    done
    attach
    guest 'dd if=/dev/sda of=/dev/null bs=64k count=16' || die "after resume"
    detach
    echo "ok: saved and resumed"
}

begin
for part in "$@"; do
    case $part in
    rounds=*) rounds "${part#rounds=}" ;;
    *) $part ;;
    esac
done
vireoctl turn-off pc
