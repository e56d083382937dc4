# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads meson's testlog.json.

count.py FILE EXPECTED: prints "passed failed skipped"; a missing or empty log, when tests were
expected, counts as one failure. count.py --failed FILE: the names of those that failed, a line each."""
import json
import sys

GOOD = ("OK", "EXPECTEDFAIL", "SKIP")


def read(path):
    try:
        with open(path, encoding="utf-8") as log:
            return [json.loads(line) for line in log if line.strip()]
    except OSError:
        return []


if sys.argv[1] == "--failed":
    for test in read(sys.argv[2]):
        if test["result"] not in GOOD:
            print(test["name"].split(" / ")[-1])
    sys.exit()
results = [test["result"] for test in read(sys.argv[1])]
skipped = results.count("SKIP")
failed = sum(r not in GOOD for r in results)
passed = len(results) - failed - skipped
if not results and int(sys.argv[2]):
    failed = 1
print(passed, failed, skipped)
