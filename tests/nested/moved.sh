# SPDX-License-Identifier: GPL-3.0-or-later
# In L1: the machine that moved.py saved on the software processor goes on, on KVM; is saved; goes on, on the
# software processor; and on KVM again. Each time it still knows what it knew.
export XDG_RUNTIME_DIR=/tmp/run XDG_DATA_HOME=/tmp/data VIREO_WORKER=/bin/vireo-vm VIREO_NO_SYSTEMD=1
mkdir -p -m 700 /tmp/run /tmp/data

die() {
    echo "FAILED: $*"
    vireoctl info moved 2>&1 | head -n 20
    vireoctl turn-off moved
    cat said /tmp/data/vireo/*/worker.log | tail -n 40
    exit 1
}

# Asks the guest; the answer goes to out.
asked=0
ask() {
    asked=$((asked + 1))
    rm -f orders said
    mkfifo orders
    vireoctl serial moved <orders >said &
    serial=$!
    exec 3>orders
    sleep 1
    printf 'echo ASKED-%s; %s; echo ANSWERED-%s\n' $asked "$1" $asked >&3
    tries=0
    until grep -q "ANSWERED-$asked" said; do
        tries=$((tries + 1))
        [ $tries -lt 1200 ] || die "no answer on $where to: $1"
        sleep 0.2
    done
    exec 3>&-
    kill $serial
    sed -n "/ASKED-$asked/,/ANSWERED-$asked/p" said >out
}

# Both loops of work go on.
WORKS='for i in 0 1; do n=$(cat /tmp/n$i); t=0; while [ "$(cat /tmp/n$i)" = "$n" ] && [ $t -lt 100 ]; do sleep 1; t=$((t + 1)); done; '\
'[ $t -lt 100 ] && echo works; done; cat /tmp/wrong 2>/dev/null'

clock_is_right() {
    tries=0
    while [ $tries -lt 20 ]; do
        tries=$((tries + 1))
        before=$(date +%s)
        ask 'echo "now $(date +%s)"'
        after=$(date +%s)
        now=$(sed -n 's/^now \([0-9]*\).*/\1/p' out)
        [ "$now" -ge $((before - 1)) ] && [ "$now" -le $((after + 1)) ] && return
        sleep 1
    done
    die "its clock says $now on $where, not $before to $after"
}

goes_on() {
    where=$1
    vireoctl set moved processor.accel="$where" || die "setting $where"
    vireoctl start moved || die "start on $where"
    vireoctl status moved --json | grep -q "\"backend\":\"$where\"" || die "it is not on $where"
    ask 'BAD="Oops:|BUG:|I/O error|lockup|LOCKUP|detected stall"; echo 3 >/proc/sys/vm/drop_caches; echo "$(cat /tmp/word) $(md5sum </dev/sda | cut -c1-32) $(dmesg | grep -cE "$BAD")"; dmesg | grep -E -A20 "$BAD"'
    grep -q "$(cat /expected) 0" out || die "it forgot on $where"
    ask "$WORKS"
    [ "$(grep -c works out)" = 2 ] && ! grep -q wrong out || die "its work went wrong on $where"
    clock_is_right
    echo "ok   it goes on, on $where"
    vireoctl save moved 2>/dev/null || die "save on $where"
}

vireoctl import /moved.vireo 2>/dev/null || die import
goes_on kvm
goes_on soft
goes_on kvm
echo "PASSED"
