# SPDX-License-Identifier: GPL-3.0-or-later
"""Debian's memtest86+ runs a whole pass without an error: as a kernel, or with --iso by SeaBIOS and GRUB from an ISO
image in a machine of generation 1.
On the way the machine is saved and goes on in another process.

memtest.py VIREOCTL [--iso]"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time

MIDDLE = "Bit fade test"
image, iso = "/boot/memtest86+x64.bin", "--iso" in sys.argv
for need in [image] + ["/usr/bin/grub-mkrescue", "/usr/bin/mformat", "/usr/lib/grub/i386-pc/boot.img"] * iso:
    if not os.path.exists(need):
        print(f"skipped: no {need}")
        sys.exit(77)
top = tempfile.TemporaryDirectory(dir="/var/tmp")
what = ["--memory", "8M", "--kernel", image, "--append", "console=ttyS0,115200"]
if iso:
    os.makedirs(f"{top.name}/iso/boot/grub")
    shutil.copy(image, f"{top.name}/iso/memtest")
    with open(f"{top.name}/iso/boot/grub/grub.cfg", "w") as f:
        f.write("set timeout=0\nmenuentry x {\n linux /memtest console=ttyS0,115200\n}\n")
    subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o", f"{top.name}/m.iso", f"{top.name}/iso"], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    what = ["--machine", "bios", "--memory", "24M", "--net", "none", "--iso", f"{top.name}/m.iso"]
p = subprocess.Popen([sys.argv[1], "run", "--accel", "soft", "--restore-when", MIDDLE, *what],
                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
os.set_blocking(p.stdout.fileno(), False)
text, last, end = b"", None, time.monotonic() + (4000 if iso else 1100)
while time.monotonic() < end and p.poll() is None:
    text += p.stdout.read() or b""
    found = re.findall(rb"Pass: +(\d+) +Errors: +(\d+)", text)
    last = found[-1] if found else last
    if last and (int(last[0]) >= 1 or int(last[1])):
        break
    time.sleep(0.5)
p.terminate()
p.wait()
moved = b"the machine goes on in another process" in text
print("passes and errors:", last, "in two processes" if moved else "in one process")
sys.exit(0 if moved and last and int(last[0]) >= 1 and not int(last[1]) else 1)
