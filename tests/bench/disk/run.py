#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk speed beside raw and beside QEMU: run.py BENCH VIREOCTL FOLDER [SECONDS].

An allocated VHDX in terms of a raw file through the same engine, in turns within one process; a copy
of the raw file in the same turns tells how far two equal files differ on this machine today. QEMU's
drivers on files in the same folder, by qemu-img bench, directly and behind qemu-nbd, 32 in flight on
io_uring. Allocating writes, conversion, opening 64 TiB. Prints a table with the targets; asserts
nothing. Some 3 minutes with SECONDS (of each measurement) at 10."""
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

BENCH, VIREOCTL, FOLDER = sys.argv[1:4]
SECONDS = sys.argv[4] if len(sys.argv) > 4 else "10"
TIMES = 5
SIZE = 512 << 20
STRIDE = 4096 * 48611  # visits places far apart, all different for long


def out(*args):
    return subprocess.run(args, check=True, capture_output=True, text=True).stdout


def drop(path):
    """What is in the host's cache of it: how it got there would tell in the figures."""
    with open(path, "r+b") as f:
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def in_turns(mode, *paths):
    """Of each: speed, ratio to the first, the same by processor time, microseconds of it."""
    for path in paths:
        drop(path)
    return [[float(n) for n in line.split()] for line in out(BENCH, mode, SECONDS, *paths).splitlines()]


def qemu_seconds(fmt, image, size, step, count, *more):
    text = out("qemu-img", "bench", "-f", fmt, "-c", str(count), "-d", "32", "-s", str(size), "-S", str(step), "-i",
               "io_uring", "-t", "writeback", *more, image)
    return float(text.split("completed in ")[1].split(" ")[0])


def qemu_speed(fmt, image, mode):
    """MiB/s or operations a second."""
    write = ["-w"] if "write" in mode else []
    if mode.startswith("seq"):
        return (SIZE >> 20) / statistics.median(
            qemu_seconds(fmt, image, 256 << 10, 256 << 10, SIZE >> 18, *write) for _ in range(3))
    return 50000 / statistics.median(qemu_seconds(fmt, image, 4096, STRIDE, 50000, *write) for _ in range(3))


class Nbd:
    """qemu-nbd with this driver."""

    def __init__(self, fmt, image):
        self.folder = tempfile.mkdtemp(prefix="nbd-")
        self.socket = os.path.join(self.folder, "s")
        self.process = subprocess.Popen(["qemu-nbd", "-t", "-f", fmt, "-k", self.socket, "--cache=writeback",
                                         "--aio=io_uring", image])
        for _ in range(200):
            if os.path.exists(self.socket):
                break
            time.sleep(0.05)

    def speed(self, mode):
        return qemu_speed("raw", f"nbd+unix:///?socket={self.socket}", mode)

    def end(self):
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.folder)


def timed(*args):
    start = time.monotonic()
    out(*args)
    return time.monotonic() - start


def fill(path):
    with open(path, "r+b") as f:
        block = os.urandom(1 << 20)
        for _ in range(SIZE >> 20):
            f.write(block)


def row(what, value, theirs, target, met):
    print(f"{what:34}{value:>14}{theirs:>16}   {target:34}{'yes' if met else 'NO'}", flush=True)


def medians(ours, theirs):
    pairs = [(ours(), theirs()) for _ in range(TIMES)]
    return (statistics.median(x[i] for x in pairs) for i in range(2))


def throughput(p):
    print(f"{'':17}{'raw':>9}{'VHDX':>9}{'of raw':>8}{'raw copy':>9}{'by CPU':>8}{'us/op raw':>10}{'VHDX':>7}"
          f"{'QEMU raw':>10}{'VHDX':>9}{'nbd raw':>9}{'VHDX':>9}", flush=True)
    result = {}
    for mode, unit in (("seqread", "MiB/s"), ("seqwrite", "MiB/s"), ("randread", "op/s"), ("randwrite", "op/s")):
        raw, vhdx, copy = in_turns(mode, p("a.raw"), p("a.vhdx"), p("b.raw"))
        q = [qemu_speed("raw", p("a.raw"), mode), qemu_speed("vhdx", p("q.vhdx"), mode)]
        for fmt, name in (("raw", "a.raw"), ("vhdx", "q.vhdx")):
            nbd = Nbd(fmt, p(name))
            try:
                q.append(nbd.speed(mode))
            finally:
                nbd.end()
        print(f"{mode + ' ' + unit:17}{raw[0]:9.0f}{vhdx[0]:9.0f}{100 * vhdx[1]:7.1f}%{100 * copy[1]:8.1f}%"
              f"{100 * vhdx[2]:7.1f}%{raw[3]:10.1f}{vhdx[3]:7.1f}{q[0]:10.0f}{q[1]:9.0f}{q[2]:9.0f}{q[3]:9.0f}", flush=True)
        result[mode] = vhdx[1]
    return result


def main():
    scratch = tempfile.mkdtemp(prefix="bench-", dir=FOLDER)
    p = lambda name: os.path.join(scratch, name)
    try:
        out(VIREOCTL, "disk", "create", p("a.raw"), "--size", str(SIZE))
        fill(p("a.raw"))
        out(VIREOCTL, "disk", "convert", p("a.raw"), p("a.vhdx"))
        # All files written by the same engine in the same way: else their pages in the cache differ.
        out(VIREOCTL, "disk", "convert", "--force", p("a.vhdx"), p("a.raw"))
        out(VIREOCTL, "disk", "convert", p("a.vhdx"), p("b.raw"))
        out("qemu-img", "convert", "-O", "vhdx", p("a.raw"), p("q.vhdx"))
        speeds = throughput(p)
        print(f"\n{'':34}{'Vireo':>14}{'QEMU':>16}   {'target':34}met")
        for mode, ratio in speeds.items():
            row(f"{mode}, VHDX of raw", f"{100 * ratio:.1f}%", "", "95%", ratio >= 0.95)

        def ours():
            out(VIREOCTL, "disk", "create", "--force", p("n.vhdx"), "--size", "4G", "--block-size", "1M")
            return float(out(BENCH, "alloc", "2", p("n.vhdx")))

        def theirs():
            out("qemu-img", "create", "-q", "-f", "vhdx", "-o", "block_size=1M", p("m.vhdx"), "4G")
            return 1000 / qemu_seconds("vhdx", p("m.vhdx"), 4096, 1 << 20, 1000, "-w", "--flush-interval", "64")

        a, b = medians(ours, theirs)
        row("allocating writes, op/s", f"{a:.0f}", f"{b:.0f}", f"1.5 times QEMU's; is {a / b:.1f} times", a >= 1.5 * b)

        def convert(name, *args):
            if os.path.exists(p(name)):
                os.unlink(p(name))
            return timed(*args, p("a.raw"), p(name))

        a, b = medians(lambda: convert("c.vhdx", VIREOCTL, "disk", "convert"),
                       lambda: convert("d.vhdx", "qemu-img", "convert", "-t", "writeback", "-O", "vhdx"))
        row("512 MiB of raw to VHDX, s", f"{a:.2f}", f"{b:.2f}", "no slower than QEMU's", a <= b)
        out(VIREOCTL, "disk", "create", p("huge.vhdx"), "--size", "64T", "--block-size", "1M")
        a = float(out(BENCH, "open", "2", p("huge.vhdx"))) / 1000
        row("open of 64 TiB, ms", f"{a:.3f}", "", "under 10", a < 10)
    finally:
        shutil.rmtree(scratch)


main()
