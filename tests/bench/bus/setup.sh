# SPDX-License-Identifier: GPL-3.0-or-later
# Root in L1 of tests/bench/bus/run.py: the RAM disk is for everybody.
until [ -b /dev/ram0 ]; do sleep 0.2; done
chmod 666 /dev/ram0
