#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs a script of tests/e2e on KVM: with this host's Python, in a Debian under QEMU's TCG where KVM is real.

    script.py --vireoctl V --worker W --guests DIR [--timeout S] [--debian] NAME ARGUMENT...

NAME: checkpoints, soak, kills, ... (tests/e2e/NAME.py). --debian: takes the tests' Debian along.
"""
import argparse, importlib, os, shutil, subprocess, sys, sysconfig, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
E2E = f"{HERE}/../e2e"
sys.path.insert(0, E2E)
SETUP = """ifconfig lo 127.0.0.1 up
mkdir -p /data && mount -t ext4 /dev/vda /data && chmod a+rwX /data /data/tmp && touch /data/ready
"""


def stage(o, top):
    """The file system that L1 gets as a disk: Python, the scripts, the guests."""
    shutil.copytree(sysconfig.get_paths()["stdlib"], f"{top}/python", ignore=shutil.ignore_patterns(
        "test", "tests", "idlelib", "tkinter", "lib2to3", "__pycache__", "dist-packages", "config-*", "ensurepip",
        "pydoc_data", "turtledemo"))
    os.makedirs(f"{top}/e2e")
    for f in os.listdir(E2E):
        if f.endswith((".py", ".sh")):
            shutil.copy(f"{E2E}/{f}", f"{top}/e2e/{f}")
    os.makedirs(f"{top}/guests/kernels/full")
    os.mkdir(f"{top}/tmp")
    shutil.copy(f"{o.guests}/kernels/full/vmlinuz", f"{top}/guests/kernels/full/vmlinuz")
    if o.debian:
        subprocess.run([f"{HERE}/../guests/mkdebian", o.guests], check=True)
        os.mkdir(f"{top}/guests/debian")
        for f in "vmlinuz", "initrd", "root.ext4":
            subprocess.run(["cp", "--sparse=always", f"{o.guests}/debian/{f}", f"{top}/guests/debian/{f}"], check=True)
    it = importlib.import_module(o.name)
    if hasattr(it, "MODULES"): # of its initramfs, which L1 has no tools to make
        with open(f"{top}/script", "w") as f:
            f.write(it.GUEST if hasattr(it, "GUEST") else open(f"{E2E}/worker-guest.sh").read())
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
    p.add_argument("name")
    p.add_argument("arguments", nargs=argparse.REMAINDER)
    o = p.parse_args()
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
                   f"python3 -u /data/e2e/{o.name}.py --vireoctl /bin/vireoctl --worker /bin/vireo-vm --accel kvm "
                   f"--guests /data/guests --initrd /data/i.cpio.gz {' '.join(o.arguments)} 2>&1")
        python = os.path.realpath(sys.executable)
        return subprocess.run([
            f"{HERE}/run", "--guests", o.guests, "--smp", o.smp, "--memory", "3072", "--timeout", str(o.timeout),
            "--modules", "virtio_pci virtio_blk ext4", "--setup", f"{top}/setup", "--qemu",
            f"-drive file={top}/data.ext4,if=virtio,format=raw,cache=unsafe,discard=unmap",
            "--binary", f"{python}=/bin/python3", "--binary", o.vireoctl, "--binary", o.worker,
            "--binary", "/usr/bin/iperf3", "--binary", "/usr/bin/tar", "--binary", "/usr/bin/zstd", "--binary", "/sbin/e2fsck=/sbin/e2fsck",
            command]).returncode


if __name__ == "__main__":
    sys.exit(main())
