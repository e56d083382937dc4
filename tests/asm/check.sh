#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# check.sh RUN-ASM IMAGE CPUS [WANTED-STATUS]: status 1 and the word PASSED, or the status wanted.
out=$("$1" --accel soft --cpus "$3" "$2")
status=$?
echo "$out"
echo "exit status $status"
[ -n "$4" ] && { [ "$status" -eq "$4" ]; exit; }
[ "$status" -eq 1 ] && echo "$out" | grep -q '^PASSED'
