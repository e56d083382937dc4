# SPDX-License-Identifier: GPL-3.0-or-later
"""`vireoctl run` on a terminal: raw while it runs, as before whatever happens; its keys.

terminal.py VIREOCTL"""
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

vireoctl = sys.argv[1]
problems = []
folder = tempfile.TemporaryDirectory()
# Echoes what the serial port receives, forever.
ECHO = b"\x66\xba\xfd\x03\xec\xa8\x01\x74\xf7\x66\xba\xf8\x03\xec\xee\xeb\xef"
flags, base = 0x10003, 0x100000
image = struct.pack("<8I", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF, base, base, 0, 0, base + 32) + ECHO
kernel = os.path.join(folder.name, "echo")
with open(kernel, "wb") as f:
    f.write(image)


def check(condition, text):
    if not condition:
        problems.append(text)


def read(fd, want, seconds=30):
    got, end = b"", time.monotonic() + seconds
    while want not in got and time.monotonic() < end:
        if select.select([fd], [], [], 0.2)[0]:
            got += os.read(fd, 4096)
    return got


def own_terminal():
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def start():
    master, slave = pty.openpty()
    before = termios.tcgetattr(slave)
    p = subprocess.Popen([vireoctl, "run", "--accel", "soft", "--multiboot", kernel], stdin=slave, stdout=slave,
                         stderr=slave, preexec_fn=own_terminal)
    end = time.monotonic() + 30
    while termios.tcgetattr(slave) == before and time.monotonic() < end:
        time.sleep(0.02)
    check(not termios.tcgetattr(slave)[3] & termios.ECHO, "the terminal is not raw while it runs")
    return p, master, slave, before


def restored(slave, before):
    end = time.monotonic() + 5
    while termios.tcgetattr(slave) != before and time.monotonic() < end:
        time.sleep(0.02)
    return termios.tcgetattr(slave) == before


p, master, slave, before = start()
os.write(master, b"marco")
check(b"marco" in read(master, b"marco"), "what is typed does not reach the guest and come back")
os.write(master, b"\x03")
check(b"\x03" in read(master, b"\x03"), "Ctrl-C does not reach the guest")
os.write(master, b"\x01a")
check(b"\x01" in read(master, b"\x01"), "Ctrl-A A does not send Ctrl-A")
os.write(master, b"x" * 3000)
check(len(read(master, b"x" * 3000)) == 3000, "a long paste loses something")
os.write(master, b"\x01x")
check(p.wait(timeout=30) == 0, f"Ctrl-A X: exit status {p.returncode}")
check(restored(slave, before), "Ctrl-A X does not restore the terminal")

for sig in (signal.SIGTERM, signal.SIGHUP, signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL):
    p, master, slave, before = start()
    p.send_signal(sig)
    p.wait(timeout=30)
    check(restored(slave, before), f"{sig.name} does not restore the terminal")

for problem in problems:
    print("FAILED:", problem)
sys.exit(1 if problems else 0)
