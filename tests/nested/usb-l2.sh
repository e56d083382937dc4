# SPDX-License-Identifier: GPL-3.0-or-later
# In the guest of usb-guest.sh: the agent, and commands by the line on the serial port.
mkdir -p /run /mnt /tmp
vireo-agent >/tmp/agent.log 2>&1 &
stty -echo </dev/ttyS0
echo VIREO-READY
while read -r line; do
    eval "$line"
    echo "VIREO-STATUS $?"
done </dev/ttyS0
