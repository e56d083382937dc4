# SPDX-License-Identifier: GPL-3.0-or-later
# In L1: the machine that moved.py saved on the software processor goes on, on KVM; is saved; goes on, on the
# software processor; and on KVM again. Each time it still knows what it knew.
export XDG_RUNTIME_DIR=/tmp/run XDG_DATA_HOME=/tmp/data VIREO_WORKER=/bin/vireo-vm VIREO_NO_SYSTEMD=1
mkdir -p -m 700 /tmp/run /tmp/data

die() {
    echo "FAILED: $*"
    vireoctl info moved 2>&1 | head -n 20
    cat out /tmp/data/vireo/*/worker.log | tail -n 40
    exit 1
}

# Asks the guest; the answer goes to out.
ask() {
    rm -f orders out
    mkfifo orders
    vireoctl serial moved <orders >out &
    exec 3>orders
    sleep 1
    printf '%s\n' "$1" >&3
    tries=0
    until grep -q 'VIREO-STATUS' out; do
        tries=$((tries + 1))
        [ $tries -lt 1200 ] || die "no answer on $where to: $1"
        sleep 0.2
    done
    exec 3>&-
}

goes_on() {
    where=$1
    vireoctl set moved processor.accel="$where" || die "setting $where"
    vireoctl start moved || die "start on $where"
    vireoctl status moved --json | grep -q "\"backend\":\"$where\"" || die "it is not on $where"
    ask 'echo 3 >/proc/sys/vm/drop_caches; echo "$(cat /tmp/word) $(md5sum </dev/sda | cut -c1-32) $(dmesg | grep -ciE "oops|bug:|i/o error|lockup")"'
    grep -q "$(cat /expected) 0" out || die "it forgot on $where"
    echo "ok   it goes on, on $where"
    vireoctl save moved || die "save on $where"
}

vireoctl import /moved.vireo || die import
goes_on kvm
goes_on soft
goes_on kvm
echo "PASSED"
