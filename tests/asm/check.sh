#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# check.sh RUN-ASM IMAGE CPUS STATUS [ACCEL]: the status wanted, and where that is 1 the word PASSED.
out=$("$1" --accel "${5:-soft}" --cpus "$3" "$2")
status=$?
echo "$out"
echo "exit status $status"
[ "$status" -eq "$4" ] || exit 1
[ "$status" -ne 1 ] || echo "$out" | grep -q '^PASSED'
