#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""CPU seconds that a Debian with systemd takes to its login prompt, on the software processor and on QEMU's TCG, in turns.

    tests/bench/soft/login.py --vireoctl build/app/cli/vireoctl --guests build/guests [--runs 3] [--memory 768]

Both boot the same kernel from a copy of the same image (tests/guests/mkdebian), one processor each; ours with the root on
the synthetic SCSI controller, QEMU's on virtio-scsi, with the initramfs' modules changed for that. The CPU time is the
whole machine's when the prompt appears, the worker's process included. Medians.
"""
import argparse
import os
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from run import cpu_seconds  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))


def to_login(command, disk, image):
    """CPU seconds when the prompt appears; the machine is then turned off."""
    subprocess.run(["cp", "--sparse=always", image, disk], check=True)
    p = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)
    seen = b""
    try:
        while b"login:" not in seen:
            piece = os.read(p.stdout.fileno(), 65536)
            if not piece:
                sys.exit(f"no login prompt:\n{seen[-3000:].decode(errors='replace')}")
            seen = seen[-3000:] + piece
        return cpu_seconds(p.pid)
    finally:
        p.terminate()
        p.wait()


def modules_of(image, tmp):
    """The image's kernel modules, where mkinitrd looks for them."""
    to = os.path.join(tmp, "k/kernels/full")
    os.makedirs(f"{to}/lib")
    subprocess.run(["debugfs", "-R", f"rdump /lib/modules {to}/lib", image], check=True, stderr=subprocess.DEVNULL)
    version = os.listdir(f"{to}/lib/modules")[0]
    with open(f"{to}/version", "w", encoding="utf-8") as f:
        f.write(version + "\n")
    subprocess.run(["/sbin/depmod", "-b", to, version], check=True)


def initrd_for_qemu(guests, image, tmp):
    modules_of(image, tmp)
    os.symlink(os.path.realpath(f"{guests}/busybox-amd64"), os.path.join(tmp, "k/busybox-amd64"))
    with open(f"{guests}/debian/initrd", "rb") as f:
        init = subprocess.run("zcat | cpio -i --quiet --to-stdout init", shell=True, stdin=f, check=True,
                              capture_output=True).stdout
    with open(os.path.join(tmp, "init"), "wb") as f:
        f.write(init)
    out = os.path.join(tmp, "initrd-qemu")
    subprocess.run([f"{HERE}/../../guests/mkinitrd", "--guests", f"{tmp}/k", "--out", out, "--kernel", "full", "--init",
                    f"{tmp}/init", "--modules", "virtio_pci virtio_scsi sd_mod ext4"], check=True)
    return out


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--vireoctl", required=True)
    p.add_argument("--guests", required=True)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--memory", type=int, default=768)
    p.add_argument("--cpu", default="max", help="QEMU's -cpu: max, or Nehalem for the same instructions as ours")
    a = p.parse_args()
    guests = os.path.realpath(a.guests)
    image, kernel = f"{guests}/debian/root.ext4", f"{guests}/debian/vmlinuz"
    append = "console=ttyS0 quiet"
    ours, theirs = [], []
    with tempfile.TemporaryDirectory(dir="/var/tmp") as tmp:
        disk = os.path.join(tmp, "disk.raw")
        theirs_initrd = initrd_for_qemu(guests, image, tmp)
        machines = [
            (ours, [a.vireoctl, "run", "--accel", "soft", "--cpus", "1", "--memory", f"{a.memory}M", "--kernel", kernel,
                    "--initrd", f"{guests}/debian/initrd", "--append", append, "--disk", disk, "--no-reboot"]),
            (theirs, ["qemu-system-x86_64", "-accel", "tcg", "-cpu", a.cpu, "-m", str(a.memory), "-display", "none",
                      "-vga", "none", "-nic", "none", "-no-reboot", "-serial", "stdio", "-monitor", "none",
                      "-kernel", kernel, "-initrd", theirs_initrd, "-append", append,
                      "-device", "virtio-scsi-pci", "-device", "scsi-hd,drive=d",
                      "-drive", f"if=none,id=d,file={disk},format=raw"]),
        ]
        for _ in range(a.runs):
            for figures, command in machines:
                figures.append(to_login(command, disk, image))
            print(f"vireo {ours[-1]:.1f} s  qemu {theirs[-1]:.1f} s", flush=True)
    us, them = statistics.median(ours), statistics.median(theirs)
    print(f"Debian to its login prompt, median of {a.runs}: vireo {us:.1f} CPU seconds, QEMU's TCG {them:.1f}: "
          f"{us / them:.2f} times")


if __name__ == "__main__":
    main()
