#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a script of the tests on KVM: with this host's Python, in a Debian under QEMU's TCG where KVM is real.

    script.py --vireoctl V --worker W --guests DIR [--timeout S] [--debian] [--qemu] NAME ARGUMENT...

NAME: e2e/checkpoints, e2e/soak, bench/checkpoint/run, ... (tests/NAME.py; e2e unless it says). --debian: takes the
tests' Debian along; --qemu: QEMU, to compare with.
"""
import argparse, importlib, os, shutil, subprocess, sys, sysconfig, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.dirname(HERE)
FIRMWARE = "/usr/share/seabios/bios-256k.bin", "/usr/share/qemu/kvmvapic.bin", "/usr/share/qemu/linuxboot_dma.bin"
SETUP = """ifconfig lo 127.0.0.1 up
mkdir -p /data && mount -t ext4 /dev/vda /data && chmod a+rwX /data /data/tmp && touch /data/ready
"""


def stage(o, top):
    """The file system that L1 gets as a disk: Python, the scripts, the guests."""
    shutil.copytree(sysconfig.get_paths()["stdlib"], f"{top}/python", ignore=shutil.ignore_patterns(
        "test", "tests", "idlelib", "tkinter", "lib2to3", "__pycache__", "dist-packages", "config-*", "ensurepip",
        "pydoc_data", "turtledemo"))
    there = os.path.dirname(f"{TESTS}/{o.name}")
    sys.path.insert(0, there)
    os.makedirs(f"{top}/tests")
    for f in os.listdir(there):
        if f.endswith((".py", ".sh")):
            shutil.copy(f"{there}/{f}", f"{top}/tests/{f}")
    os.mkdir(f"{top}/roms")
    for f in FIRMWARE if o.qemu else ():
        shutil.copy(f, f"{top}/roms/")
    os.makedirs(f"{top}/guests/kernels/full")
    os.mkdir(f"{top}/tmp")
    shutil.copy(f"{o.guests}/kernels/full/vmlinuz", f"{top}/guests/kernels/full/vmlinuz")
    if o.debian:
        subprocess.run([f"{HERE}/../guests/mkdebian", o.guests], check=True)
        os.mkdir(f"{top}/guests/debian")
        for f in "vmlinuz", "initrd", "root.ext4":
            subprocess.run(["cp", "--sparse=always", f"{o.guests}/debian/{f}", f"{top}/guests/debian/{f}"], check=True)
    it = importlib.import_module(os.path.basename(o.name))
    if hasattr(it, "make_guest"):
        it.make_guest(argparse.Namespace(top=top, guests=o.guests), f"{top}/i.cpio.gz")
    elif hasattr(it, "MODULES"): # of its initramfs, which L1 has no tools to make
        with open(f"{top}/script", "w") as f:
            f.write(it.GUEST if hasattr(it, "GUEST") else open(f"{there}/worker-guest.sh").read())
        subprocess.run([f"{HERE}/../guests/mkinitrd", "--guests", o.guests, "--out", f"{top}/i.cpio.gz", "--kernel",
                        "full", "--modules", it.MODULES, "--script", f"{top}/script"], check=True)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--vireoctl", required=True)
    p.add_argument("--worker", required=True)
    p.add_argument("--guests", required=True)
    p.add_argument("--timeout", type=int, default=1700)
    p.add_argument("--smp", default="1", help="processors of L1; with two, QEMU's emulation of them fails now and then")
    p.add_argument("--debian", action="store_true")
    p.add_argument("--qemu", action="store_true")
    p.add_argument("name")
    p.add_argument("arguments", nargs=argparse.REMAINDER)
    o = p.parse_args()
    o.name = o.name if "/" in o.name else f"e2e/{o.name}"
    if not os.path.exists(f"{o.guests}/kernels/full/vmlinuz"):
        print("the tests' kernels are not there (tests/guests/prepare)")
        return 77
    with tempfile.TemporaryDirectory(prefix="vireo-nested.", dir=os.environ.get("TMPDIR", "/var/tmp")) as top:
        os.mkdir(f"{top}/data")
        stage(o, f"{top}/data")
        subprocess.run(["/sbin/mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-d", f"{top}/data",
                        f"{top}/data.ext4", "6G"], check=True)
        shutil.rmtree(f"{top}/data")
        with open(f"{top}/setup", "w") as f:
            f.write(SETUP)
        command = ("until [ -e /data/ready ]; do sleep 0.2; done; export PYTHONPATH=/data/python:/data/python/lib-dynload TMPDIR=/data/tmp "
                   "PYTHONDONTWRITEBYTECODE=1; cd /data/tmp && "
                   f"python3 -u /data/tests/{os.path.basename(o.name)}.py --vireoctl /bin/vireoctl --worker /bin/vireo-vm --accel kvm "
                   f"--guests /data/guests --initrd /data/i.cpio.gz {'--roms /data/roms ' if o.qemu else ''}{' '.join(o.arguments)} 2>&1")
        programs = ["/usr/bin/iperf3", "/usr/bin/tar", "/usr/bin/zstd", "/sbin/e2fsck=/sbin/e2fsck"]
        programs += ["/usr/bin/qemu-system-x86_64", "/usr/bin/qemu-img"] if o.qemu else []
        python = os.path.realpath(sys.executable)
        return subprocess.run([
            f"{HERE}/run", "--guests", o.guests, "--smp", o.smp, "--memory", "3072", "--timeout", str(o.timeout),
            "--modules", "virtio_pci virtio_blk ext4", "--setup", f"{top}/setup", "--qemu",
            f"-drive file={top}/data.ext4,if=virtio,format=raw,cache=unsafe,discard=unmap",
            "--binary", f"{python}=/bin/python3", "--binary", o.vireoctl, "--binary", o.worker,
            *(x for f in programs for x in ("--binary", f)), command]).returncode


if __name__ == "__main__":
    sys.exit(main())
