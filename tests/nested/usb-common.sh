# SPDX-License-Identifier: GPL-3.0-or-later
# What usb-user.sh and usb-guest.sh share; `die` is theirs.

# Runs a command as root; its output into $said.
root() {
    echo "$*" >order.new
    mv order.new order
    while [ ! -e answer ]; do sleep 0.05; done
    status=$(tail -n 1 answer)
    said=$(sed '$d' answer)
    rm -f answer
    return "$status"
}

# Waits until a command of root succeeds.
until_root() {
    tries=0
    until root "$*"; do
        tries=$((tries + 1))
        [ $tries -lt 400 ] || die "never: $* ($said)"
        sleep 0.2
    done
}

# The disk that is (vhci) or is not (-v vhci) behind vhci_hcd, into $said.
find_disk() {
    until_root "for d in /sys/block/sd*; do readlink -f \$d; done | grep /usb | grep $* | sed 's,.*/,,' | grep ."
}
