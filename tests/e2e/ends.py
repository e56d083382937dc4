# SPDX-License-Identifier: GPL-3.0-or-later
"""How `vireoctl run` ends: every exit status, wrong input, and that nothing is left behind.

ends.py VIREOCTL"""
import ctypes
import json
import os
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time

vireoctl = sys.argv[1]
problems = []
folder = tempfile.TemporaryDirectory()
runtime = os.path.join(folder.name, "runtime")
os.mkdir(runtime, 0o700)
os.environ["XDG_RUNTIME_DIR"] = runtime

ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: the workers' processes become ours


def check(condition, text):
    if not condition:
        problems.append(text)


def path(name, data):
    p = os.path.join(folder.name, name)
    with open(p, "wb") as f:
        f.write(data)
    return p


def multiboot(code):
    """A multiboot kernel at 1 MiB whose 32-bit code begins at once."""
    flags, base = 0x10003, 0x100000
    header = struct.pack("<8I", 0x1BADB002, flags, -(0x1BADB002 + flags) & 0xFFFFFFFF, base, base, 0, 0, base + 32)
    return header + code


def run(*args, timeout=60, **kw):
    r = subprocess.run([vireoctl, "run", "--accel", "soft", *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, timeout=timeout, check=False, **kw)
    return r.returncode, r.stdout.decode(errors="replace"), r.stderr.decode(errors="replace")


def ends(name, code, want, *args, says=""):
    status, out, errors = run("--multiboot", path(name, multiboot(code)), "--memory", "8M", *args)
    check(status == want, f"{name}: exit status {status}, expected {want}: {errors}")
    check(says in errors + out, f"{name}: {says!r} is not in {errors!r}")
    return out, errors


HALT = b"\xfa\xf4\xeb\xfd"
ends("debug-exit", b"\xb8\x03\0\0\0\xe7\xf4" + HALT, 7, "--debug-exit")
ends("acpi-off", b"\x66\xba\x04\x04\x66\xb8\x00\x20\x66\xef" + HALT, 0)
ends("acpi-reset", b"\x66\xba\x33\x04\xb0\x01\xee" + HALT, 10, "--no-reboot")
ends("keyboard-reset", b"\xb0\xfe\xe6\x64" + HALT, 10, "--no-reboot")
# lidt of an empty table, then an interrupt
_, report = ends("triple-fault", b"\x6a\0\x6a\0\x0f\x01\x1c\x24\xb9\x78\x56\x34\x12\xcd\x03", 11, says="triple fault")
check("RCX 0000000012345678" in report, f"the report has no registers: {report}")
check(re.search(r"RIP 0000000000100\w{3}", report), "the report has no RIP")
check(report.count("\n") <= 24, "the report does not fit on a screen")
hello = b"".join(b"\x66\xba\xf8\x03\xb0" + bytes([c]) + b"\xee" for c in b"hello\n")
OFF = b"\x66\xba\x04\x04\x66\xb8\x00\x20\x66\xef" + HALT
out, _ = ends("serial", hello + OFF, 0)
check(out == "hello\n", f"serial output is {out!r}")
log = os.path.join(folder.name, "log")
ends("serial-file", hello + OFF, 0, "--serial", log)
check(open(log, encoding="utf-8").read() == "hello\n", "--serial FILE did not write the file")
out, _ = ends("serial-none", hello + OFF, 0, "--serial", "none")
check(out == "", "--serial none printed something")
# all of a long output arrives although the reader is slow
flood = b"\xb9\x00\x00\x01\x00\x66\xba\xfd\x03\xec\xa8\x20\x74\xfb\x66\xba\xf8\x03\xb0x\xee\xe2\xee" + OFF
p = subprocess.Popen([vireoctl, "run", "--accel", "soft", "--multiboot", path("flood", multiboot(flood))],
                     stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
time.sleep(1)
check(len(p.communicate(timeout=60)[0]) == 65536, "output was lost when nobody read it for a while")
check(p.returncode == 0, "the flood did not end by itself")

# ---- which processor, and why ----
figures = os.path.join(folder.name, "figures")
status, _, errors = run("--accel", "auto", "--multiboot", path("off", multiboot(OFF)), "--stats", figures)
with open(figures, encoding="utf-8") as f:
    backend = json.load(f)["backend"]
check(status == 0, f"--accel auto: exit status {status}: {errors}")
check(errors == "" if backend == "kvm" else re.fullmatch("vireoctl: software processor in use, because .*\n", errors),
      f"--accel auto on {backend} says {errors!r}")

# ---- wrong input: one line and status 2 ----
small = path("small", multiboot(HALT))


def wrong(what, *args, says=""):
    status, out, errors = run(*args)
    check(status == 2, f"{what}: exit status {status}, expected 2")
    lines = [line for line in errors.splitlines() if line]
    check(len(lines) == 1 and lines[0].startswith("vireoctl: "), f"{what}: not one clear line: {errors!r}")
    check(says in errors, f"{what}: {says!r} is not in {errors!r}")
    check(out == "", f"{what}: printed {out!r}")


wrong("nothing to run")
wrong("both kinds", "--kernel", small, "--multiboot", small)
wrong("a missing kernel", "--kernel", "/nonexistent/vmlinuz", says="/nonexistent/vmlinuz")
wrong("a folder", "--kernel", folder.name, says="is not a file")
wrong("an empty file", "--kernel", path("empty", b""), says="is empty")
wrong("no kernel at all", "--kernel", path("text", b"hello" * 1000), says="not a Linux kernel")
wrong("not multiboot", "--multiboot", path("text2", b"hello" * 1000), says="not a multiboot kernel")
wrong("a missing initrd", "--multiboot", small, "--initrd", "/nonexistent/initrd")
wrong("an initrd larger than memory", "--multiboot", small, "--memory", "8M", "--initrd",
      path("large", b"\0" * (20 << 20)), says="does not fit")
for n in ("0", "1000", "-1", "two", ""):
    wrong(f"{n} processors", "--multiboot", small, "--cpus", n, says="--cpus")
wrong("too much memory", "--multiboot", small, "--memory", "100T", says="GiB")
wrong("too little memory", "--multiboot", small, "--memory", "1M")
wrong("memory that is no size", "--multiboot", small, "--memory", "lots", says="not a size")
wrong("an unknown accelerator", "--multiboot", small, "--accel", "magic")
wrong("an unknown processor", "--multiboot", small, "--cpu", "486")
wrong("an unknown option", "--multiboot", small, "--frobnicate")
wrong("an unknown place for serial output", "--multiboot", small, "--serial", "/nonexistent/file")
wrong("an impossible place for the figures", "--multiboot", small, "--stats", "/nonexistent/file")
header = bytearray(0x300)
header[0x1F1] = 4
header[0x1F4:0x1F8] = struct.pack("<I", 1000)
header[0x1FE:0x200] = b"\x55\xaa"
header[0x202:0x208] = b"HdrS\x0f\x02"
header[0x211] = 1
wrong("memory that the kernel does not fit into", "--memory", "16M", "--kernel", path("whole", bytes(
    header[:0x1F4]) + struct.pack("<I", 1) + bytes(header[0x1F8:0x258]) + struct.pack("<QI", 16 << 20, 1 << 20) +
    bytes(8192)), says="more memory than the machine has")
wrong("a truncated kernel", "--kernel", path("cut", bytes(header)), says="cut short")

wrong("memory that the host lacks", "--multiboot", small, "--memory",
      f"{min(256, os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') // (1 << 30) + 8)}G", says="the host has")
wrong("a disk that is not there", "--multiboot", small, "--disk", "/nonexistent/disk", says="/nonexistent/disk")


def workers_left():
    """Whether some have not ended a while after their callers; less than they stay when nobody calls."""
    end = time.monotonic() + 12
    while time.monotonic() < end:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(0.05)
        except ChildProcessError:
            return False
    return True


check(not workers_left(), "after wrong input a worker is left")

# ---- signals and what is left behind ----
talks = path("talks", multiboot(b"\x66\xba\xf8\x03\xb0R\xee" + HALT))
for sig in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    p = subprocess.Popen([vireoctl, "run", "--accel", "soft", "--multiboot", talks], stdin=subprocess.DEVNULL,
                         stdout=subprocess.PIPE)
    check(p.stdout.read(1) == b"R", "the guest says nothing")
    p.send_signal(sig)
    check(p.wait(timeout=30) == 128 + sig, f"{sig.name}: exit status {p.returncode}")

left = set(os.listdir(os.path.join(runtime, "vireo")))
check(left <= {"switch"}, f"left in the runtime folder: {left}")

for problem in problems:
    print("FAILED:", problem)
sys.exit(1 if problems else 0)
