#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Installs Vireo's agent into this system: sudo sh install.sh
set -eu
here=$(cd "$(dirname "$0")" && pwd)
[ "$(id -u)" = 0 ] || { echo "Run it as root: sudo sh $0" >&2; exit 1; }
[ -d /run/systemd/system ] || { echo "This system does not run systemd; the agent needs it." >&2; exit 1; }

if command -v apt-get >/dev/null && command -v dpkg >/dev/null; then # Debian, Ubuntu, Mint
    apt-get install -y "$here/vireo-agent.deb" spice-vdagent libwayland-client0 libxcb-xfixes0 ||
        dpkg -i "$here/vireo-agent.deb" # without a network: what it needs is often there
else
    if command -v dnf >/dev/null; then # Fedora and its kin
        dnf install -y spice-vdagent pulseaudio-libs systemd-libs libwayland-client libxcb ||
            echo "spice-vdagent could not be installed; without it files are not taken and the screen does not follow the window." >&2
    elif command -v pacman >/dev/null; then # Arch and its kin
        pacman -S --needed --noconfirm spice-vdagent libpulse wayland libxcb ||
            echo "spice-vdagent could not be installed; without it files are not taken and the screen does not follow the window." >&2
    fi
    # /lib is a link to /usr/lib there, and must stay one.
    work=$(mktemp -d)
    tar -C "$work" -xzf "$here/vireo-agent.tar.gz"
    cp "$work"/usr/sbin/vireo-agent /usr/sbin/
    cp "$work"/usr/bin/vireo-agent-session "$work"/usr/bin/vireo-agent-clipboard /usr/bin/
    cp "$work"/lib/systemd/system/vireo-agent.service /etc/systemd/system/
    mkdir -p /etc/systemd/user
    cp "$work"/usr/lib/systemd/user/vireo-agent-*.service /etc/systemd/user/
    rm -rf "$work"
    command -v restorecon >/dev/null && restorecon /usr/sbin/vireo-agent /usr/bin/vireo-agent-* || true
    systemctl daemon-reload
    systemctl --global enable vireo-agent-session.service vireo-agent-clipboard.service
    systemctl enable --now vireo-agent.service
fi
echo "Vireo's agent is installed. Log in to the desktop again, and the enhanced session is there."
