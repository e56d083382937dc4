# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's memtest86+ runs a whole pass without an error.

memtest.py VIREOCTL [IMAGE]"""
import os
import re
import subprocess
import sys
import time

image = sys.argv[2] if len(sys.argv) > 2 else "/boot/memtest86+x64.bin"
if not os.path.exists(image):
    print(f"skipped: no {image}")
    sys.exit(77)
p = subprocess.Popen([sys.argv[1], "run", "--accel", "soft", "--memory", "8M", "--kernel", image, "--append",
                      "console=ttyS0,115200"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
os.set_blocking(p.stdout.fileno(), False)
text, last, end = b"", None, time.monotonic() + 1100
while time.monotonic() < end and p.poll() is None:
    text += p.stdout.read() or b""
    found = re.findall(rb"Pass: +(\d+) +Errors: +(\d+)", text)
    last = found[-1] if found else last
    if last and (int(last[0]) >= 1 or int(last[1])):
        break
    time.sleep(0.5)
p.terminate()
p.wait()
print("passes and errors:", last)
sys.exit(0 if last and int(last[0]) >= 1 and not int(last[1]) else 1)
