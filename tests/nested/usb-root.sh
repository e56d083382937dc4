# SPDX-License-Identifier: GPL-3.0-or-later
# Root's part in L1: lets the ordinary user at the devices, as a desktop's udev rules do, and runs what stands in
# /tmp/order, which plays the guest; its output, and its exit status as the last line, go to /tmp/answer.
while :; do
    chmod 666 /dev/bus/usb/*/* /sys/devices/platform/vhci_hcd.0/attach
    if [ -e /tmp/order ]; then
        mv /tmp/order /tmp/order.now
        sh /tmp/order.now >/tmp/answer.new 2>&1
        echo $? >>/tmp/answer.new
        chown user /tmp/answer.new
        mv /tmp/answer.new /tmp/answer
    fi
    sleep 0.1
done 2>/dev/null
