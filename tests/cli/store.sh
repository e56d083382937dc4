#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# vireoctl create, list, show, set, delete against an empty store.  store.sh VIREOCTL
set -euo pipefail
ctl=$1
XDG_DATA_HOME=$(mktemp -d)
export XDG_DATA_HOME
trap 'rm -rf "$XDG_DATA_HOME"' EXIT

die() { echo "FAILED: $*" >&2; exit 1; }
fails() { # fails STATUS TEXT COMMAND...
    local want=$1 text=$2 out status=0
    shift 2
    out=$("$@" 2>&1 </dev/null) || status=$?
    [ $status = "$want" ] || die "$* gave status $status, not $want: $out"
    [[ $out == *"$text"* ]] || die "$* said: $out"
}

[ -z "$("$ctl" list)" ] || die "an empty store is not empty"
id=$("$ctl" create "Test VM" --memory 2G --cpus 2 checkpoints.type=production)
[ "$("$ctl" show "Test VM" memory.startup)" = 2048 ] || die "memory"
[ "$("$ctl" show "$id" checkpoints.type)" = production ] || die "type"
[ "$("$ctl" show "$id" adapter0.switch)" = nat ] || die "switch"
"$ctl" list | grep -q "$id  off .*Test VM" || die "list"
"$ctl" list --json | python3 -c 'import json,sys; l=json.load(sys.stdin); assert l[0]["name"]=="Test VM" and l[0]["memory"]==2<<30, l'
"$ctl" set "Test VM" memory.startup=512 'machine.notes=a "quoted" note'
"$ctl" show "$id" --json | python3 -c 'import json,sys; d=json.load(sys.stdin); assert d["memory.startup"]=="512" and "\"quoted\"" in d["machine.notes"], d'
fails 2 "not between" "$ctl" set "Test VM" memory.startup=1024 processor.count=1000
[ "$("$ctl" show "$id" memory.startup)" = 512 ] || die "half a change was kept"
fails 1 "no setting" "$ctl" set "$id" memory.colour=red
fails 1 "no virtual machine" "$ctl" show nothing
fails 2 "name is missing" "$ctl" create
fails 2 "no such file" "$ctl" create x --disk /nowhere
fails 2 "not a size" "$ctl" create x --memory lots
fails 2 "no command" "$ctl" nonsense
fails 1 "nothing was deleted" "$ctl" delete "$id"
flock "$XDG_DATA_HOME/vireo/$id/lock" "$ctl" list | grep -q "$id  running" || die "running"
fails 1 "only when it is off" flock "$XDG_DATA_HOME/vireo/$id/lock" "$ctl" set "$id" processor.count=4
fails 1 "is running" flock "$XDG_DATA_HOME/vireo/$id/lock" "$ctl" delete "$id" --yes
echo junk >"$XDG_DATA_HOME/vireo/$id/machine.ini"
"$ctl" create other >/dev/null
[ "$("$ctl" list | grep -c -e damaged -e other)" = 2 ] || die "damage hides the rest"
"$ctl" delete "$id" --yes && "$ctl" delete other --yes
[ -z "$("$ctl" list)" ] || die "something is left"
