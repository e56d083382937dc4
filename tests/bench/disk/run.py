#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk speed, medians of N: run.py BENCH VIREOCTL FOLDER [N [SECONDS]].

raw and VHDX through Vireo's engine, in turns within one process, and QEMU's VHDX and raw drivers
(qemu-img bench, 32 in flight, io_uring) on files in the same folder; allocating writes; conversion;
opening 64 TiB. It prints a table and asserts nothing."""
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

BENCH, VIREOCTL, FOLDER = sys.argv[1:4]
N = int(sys.argv[4]) if len(sys.argv) > 4 else 5
SECONDS = sys.argv[5] if len(sys.argv) > 5 else "2"
SIZE = 512 << 20


def out(*args):
    return subprocess.run(args, check=True, capture_output=True, text=True).stdout


def drop(path):
    """What is in the host's cache of it: how it got there would tell in the figures."""
    with open(path, "r+b") as f:
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def pair(mode, *paths):
    for path in paths:
        drop(path)
    return bench(mode, *paths)


def bench(mode, *paths):
    numbers = [float(n) for n in out(BENCH, mode, SECONDS, *paths).split()]
    return numbers if len(numbers) > 1 else numbers[0]


def qemu_bench(fmt, path, size, write, step, count):
    args = ["qemu-img", "bench", "-f", fmt, "-c", str(count), "-d", "32", "-s", str(size), "-S", str(step),
            "-i", "io_uring", "-t", "writeback"]
    if write:
        args += ["-w"]
    text = out(*args, path)
    return float(text.split("completed in ")[1].split(" ")[0])


def timed(*args):
    start = time.monotonic()
    out(*args)
    return time.monotonic() - start


def median(f):
    return statistics.median(f() for _ in range(N))


def fill(path):
    with open(path, "r+b") as f:
        block = os.urandom(1 << 20)
        for _ in range(SIZE >> 20):
            f.write(block)


def main():
    scratch = tempfile.mkdtemp(prefix="bench-", dir=FOLDER)
    p = lambda name: os.path.join(scratch, name)
    try:
        out(VIREOCTL, "disk", "create", p("a.raw"), "--size", str(SIZE))
        fill(p("a.raw"))
        out(VIREOCTL, "disk", "convert", p("a.raw"), p("a.vhdx"))
        # Both files written by the same engine in the same way: else their pages in the cache differ.
        out(VIREOCTL, "disk", "convert", "--force", p("a.vhdx"), p("a.raw"))
        out("qemu-img", "convert", "-O", "vhdx", p("a.raw"), p("q.vhdx"))
        print(f"{'':28}{'raw':>12}{'VHDX':>12}{'of raw':>8}{'by CPU':>8}{'QEMU raw':>12}{'QEMU VHDX':>12}")
        for mode, unit in (("seqread", "MiB/s"), ("seqwrite", "MiB/s"), ("randread", "op/s"), ("randwrite", "op/s")):
            runs = [pair(mode, p("a.raw"), p("a.vhdx")) for _ in range(N)]
            raw, vhdx, ratio, cpu = (statistics.median(r[i] for r in runs) for i in range(4))
            q = ["", ""]
            if mode.startswith("seq"):
                for i, (fmt, name) in enumerate((("raw", "a.raw"), ("vhdx", "q.vhdx"))):
                    t = median(lambda: qemu_bench(fmt, p(name), 256 << 10, "write" in mode, 256 << 10, SIZE >> 18))
                    q[i] = f"{(SIZE >> 20) / t:.0f}"
            print(f"{mode + ' ' + unit:28}{raw:12.0f}{vhdx:12.0f}{100 * ratio:7.1f}%{100 * cpu:7.1f}%{q[0]:>12}{q[1]:>12}")

        def ours():
            out(VIREOCTL, "disk", "create", "--force", p("n.vhdx"), "--size", "4G", "--block-size", "1M")
            return bench("alloc", p("n.vhdx"))

        def theirs():
            out("qemu-img", "create", "-q", "-f", "vhdx", "-o", "block_size=1M", p("m.vhdx"), "4G")
            text = out("qemu-img", "bench", "-f", "vhdx", "-c", "1000", "-d", "32", "-s", "4096", "-S", str(1 << 20), "-w",
                       "-i", "io_uring", "-t", "writeback", "--flush-interval", "64", p("m.vhdx"))
            return 1000 / float(text.split("completed in ")[1].split(" ")[0])

        def in_turn(f, g):
            pairs = [(f(), g()) for _ in range(N)]
            return (statistics.median(x[i] for x in pairs) for i in range(2))

        a, b = in_turn(ours, theirs)
        print(f"{'allocating writes op/s':28}{'':12}{a:12.0f}{'':8}{'':12}{b:20.0f}   x{a / b:.1f}")

        def convert(*args):
            for name in ("c.vhdx", "d.vhdx"):
                if os.path.exists(p(name)):
                    os.unlink(p(name))
            return timed(*args)

        a, b = in_turn(lambda: convert(VIREOCTL, "disk", "convert", p("a.raw"), p("c.vhdx")),
                       lambda: convert("qemu-img", "convert", "-t", "writeback", "-O", "vhdx", p("a.raw"), p("d.vhdx")))
        print(f"{'convert raw to VHDX, s':28}{'':12}{a:12.2f}{'':28}{b:12.2f}")
        out(VIREOCTL, "disk", "create", p("huge.vhdx"), "--size", "64T", "--block-size", "1M")
        print(f"{'open 64 TiB, ms':28}{'':12}{median(lambda: bench('open', p('huge.vhdx'))) / 1000:12.3f}")
    finally:
        shutil.rmtree(scratch)


main()
