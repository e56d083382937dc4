#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# install.sh of the agent's disc, in pretended systems of each family: a tree of busybox whose package manager and
# systemctl only write down what they are asked. What real ones would install is not looked at.
#   install.sh BUILD
set -euo pipefail
build=$1
work=$(mktemp -d "${TMPDIR:-/tmp}/vireo-install.XXXXXX")
trap 'rm -rf "$work"' EXIT
unshare -r true 2>/dev/null || { echo "skipped: no user namespaces here"; exit 77; }

xorriso -osirrox on -indev "$build/session/guest/vireo-agent.iso" -extract / "$work/disc" >/dev/null 2>&1
failed=0
check() { if eval "$2"; then echo "ok   $1"; else echo "FAIL $1"; cat "$root/log"; failed=1; fi; }

system() { # system NAME PROGRAM...: a tree at $root with these package managers
    root=$work/$1
    shift
    mkdir -p "$root"/{bin,usr/bin,usr/sbin,run/systemd/system,etc/systemd/system,tmp,media,usr/lib/systemd/user,dev}
    : >"$root/dev/null"
    ln -s usr/lib "$root/lib"
    cp "$(command -v busybox)" "$root/bin/busybox"
    for p in sh cp rm mkdir tar gzip mktemp id dirname pwd; do ln -s busybox "$root/bin/$p"; done
    for p in "$@" systemctl restorecon; do
        printf '#!/bin/sh\necho "%s $*" >>/log\n' "$p" >"$root/usr/bin/$p"
        chmod +x "$root/usr/bin/$p"
    done
    : >"$root/log"
    cp -r "$work/disc/." "$root/media/"
    chmod -R u+w "$root/media"
    unshare -r chroot "$root" /bin/sh -c 'PATH=/bin:/usr/bin:/usr/sbin sh /media/install.sh' >"$root/said" 2>&1
}

for family in "fedora dnf" "arch pacman"; do
    set -- $family
    system "$@" && s=0 || s=$?
    check "$1: the script ends well" "[ $s = 0 ]"
    for f in usr/sbin/vireo-agent usr/bin/vireo-agent-session usr/bin/vireo-agent-clipboard; do
        check "$1: /$f" "[ -x $root/$f ]"
    done
    for f in system/vireo-agent user/vireo-agent-session user/vireo-agent-clipboard; do
        check "$1: unit $f" "[ -s $root/etc/systemd/$f.service ]"
    done
    check "$1: spice-vdagent is asked for" "grep -q '^$2 .*spice-vdagent' $root/log"
    check "$1: enabled for users" "grep -q 'systemctl --global enable.*vireo-agent-session.*vireo-agent-clipboard' $root/log"
    check "$1: started" "grep -q 'systemctl enable --now vireo-agent.service' $root/log"
    check "$1: /lib is still a link" "[ -L $root/lib ]"
done
system debian apt-get dpkg && s=0 || s=$?
check "debian: the script ends well" "[ $s = 0 ]"
check "debian: the package is asked for" "grep -q 'apt-get install -y /media/vireo-agent.deb spice-vdagent' $root/log"
exit $failed
