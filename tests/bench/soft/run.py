#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU seconds of the software processor beside QEMU's TCG, program by program, in one run.

Each machine boots the same kernel with guest.c as its init; when a program's BEGIN and END lines come
out of the serial port the machine's own CPU time is read from /proc. Medians over --runs, ratios
machine to machine. Natively the same binary runs as a process.

    tests/bench/soft/run.py --vireoctl build/app/cli/vireoctl --kernel VMLINUZ [--runs 3] [--only sort]
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
HZ = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        own = (int(fields[11]) + int(fields[12])) / HZ
        children = 0.0  # a worker of its own process
        for tid in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{tid}/children") as f:
                children += sum(cpu_seconds(int(c)) for c in f.read().split())
    except (FileNotFoundError, ProcessLookupError):  # has just ended
        return 0.0
    return own + children


def measure(command, native):
    """Returns {program: (cpu seconds, checksum)} and the seconds up to the first READY."""
    out, begun = {}, {}
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL,
                         stderr=subprocess.DEVNULL, text=True, errors="replace")
    for line in p.stdout:
        words = line.split()
        if not words or words[0] not in ("READY", "BEGIN", "END"):
            continue
        now = cpu_seconds(p.pid) if p.poll() is None else 0
        if words[0] == "READY":
            out["boot"] = (now, "")
        elif words[0] == "BEGIN":
            begun[words[1]] = now
        elif len(words) > 2 and words[1] in begun:
            out[words[1]] = (now - begun[words[1]], words[2])
    p.wait()
    if native:
        out.pop("boot", None)
    return out


def build(tmp):
    init = os.path.join(tmp, "init")
    subprocess.run(["cc", "-O2", "-msse2", "-static", os.path.join(HERE, "guest.c"), "-o", init],
                   check=True)
    os.makedirs(os.path.join(tmp, "root/proc"))
    os.makedirs(os.path.join(tmp, "root/dev"))
    subprocess.run(["cp", init, os.path.join(tmp, "root/init")], check=True)
    initrd = os.path.join(tmp, "initrd")
    subprocess.run("find . | cpio -o -H newc --quiet | gzip > " + initrd, shell=True, check=True,
                   cwd=os.path.join(tmp, "root"))
    return init, initrd


def main():
    a = argparse.ArgumentParser()
    a.add_argument("--vireoctl", required=True)
    a.add_argument("--kernel", required=True)
    a.add_argument("--runs", type=int, default=3)
    a.add_argument("--only", default="")
    a.add_argument("--machines", default="vireo,tcg,tcg-base,native")
    a.add_argument("--json")
    o = a.parse_args()
    with tempfile.TemporaryDirectory() as tmp:
        init, initrd = build(tmp)
        append = "console=ttyS0 quiet" + (f" -- {o.only}" if o.only else "")
        qemu = ["qemu-system-x86_64", "-accel", "tcg", "-m", "512", "-kernel", o.kernel,
                "-initrd", initrd, "-append", append, "-display", "none", "-serial", "stdio",
                "-vga", "none", "-nic", "none", "-no-reboot"]
        machines = {
            "vireo": [o.vireoctl, "run", "--accel", "soft", "--memory", "512M", "--kernel",
                      o.kernel, "--initrd", initrd, "--append", append, "--no-reboot"],
            "tcg": qemu + ["-cpu", "max"],
            "tcg-base": qemu + ["-cpu", "Nehalem"],
            "native": [init] + ([o.only] if o.only else []),
        }
        machines = {m: machines[m] for m in o.machines.split(",")}
        results = {m: {} for m in machines}
        for _ in range(o.runs):
            for m, command in machines.items():
                for name, (seconds, check) in measure(command, m == "native").items():
                    results[m].setdefault(name, []).append((seconds, check))
    names = list(next(iter(results.values())))
    print(f"{'program':10} {'native':>8} {'vireo':>8} {'tcg':>8} {'tcg-base':>8} "
          f"{'tcg/vireo':>9} {'vireo/native':>12}")
    table = {}
    for n in names:
        med = {m: statistics.median(s for s, _ in r[n]) for m, r in results.items() if n in r}
        checks = {c for r in results.values() for _, c in r.get(n, [])}
        if len(checks) > 1:
            print(f"{n}: results differ: {checks}", file=sys.stderr)
        table[n] = med
        v = max(med.get("vireo", 0), 1 / HZ)
        row = [f"{med.get(m, float('nan')):8.2f}" for m in ("native", "vireo", "tcg", "tcg-base")]
        nat = f"{v / med['native']:12.1f}" if med.get("native") else f"{'-':>12}"
        print(f"{n:10} {' '.join(row)} {med.get('tcg', float('nan')) / v:9.2f} {nat}")
    if o.json:
        with open(o.json, "w") as f:
            json.dump(table, f, indent=1)


if __name__ == "__main__":
    main()
