# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads `meson introspect --tests`; prints the tests to run as meson test takes them.

select.py user|root usual|all SUITE...: tests of any of the suites; those with "root" in their name
for root alone; those also in suite "slow" or "bench" only if these were asked for."""
import json
import sys

who, extent, wanted = sys.argv[1], sys.argv[2], set(sys.argv[3:])
seen = set()
for test in json.load(sys.stdin):
    suites = {s.split(":")[-1] for s in test["suite"]}
    if not suites & wanted or ("root" in test["name"]) != (who == "root"):
        continue
    if extent != "all" and suites & {"slow", "bench"} - wanted:
        continue
    if test["name"] not in seen:  # meson runs all tests of one name together
        seen.add(test["name"])
        print(test["name"])
