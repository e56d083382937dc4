#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the software processor's memory does while a guest compiles on and on.

    tests/bench/soft/compile.py --vireoctl build/app/cli/vireoctl --guests build/guests [--minutes 60] [--cpus 1]

The guest runs this host's GNU C compiler and assembler on the processor's own source files (preprocessed here), optimised
and not, each time with a new process. Told at each of twenty times: what was compiled, memory for code and tables of all
processors, how often the code was thrown away, the worker's own memory beside the guest's, and whether every object file
was the same as the first time. Asserts nothing but that.
"""
import argparse
import atexit
import glob
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.join(HERE, "..", "..", "..")
SCRIPT = """
mkdir -p /tmp/o /tmp/sums; mount -t tmpfs -o size=400m none /tmp/o
one() { # LEVEL FILE
    cc1 -quiet -O$1 -fpreprocessed /src/$2 -o /tmp/o/$2.s && as /tmp/o/$2.s -o /tmp/o/$2.o || { echo "COMPILE-FAILED $2"; exit 1; }
    sum=$(sha256sum </tmp/o/$2.o); rm /tmp/o/$2.s /tmp/o/$2.o
    [ -e /tmp/sums/$2.$1 ] || echo "$sum" >/tmp/sums/$2.$1
    [ "$sum" = "$(cat /tmp/sums/$2.$1)" ] || echo "COMPILE-DIFFERS $2"
    echo "COMPILED $2"
}
work() { while :; do for f in $(ls /src); do one 0 $f; one 2 $f; done; done; }
for i in $(seq CPUS); do work & done
wait
"""


def sources(to):
    os.makedirs(to)
    names = sorted(glob.glob(os.path.join(TOP, "core/hv/soft/*.c")))
    for name in names:
        r = subprocess.run(["gcc", "-E", "-P", "-std=gnu17", "-D_GNU_SOURCE", "-I", TOP, name, "-o",
                            os.path.join(to, os.path.basename(name)[:-2] + ".i")], stderr=subprocess.DEVNULL)
        if r.returncode:
            sys.exit(f"{name} is not preprocessed")
    return sorted(os.listdir(to))


def initrd(o, top):
    files = sources(f"{top}/src")
    with open(f"{top}/script", "w", encoding="utf-8") as f:
        f.write(SCRIPT.replace("CPUS", str(o.cpus)))
    cc1 = subprocess.run(["gcc", "-print-prog-name=cc1"], check=True, capture_output=True, text=True).stdout.strip()
    command = [os.path.join(TOP, "tests/guests/mkinitrd"), "--guests", o.guests, "--out", f"{top}/initrd", "--kernel", "cloud",
               "--script", f"{top}/script", "--binary", f"{cc1}=bin/cc1", "--binary", "/usr/bin/as"]
    for name in files:
        command += ["--file", f"{top}/src/{name}=src/{name}"]
    subprocess.run(command, check=True)
    return len(files)


def info(o, name, topic):
    r = subprocess.run([o.vireoctl, "info", name, topic, "--json"], capture_output=True, text=True)
    return json.loads(r.stdout) if r.returncode == 0 else None


def own_memory(pid):
    """Private memory beside the largest mapping, which is the guest's, in MiB."""
    sizes = {}
    try:
        with open(f"/proc/{pid}/smaps") as f:
            for line in f:
                if re.match(r"[0-9a-f]+-", line):
                    at = line.split()[0]
                elif line.startswith(("Private_Clean:", "Private_Dirty:")):
                    sizes[at] = sizes.get(at, 0) + int(line.split()[1])
    except PermissionError:
        return float("nan")
    return (sum(sizes.values()) - max(sizes.values())) / 1024


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--vireoctl", required=True)
    p.add_argument("--guests", required=True)
    p.add_argument("--minutes", type=float, default=60)
    p.add_argument("--cpus", type=int, default=1)
    o = p.parse_args()
    name = f"compile-{os.getpid()}"
    os.environ.setdefault("XDG_RUNTIME_DIR", os.path.join(tempfile.gettempdir(), f"runtime-{os.getuid()}"))
    os.makedirs(os.environ["XDG_RUNTIME_DIR"], mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory() as top:
        count = initrd(o, top)
        log = open(f"{top}/log", "wb")
        m = subprocess.Popen([o.vireoctl, "run", "--accel", "soft", "--memory", "1G", "--cpus", str(o.cpus), "--kernel",
                              f"{o.guests}/kernels/cloud/vmlinuz", "--initrd", f"{top}/initrd", "--append",
                              "console=ttyS0 quiet panic=-1 do=script", "--no-reboot", "--name", name],
                             stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        atexit.register(m.terminate)
        print(f"{count} files; 2 levels each")
        print(f"{'minute':>7} {'compiled':>9} {'code and tables, MiB':>21} {'thrown away':>12} {'worker, MiB':>12}")
        begun = time.monotonic()
        for n in range(1, 21):
            time.sleep(max(0, begun + n * o.minutes * 3 - time.monotonic()))
            rows, worker = info(o, name, "processors"), info(o, name, "worker")
            text = open(f"{top}/log", errors="replace").read()
            if rows is None or m.poll() is not None:
                sys.exit(f"the machine has ended:\n{text[-2000:]}")
            code = sum(r["code-memory"] for r in rows) / 2**20
            flushes = sum(r["code-flushes"] for r in rows)
            print(f"{(time.monotonic() - begun) / 60:7.1f} {text.count('COMPILED'):9} {code:21.1f} {flushes:12} "
                  f"{own_memory(worker[0]['pid']):12.1f}", flush=True)
        m.terminate()
        m.wait()
        bad = re.findall(r"COMPILE-(?:FAILED|DIFFERS) \S+", text)
        print("all object files alike" if not bad else f"{len(bad)} are wrong: {bad[:5]}")
        return bool(bad)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    sys.exit(main())
