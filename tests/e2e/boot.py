# SPDX-License-Identifier: GPL-3.0-or-later
"""Boots Debian's kernels to the tests' init and checks what they say (exit 77: no guests here).

boot.py --vireoctl FILE [--worker FILE] --guests DIR [--accel soft|kvm] [--nested tests/nested/run] [--timeout S]
        [--self-restore S] [--restored] KERNEL:CPUS[:power-off|reboot|again]...

KERNEL   cloud, full or i386. The guest then powers off, or resets (the run ends with status 10), or reboots until it
         has reached its init a second time.
--nested run it on KVM in a Debian under QEMU's TCG, all boots in one; then the console is quiet, as exits are dear there
--restored  in the midst of its boot, each machine is saved and goes on in another process
--timeout of one boot
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
    r"VIREO-FAILED|timed out|APIC error|firmware bug|inconsistent", re.I)
# Clocks are measured against each other once: on a busy host time passes between the looks at the two.
FINE = re.compile(r"This is not a bug|report a bug|Spectre|MDS|bugs\.c|PM-Timer running at invalid rate: [1-9][0-9]{2}%|"
                  r"calibrate_delay_direct", re.I)

p = argparse.ArgumentParser()
p.add_argument("--vireoctl", required=True)
p.add_argument("--worker", help="vireo-vm, for --nested")
p.add_argument("--guests", required=True)
p.add_argument("--accel", default="soft")
p.add_argument("--self-restore", type=int, default=0)
p.add_argument("--restored", action="store_true")
p.add_argument("--nested")
p.add_argument("--timeout", type=int, default=580)
p.add_argument("--memory", default="512M")
p.add_argument("boots", nargs="+")
a = p.parse_args()

# What a kernel says, once, half way to its init, and with "quiet", and what vireoctl says once the machine is elsewhere.
MIDDLE = "PCI: Fatal: No config space" if a.nested else "Switched to clocksource"
ELSEWHERE = "the machine goes on in another process"

# One boot: what init does, how often it is reached, and the run's exit status (None: ended by SIGTERM after the last).
WAYS = {"power-off": ("facts,poweroff", 1, 0), "reboot": ("facts,reboot", 1, 10), "again": ("facts,reboot", 2, None)}


class Boot:
    def __init__(self, text):
        kernel, cpus, way = (text.split(":") + ["power-off"])[:3]
        self.name, self.cpus = text, int(cpus)
        self.do, self.inits, self.status = WAYS[way]
        self.kernel = f"{a.guests}/kernels/{kernel}/vmlinuz"
        self.initrd = f"{a.guests}/initrd-{'i386' if kernel == 'i386' else 'amd64'}.cpio.gz"
        self.problems = []

    def command(self, vireoctl, kernel, initrd, stats):
        quiet = " quiet" if a.nested else ""
        args = [vireoctl, "run", "--kernel", kernel, "--initrd", initrd, "--accel", a.accel, "--cpus", str(self.cpus),
                "--memory", a.memory, "--append", f"console=ttyS0{quiet} do={self.do}", "--stats", stats]
        if self.inits == 1:
            args.append("--no-reboot")
        if a.self_restore:
            args += ["--self-restore", str(a.self_restore)]
        if a.restored:
            args += ["--restore-when", MIDDLE]
        return args

    def judge(self, text, status, stats):
        found = self.problems
        print(f"--- {self.name}\n{text}\nstats: {stats}")
        if self.status is None and status not in (-signal.SIGTERM, 128 + signal.SIGTERM):
            found.append(f"exit status {status}, expected the end by SIGTERM")
        if self.status is not None and status != self.status:
            found.append(f"exit status {status}, expected {self.status}")
        if text.count("VIREO-INIT") < self.inits:
            found.append(f"reached init {text.count('VIREO-INIT')} times, expected {self.inits}")
        if a.restored and ELSEWHERE not in text:
            found.append("it was not saved and restored on its way")
        if f"cpus={self.cpus}" not in text:
            found.append(f"the guest does not see {self.cpus} processors")
        if "clocksource: hyperv_clocksource_tsc_page" not in text:
            found.append("the clock source is not hyperv_clocksource_tsc_page")
        if "Hypervisor detected: Microsoft Hyper-V" not in text:
            found.append("the guest did not detect Hyper-V")
        if not re.search(r"Hyper-V: privilege flags low 0x\w+, high 0x\w+, hints 0x\w+, misc 0x\w+", text):
            found.append("no privilege flags")
        if stats.get("backend") != a.accel:
            found.append(f"the backend was {stats.get('backend')}")
        for line in text.splitlines():
            if BAD.search(line) and not FINE.search(line):
                found.append("the guest said: " + line.strip())
        for problem in found:
            print(f"FAILED: {self.name}: {problem}")
        print(flush=True)
        return not found


def read_until_end(boot, process):
    """All output; ends the run when it has booted often enough, or took too long."""
    deadline = time.monotonic() + a.timeout
    text = b""
    os.set_blocking(process.stdout.fileno(), False)
    while True:
        chunk = process.stdout.read()
        if chunk == b"":
            return text, process.wait()
        text += chunk or b""
        if boot.inits > 1 and text.count(b"VIREO-INIT") >= boot.inits and process.poll() is None:
            process.send_signal(signal.SIGTERM)
        if time.monotonic() > deadline:
            boot.problems.append(f"took longer than {a.timeout} s")
            process.terminate()
            return text, process.wait()
        if not chunk:
            time.sleep(0.05)


def run_here(boot):
    with tempfile.TemporaryDirectory() as d:
        stats = os.path.join(d, "stats")
        process = subprocess.Popen(boot.command(a.vireoctl, boot.kernel, boot.initrd, stats), stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        text, status = read_until_end(boot, process)
        with open(stats, encoding="utf-8") as f:
            return text.decode(errors="replace"), status, json.load(f)


# In L1: one boot, its output in a file, ended when it has reached init often enough.
IN_L1 = """export VIREO_WORKER=/bin/vireo-vm
boot() { # boot NAME INITS COMMAND...
    name=$1 inits=$2
    shift 2
    rm -f /tmp/stats
    "$@" >/tmp/out 2>&1 &
    pid=$! n=0
    while kill -0 $pid 2>/dev/null; do
        n=$((n + 1))
        if [ $n -gt %d ]; then echo "VIREO-FAILED took too long" >>/tmp/out; kill $pid; fi
        [ $inits = 1 ] || [ "$(grep -c VIREO-INIT /tmp/out)" -lt $inits ] || kill $pid
        sleep 1
    done
    wait $pid
    status=$?
    echo "=== BOOT $name"; cat /tmp/out; echo; echo "=== STATUS $status $(cat /tmp/stats)"
}
"""


def run_nested(boots):
    """(boot, text, status, stats) of each"""
    script = IN_L1 % a.timeout
    files = dict()
    for b in boots:
        inside = [f"/k/{p[len(a.guests):].strip('/').replace('/', '-')}" for p in (b.kernel, b.initrd)]
        files.update({inside[0]: b.kernel, inside[1]: b.initrd})
        words = b.command("vireoctl", *inside, "/tmp/stats")
        script += f"boot {b.name} {b.inits} " + " ".join(f"'{w}'" for w in words) + "\n"
    command = [a.nested, "--guests", a.guests, "--smp", "2", "--timeout", str(a.timeout * len(boots)), "--binary",
               a.vireoctl, "--binary", a.worker]
    for inside, file in files.items():
        command += ["--file", f"{file}={inside}"]
    done = subprocess.run(command + [script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          check=False)
    text = done.stdout.decode(errors="replace").replace("\r", "")
    for b in boots:
        m = re.search(rf"^=== BOOT {re.escape(b.name)}\n(.*?)^=== STATUS (\d+) (.*?)$", text, re.M | re.S)
        if m:
            yield b, m.group(1), int(m.group(2)), json.loads(m.group(3) or "{}")
        else:
            b.problems.append(f"nothing heard of it (status {done.returncode})")
            yield b, text[-3000:], 125, {}


wanted = [Boot(b) for b in a.boots]
if not all(os.path.exists(b.kernel) and os.path.exists(b.initrd) for b in wanted):
    print(f"skipped: no guests in {a.guests}")
    sys.exit(77)
results = run_nested(wanted) if a.nested else ((b, *run_here(b)) for b in wanted)
sys.exit(0 if all([b.judge(*r) for b, *r in results]) else 1)
