# SPDX-License-Identifier: GPL-3.0-or-later
# The person's part in L1, as an ordinary user: lends devices by usb-loop, sees what the guest can do with them.
# Lines "QEMU: command" go to QEMU's monitor (tests/nested/usb.py).
disk=46f4:0001 serial=0403:6001 tablet=0627:0001 audio=46f4:0002
. /usb-common.sh
mkfifo orders
usb-loop <orders >answers 2>errors &
exec 3>orders
lines=0 reply=''

die() {
    echo "FAILED: $*"
    cat answers errors
    root 'dmesg | tail -n 30'
    exit 1
}

# The next line of usb-loop, into $reply.
answer() {
    lines=$((lines + 1)) tries=0
    while [ "$(wc -l <answers)" -lt $lines ]; do
        tries=$((tries + 1))
        [ $tries -lt 1200 ] || die "no answer to: $*"
        sleep 0.1
    done
    reply=$(sed -n ${lines}p answers)
}

ask() {
    echo "$*" >&3
    answer "$*"
}

attach() {
    ask "attach $1"
    id=${reply#attached }
    [ "$id" != "$reply" ] || die "attach $1: $reply"
}

detach() {
    ask "detach $id"
    [ "$reply" = "detached $id" ] || die "detach: $reply"
}

# What the viewer's device list says of them; needs the disk partitioned (storage).
listed() {
    vireoctl usb list | tee list
    grep -q '46f4:0001  QEMU.*HARDDRIVE$' list || die "the disk is not listed"
    grep -q '0627:0001 .*(keyboard or mouse)$' list || die "the keyboard is not seen as one"
    grep -q -i 'hub' list && die "hubs are listed"
    find_disk -v vhci
    root "mount -t ext2 -o ro /dev/${said}1 /mnt" || die "$said"
    vireoctl usb list | grep '46f4:0001.*(mounted)$' || die "the mounted disk is not seen as such"
    vireoctl usb attach nobody $disk 2>&1 | grep 'is mounted at /mnt: unmount it first' || die "lent while mounted"
    root "umount /mnt"
    echo "ok: listed"
}

storage() {
    attach $disk
    find_disk vhci
    guest_disk=$said
    root "printf 'o\nn\np\n1\n\n\nw\n' | fdisk /dev/$guest_disk && mke2fs -F /dev/${guest_disk}1 && mkdir -p /mnt &&
        mount -t ext2 /dev/${guest_disk}1 /mnt && dd if=/dev/urandom of=/mnt/file bs=64k count=64 &&
        sha256sum </mnt/file && umount /mnt" || die "the guest cannot use the disk: $said"
    sum=$(echo "$said" | grep -o '^[0-9a-f]\{64\}')
    detach
    find_disk -v vhci
    host_disk=$said
    until_root "[ -e /dev/${host_disk}1 ]"
    root "mount -t ext2 -o ro /dev/${host_disk}1 /mnt && sha256sum </mnt/file && umount /mnt" || die "host: $said"
    [ -n "$sum" ] && [ "$(echo "$said" | grep -o '^[0-9a-f]\{64\}')" = "$sum" ] || die "not what the guest wrote: $said, $sum"
    echo "ok: storage"
}

serial() {
    attach $serial
    until_root "grep -q vhci /sys/class/tty/ttyUSB0/uevent || readlink -f /sys/class/tty/ttyUSB0 | grep vhci"
    root 'stty -F /dev/ttyUSB0 raw -echo && exec 5<>/dev/ttyUSB0 && echo "hello through USB/IP" >&5 && read -t 60 -r a <&5 &&
        [ "$a" = "HELLO THROUGH USB/IP" ]' || die "serial: $said"
    detach
    echo "ok: serial"
}

tablet() {
    attach $tablet
    until_root "grep -q 'Phys=usb-vhci_hcd' /proc/bus/input/devices"
    detach
    echo "ok: tablet"
}

audio() {
    attach $audio
    until_root "readlink -f /sys/class/sound/card*/device | grep vhci && ls /dev/snd/pcmC*p"
    root 'aplay -q -D hw:0,0 /tone.wav' || die "audio: $said"
    detach
    echo "ok: audio"
}

pulled_out() {
    attach $disk
    find_disk vhci
    guest_disk=$said
    root "dd if=/dev/zero of=/dev/$guest_disk bs=64k count=2000 conv=fsync & sleep 1; echo \$! >/tmp/writer" || die "$said"
    echo "QEMU: device_del thedisk"
    answer "the device is pulled out"
    case $reply in closed*unplugged*) ;; *) die "pulled out: $reply" ;; esac
    until_root '! [ -d /proc/$(cat /tmp/writer) ]'
    root "dmesg | grep -i 'i/o error.*$guest_disk\|$guest_disk.*error\|$guest_disk.*offline'" || die "the guest saw no error"
    echo "QEMU: device_add usb-storage,bus=x.0,drive=again,id=thedisk2"
    find_disk -v vhci
    attach $disk
    find_disk vhci
    root "dd if=/dev/$said of=/dev/null bs=64k count=16" || die "plugged in again: $said"
    detach
    echo "ok: pulled out"
}

rounds() {
    attach $tablet
    detach
    ask fds
    before=$reply n=0
    while [ $n -lt "$1" ]; do
        attach $tablet
        detach
        n=$((n + 1))
    done
    ask fds
    [ "$reply" = "$before" ] || die "leak: $before, then $reply"
    echo "ok: $1 rounds"
}

refusals() {
    ask "attach 1234:5678"
    case $reply in failed*) ;; *) die "a device that is not there: $reply" ;; esac
    ask "detach usb99"
    case $reply in failed*) ;; *) die "an id that is not there: $reply" ;; esac
    echo "ok: refusals"
}

find_disk -v vhci
for part in "$@"; do
    case $part in
    rounds=*) rounds "${part#rounds=}" ;;
    *) $part ;;
    esac
done
exec 3>&-
wait
[ ! -s errors ] || die "said on stderr"
