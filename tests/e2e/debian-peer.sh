#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# A second machine on a private switch, for tests/e2e/debian-devices.drive: serves iperf3 once.
ip addr add 192.168.77.2/24 dev eth0
ip link set eth0 up
iperf3 -s -1
