#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# Inside the guest of test_machine.py: a shell on the screen, commands by the line on the serial port,
# and what the pointer does in /tmp/pointer.
(while true; do setsid sh -c 'exec sh </dev/tty1 >/dev/tty1 2>&1'; sleep 1; done) &
for e in /sys/class/input/event*; do
    # EV_ABS (bit 3): the pointer
    [ $((0x$(cat "$e/device/capabilities/ev") & 8)) = 0 ] || cat "/dev/input/${e##*/}" >/tmp/pointer &
done
# struct input_event by the line: type, code, low and high half of the value, in hexadecimal
pointer() { hexdump -v -e '12/2 "%x " "\n"' /tmp/pointer | cut -d' ' -f9-12; }
stty -echo </dev/ttyS0
echo VIREO-READY
while read -r line; do
    eval "$line"
    echo "VIREO-STATUS $?"
done </dev/ttyS0
