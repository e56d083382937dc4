#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Places that are full or cannot be written, as mounts of our own: each is told, by name and with what it is, and no
# machine is lost by it.      places.sh VIREOCTL VIREO-VM
set -euo pipefail
vireoctl=$(readlink -f "$1") worker=$(readlink -f "$2")
if [ -z "${INSIDE:-}" ]; then
    unshare --user --map-current-user --keep-caps --mount true 2>/dev/null || { echo "no user namespaces here"; exit 77; }
    exec env INSIDE=1 unshare --user --map-current-user --keep-caps --mount "$(readlink -f "$0")" "$vireoctl" "$worker"
fi
dir=$(mktemp -d "${TMPDIR:-/tmp}/vireo-places-XXXXXX")
trap '"$vireoctl" turn-off A 2>/dev/null || true; umount -l "$dir/run" 2>/dev/null || true; rm -rf "$dir" 2>/dev/null || true' EXIT
export XDG_DATA_HOME=$dir/share XDG_RUNTIME_DIR=$dir/run VIREO_WORKER=$worker VIREO_NO_SYSTEMD=1 LC_ALL=C.UTF-8
mkdir -p "$dir/share" "$dir/keep"
mkdir -m 700 "$dir/run"

attach() { # attach SOURCE TARGET TYPE FLAGS OPTIONS: mount(8) wants to be root
    /usr/bin/python3 - "$@" <<'END'
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
source, target, kind, flags, options = (a.encode() for a in sys.argv[1:6])
if libc.mount(source, target, kind, int(flags), options or None):
    sys.exit("mount: " + os.strerror(ctypes.get_errno()))
END
}
fails() { # fails TEXT COMMAND...: it fails, and says so
    local text=$1 out
    shift
    if out=$("$vireoctl" "$@" 2>&1); then echo "vireoctl $*: did not fail" >&2; exit 1; fi
    grep -q "$text" <<<"$out" || { echo "vireoctl $*: says “$out”, not “$text”" >&2; exit 1; }
}

printf kernel >"$dir/kernel"
"$vireoctl" create A --kernel "$dir/kernel" >/dev/null
folder=$(echo "$dir"/share/vireo/*-*)
cp -a "$folder/." "$dir/keep/"
attach tmpfs "$folder" tmpfs 0 size=64k,mode=700
cp -a "$dir/keep/." "$folder/"
before=$(cat "$folder/machine.ini")

head -c 200K /dev/zero >"$folder/fill" 2>/dev/null || true
fails "No space left" set A machine.notes=hello
fails "No space left" checkpoint create A
[ "$(cat "$folder/machine.ini")" = "$before" ] || { echo "the configuration was lost" >&2; exit 1; }
rm "$folder/fill"
"$vireoctl" set A machine.notes=hello

attach none "$folder" none 33 "" # read-only
fails "$folder, cannot be written: Read-only" start A
fails "Read-only" set A machine.notes=again
fails "Read-only" checkpoint create A
"$vireoctl" show A machine.notes | grep -q '^hello$'
attach none "$folder" none 32 ""

attach tmpfs "$dir/run" tmpfs 0 size=4k,nr_inodes=1,mode=700
fails "folder for running machines, $dir/run/.*No space left" start A
"$vireoctl" status A | grep -q off
