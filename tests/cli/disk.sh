#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# vireoctl disk from outside: disk.sh VIREOCTL
set -eu
ctl=$(realpath "$1")
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

fail() {
    echo "FAIL: $*" >&2
    exit 1
}
field() { # FILE KEY
    "$ctl" disk info --json "$1" | python3 -c "import json,sys; print(json.load(sys.stdin)['$2'])"
}
refused() { # STATUS COMMAND...
    want=$1
    shift
    status=0
    "$ctl" disk "$@" >out 2>err || status=$?
    [ "$status" = "$want" ] || fail "disk $*: status $status, expected $want: $(cat err)"
}

"$ctl" disk create a.vhdx --size 64G
[ "$(field a.vhdx format) $(field a.vhdx type) $(field a.vhdx size)" = "vhdx dynamic 68719476736" ] || fail info
[ "$(field a.vhdx file_length)" -lt 16777216 ] || fail "a dynamic disk is small"
refused 1 create a.vhdx --size 1G
grep -q "already there" err || fail "why create was refused"
"$ctl" disk create a.vhdx --size 32M --force
[ "$(field a.vhdx size)" = 33554432 ] || fail "--force"
refused 2 create b.vhdx
refused 2 create b.vhdx --size
refused 2 create b.vhdx --size 1G --type round
refused 2 frobnicate
refused 1 info missing.vhdx
refused 2 create b.vhdx --size 100T

# Content goes round: raw -> vhdx -> child -> merge -> vhd -> raw.
head -c 3000000 /dev/urandom >a.img
truncate -s 32M a.img
"$ctl" disk convert --to vhdx --force a.img a.vhdx
"$ctl" disk create c.vhdx --parent a.vhdx
[ "$(field c.vhdx type)" = differencing ] || fail "type of a child"
"$ctl" disk check c.vhdx >/dev/null
"$ctl" disk map --json c.vhdx | python3 -c '
import json, sys
m = json.load(sys.stdin)
assert sum(x["length"] for x in m) == 32 << 20, m
assert m[0]["kind"] == "data" and m[0]["depth"] == 1, m'
"$ctl" disk convert c.vhdx b.vhd
"$ctl" disk convert b.vhd b.img
cmp a.img b.img
"$ctl" disk merge c.vhdx
[ ! -e c.vhdx ] || fail "merge deletes the child"
"$ctl" disk convert --force a.vhdx b.img
cmp a.img b.img

# Resizing keeps data unless told otherwise.
"$ctl" disk resize a.vhdx 48M
[ "$(field a.vhdx size)" = 50331648 ] || fail resize
refused 1 resize a.vhdx 1M
grep -q "holds data up to" err || fail "why resize was refused"
"$ctl" disk resize a.vhdx minimum
[ "$(field a.vhdx size)" = 3000320 ] || fail "minimum is $(field a.vhdx size)"
"$ctl" disk convert --force a.vhdx b.img
cmp -n 3000000 a.img b.img
"$ctl" disk compact a.vhdx
"$ctl" disk check --json a.vhdx | grep -q '"sound": *true' || fail "sound"

# A damaged table is found, and repaired.
"$ctl" disk create d.vhdx --size 8M --block-size 1M
printf '\006\000\000\000\000\377\377\377' | dd of=d.vhdx bs=1 seek=3145728 conv=notrunc 2>/dev/null
refused 1 check d.vhdx
grep -q "points outside" out || fail "check names the defect"
"$ctl" disk check --repair d.vhdx >/dev/null
"$ctl" disk check d.vhdx >/dev/null

# A VHD's parent that was changed later is told of.
"$ctl" disk create p.vhd --size 8M
"$ctl" disk create k.vhd --parent p.vhd
! "$ctl" disk check k.vhd | grep -q "changed after" || fail "a parent just as it was"
touch -d '2040-01-01' p.vhd
"$ctl" disk check k.vhd | grep -q "note: the parent's file was changed after" || fail "a parent's time"
[ "$(field k.vhd parent_changed_later)" = True ] || fail "a parent's time, in info"
"$ctl" disk reparent k.vhd p.vhd
[ "$(field k.vhd parent_changed_later)" = False ] || fail "a parent's time, settled"

# A conversion that is killed leaves nothing under the target's name.
truncate -s 4G big.img
dd if=/dev/urandom of=big.img bs=1M count=64 seek=100 conv=notrunc 2>/dev/null
"$ctl" disk convert big.img big.vhdx &
pid=$!
sleep 0.05
kill -9 $pid 2>/dev/null || true
wait $pid 2>/dev/null || true
[ ! -e big.vhdx ] || "$ctl" disk check big.vhdx >/dev/null
"$ctl" disk convert --force big.img big.vhdx

if command -v qemu-img >/dev/null; then
    qemu-img compare -q big.img big.vhdx
    # What is only imported: by qemu-img, or it is named; and never taken for a raw disk.
    for format in qcow2 vmdk vdi; do
        qemu-img convert -O $format a.img a.$format
        "$ctl" disk convert --force a.$format q.vhdx
        qemu-img compare -q a.img q.vhdx
        refused 1 info a.$format
        grep -q "is a $format image" err || fail "info of $format: $(cat err)"
        status=0
        PATH=/nonexistent "$ctl" disk convert a.$format r.vhdx 2>err || status=$?
        { [ $status = 1 ] && [ ! -e r.vhdx ]; } || fail "importing $format without qemu-img"
        grep -q "needs the program qemu-img" err || fail "what importing $format needs"
    done
    # Two writers: QEMU's tools and ours see each other.
    "$ctl" disk create l.vhdx --size 64M
    qemu-io -f vhdx -c 'sleep 4000' l.vhdx >/dev/null &
    pid=$!
    sleep 1
    refused 1 resize l.vhdx 128M
    grep -q "in use by another program" err || fail "locking: $(cat err)"
    wait $pid
    "$ctl" disk resize l.vhdx 128M
fi
echo ok
