#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU seconds that the cloud kernel takes to its init on the software processor, and on QEMU's TCG, in turns.

    tests/bench/boot/run.py --vireoctl build/app/cli/vireoctl --guests build/guests [--runs 3] [--cpus 1]

Both boot the same kernel and initrd, whose init powers off at once; the CPU time is the whole machine's, the
worker's process included. Also: memory beside guest RAM, and of it what code and its tables take. Medians.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile


def run(command):
    """(CPU seconds of the process and those it waited for, output)"""
    with tempfile.TemporaryFile() as out:
        p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT)
        _, _, usage = os.wait4(p.pid, 0)
        out.seek(0)
        text = out.read().decode(errors="replace")
    if "VIREO-INIT" not in text:
        sys.exit(f"no init:\n{text[-2000:]}")
    return usage.ru_utime + usage.ru_stime, text


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--vireoctl", required=True)
    p.add_argument("--guests", required=True)
    p.add_argument("--kernel", default="cloud")
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--cpus", type=int, default=1)
    a = p.parse_args()
    arch = "i386" if a.kernel == "i386" else "amd64"
    kernel, initrd = f"{a.guests}/kernels/{a.kernel}/vmlinuz", f"{a.guests}/initrd-{arch}.cpio.gz"
    append = "console=ttyS0 do=poweroff"
    ours, theirs, memory, code = [], [], [], []
    with tempfile.TemporaryDirectory() as d:
        stats = os.path.join(d, "stats")
        for _ in range(a.runs):
            run([a.vireoctl, "run", "--accel", "soft", "--cpus", str(a.cpus), "--memory", "512M", "--kernel", kernel,
                 "--initrd", initrd, "--append", append, "--stats", stats, "--no-reboot"])
            with open(stats, encoding="utf-8") as f:
                s = json.load(f)
            ours.append(s["cpu_seconds"])
            memory.append(s["private_other_memory"] / 2**20)
            code.append(s["code_memory"] / 2**20)
            seconds, _ = run(["qemu-system-x86_64", "-accel", "tcg", "-cpu", "Nehalem", "-smp", str(a.cpus), "-m", "512",
                              "-display", "none", "-vga", "none", "-nic", "none", "-no-reboot", "-serial", "stdio",
                              "-kernel", kernel, "-initrd", initrd, "-append", append])
            theirs.append(seconds)
            print(f"vireo {ours[-1]:.1f} s  qemu {theirs[-1]:.1f} s", flush=True)
    us, them = statistics.median(ours), statistics.median(theirs)
    print(f"{a.kernel}, {a.cpus} processors, median of {a.runs}: vireo {us:.1f} CPU seconds, QEMU's TCG {them:.1f}: "
          f"{us / them:.2f} times; {statistics.median(memory):.1f} MiB private beside guest RAM; "
          f"{statistics.median(code):.1f} MiB of code and tables")


main()
