# SPDX-License-Identifier: GPL-3.0-or-later
"""Boots one of Debian's kernels to the tests' init and checks what it says (exit 77: no guests here).

boot.py --vireoctl FILE [--worker FILE] --guests DIR --kernel cloud|full|i386 [--cpus N] [--accel soft|kvm] [--do WORDS]
        [--status N] [--self-restore S] [--inits N] [--nested tests/nested/run] [--timeout S]

--inits N   how often the guest must reach its init; after the last it is ended by SIGTERM (for reboots)
--nested    run it on KVM in a Debian under QEMU's TCG; then the console is quiet, as exits are dear there
"""
import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

# What no kernel may say, and what looks like it and may be said.
BAD = re.compile(
    r"unchecked MSR|WARNING:|\bBUG\b|Call Trace|Oops|segfault|general protection|invalid rate|unstable because|"
    r"clocksource: Long readout|soft lockup|rcu_sched|Unable to handle|ACPI Error|ACPI BIOS|nobody cared|"
    r"VIREO-FAILED|timed out|APIC error|firmware bug", re.I)
# Clocks are measured against each other once: on a busy host time passes between the looks at the two.
FINE = re.compile(r"This is not a bug|report a bug|Spectre|MDS|bugs\.c|PM-Timer running at invalid rate: [1-9][0-9]{2}%|"
                  r"calibrate_delay_direct", re.I)

p = argparse.ArgumentParser()
p.add_argument("--vireoctl", required=True)
p.add_argument("--worker", help="vireo-vm, for --nested")
p.add_argument("--guests", required=True)
p.add_argument("--kernel", required=True)
p.add_argument("--cpus", type=int, default=1)
p.add_argument("--accel", default="soft")
p.add_argument("--do", default="facts,poweroff")
p.add_argument("--status", type=int, default=0)
p.add_argument("--self-restore", type=int, default=0)
p.add_argument("--inits", type=int, default=1)
p.add_argument("--nested")
p.add_argument("--timeout", type=int, default=580)
p.add_argument("--memory", default="512M")
a = p.parse_args()

arch = "i386" if a.kernel == "i386" else "amd64"
kernel = f"{a.guests}/kernels/{a.kernel}/vmlinuz"
initrd = f"{a.guests}/initrd-{arch}.cpio.gz"
if not (os.path.exists(kernel) and os.path.exists(initrd)):
    print(f"skipped: no guests in {a.guests}")
    sys.exit(77)
problems = []


def command(vireoctl, kernel_path, initrd_path, stats):
    quiet = " quiet" if a.nested else ""
    args = [vireoctl, "run", "--kernel", kernel_path, "--initrd", initrd_path, "--accel", a.accel, "--cpus",
            str(a.cpus), "--memory", a.memory, "--append", f"console=ttyS0{quiet} do={a.do}", "--stats", stats]
    if a.inits == 1:
        args.append("--no-reboot")
    if a.self_restore:
        args += ["--self-restore", str(a.self_restore)]
    return args


def read_until_end(process):
    """All output; ends the run when it has booted often enough, or took too long."""
    deadline = time.monotonic() + a.timeout
    text = b""
    os.set_blocking(process.stdout.fileno(), False)
    while True:
        chunk = process.stdout.read()
        if chunk == b"":
            return text, process.wait()
        text += chunk or b""
        if a.inits > 1 and text.count(b"VIREO-INIT") >= a.inits and process.poll() is None:
            process.send_signal(signal.SIGTERM)
        if time.monotonic() > deadline:
            problems.append(f"took longer than {a.timeout} s")
            process.terminate()
            return text, process.wait()
        if not chunk:
            time.sleep(0.05)


def run_here():
    with tempfile.TemporaryDirectory() as d:
        stats = os.path.join(d, "stats")
        process = subprocess.Popen(command(a.vireoctl, kernel, initrd, stats), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        text, status = read_until_end(process)
        with open(stats, encoding="utf-8") as f:
            return text.decode(errors="replace"), status, json.load(f)


def run_nested():
    inner = " ".join(f"'{w}'" for w in command("vireoctl", "/k/vmlinuz", "/k/initrd", "/tmp/stats"))
    line = f"export VIREO_WORKER=/bin/vireo-vm; {inner}; s=$?; echo; echo STATS $(cat /tmp/stats); exit $s"
    done = subprocess.run([a.nested, "--guests", a.guests, "--smp", "2", "--timeout", str(a.timeout), "--binary",
                           a.vireoctl, "--binary", a.worker, "--file", f"{kernel}=/k/vmlinuz", "--file", f"{initrd}=/k/initrd", line],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    text = done.stdout.decode(errors="replace")
    stats = re.search(r"^STATS (\{.*\})", text, re.M)
    return text, done.returncode, json.loads(stats.group(1)) if stats else {}


text, status, stats = run_nested() if a.nested else run_here()
print(text)
print("stats:", stats)
expected = a.status if a.inits == 1 else -signal.SIGTERM
if status not in (expected, 128 - expected):
    problems.append(f"exit status {status}, expected {expected}")
if text.count("VIREO-INIT") < a.inits:
    problems.append(f"reached init {text.count('VIREO-INIT')} times, expected {a.inits}")
if a.inits == 1 and f"cpus={a.cpus}" not in text:
    problems.append(f"the guest does not see {a.cpus} processors")
if "facts" in a.do and "clocksource: hyperv_clocksource_tsc_page" not in text:
    problems.append("the clock source is not hyperv_clocksource_tsc_page")
if "Hypervisor detected: Microsoft Hyper-V" not in text:
    problems.append("the guest did not detect Hyper-V")
if not a.nested and not re.search(r"Hyper-V: privilege flags low 0x\w+, high 0x\w+, hints 0x\w+, misc 0x\w+", text):
    problems.append("no privilege flags")
if stats.get("backend") != a.accel:
    problems.append(f"the backend was {stats.get('backend')}")
for line in text.splitlines():
    if BAD.search(line) and not FINE.search(line):
        problems.append("the guest said: " + line.strip())
for problem in problems:
    print("FAILED:", problem)
sys.exit(1 if problems else 0)
