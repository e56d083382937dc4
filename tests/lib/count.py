# SPDX-License-Identifier: GPL-3.0-or-later
"""Prints "passed failed skipped" of meson's testlog.json. count.py FILE EXPECTED: a missing or
empty log, when tests were expected, counts as one failure."""
import json
import sys

results = []
try:
    with open(sys.argv[1], encoding="utf-8") as log:
        results = [json.loads(line)["result"] for line in log if line.strip()]
except OSError:
    pass
passed = sum(r in ("OK", "EXPECTEDFAIL") for r in results)
skipped = results.count("SKIP")
failed = len(results) - passed - skipped
if not results and int(sys.argv[2]):
    failed = 1
print(passed, failed, skipped)
