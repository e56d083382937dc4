#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk and network beside QEMU's virtio, both on KVM in one Debian under QEMU's TCG (tests/nested/run):

    run.py --vireoctl V --worker W --randread R --guests DIR [--runs 3]

4 KiB random reads of a RAM disk by 8 jobs and by 1 (storvsc; virtio-blk with an iothread and io_uring), iperf3
over libslirp both ways, private memory. L1 has one processor: guest, device model and iperf3's other end share it.
The two run in turns, so that what else the host does meets both; a quiet host is needed all the same. (QEMU 7.2 cannot
count L1's time in instructions, -icount: it then interrupts an SVM guest whose IF is 0.) Medians; asserts nothing."""
import argparse, collections, os, re, statistics, subprocess, sys, tempfile

READ_S, NET_S = 3, 2  # as guest.sh has it
HERE = os.path.dirname(os.path.abspath(__file__))
TESTS = os.path.join(HERE, "..", "..")


def run(o, initrd):
    qemu_files = [("seabios/bios-256k.bin", "bios-256k.bin"), ("qemu/kvmvapic.bin", "kvmvapic.bin"),
                  ("qemu/linuxboot_dma.bin", "linuxboot_dma.bin")]
    command = [f"{TESTS}/nested/run", "--guests", o.guests, "--smp", str(o.smp), "--memory", "2048", "--timeout", str(1800 * o.runs),
               "--modules", "brd", "--setup", os.path.join(HERE, "setup.sh"),
               "--binary", o.vireoctl, "--binary", o.worker, "--binary", "/usr/bin/qemu-system-x86_64",
               "--binary", "/usr/bin/iperf3", "--file", f"{o.guests}/kernels/cloud/vmlinuz=/k/vmlinuz",
               "--file", f"{initrd}=/k/initrd", "--file", f"{HERE}/l1.sh=/k/l1.sh"]
    for source, name in qemu_files:
        command += ["--file", f"/usr/share/{source}=/k/qemu/{name}"]
    command.append(f"VIREO_WORKER=/bin/vireo-vm VIREO_NO_SYSTEMD=1 sh /k/l1.sh {o.runs}")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as p:
        for line in p.stdout:
            print(line, end="", flush=True)
            yield line


def main():
    p = argparse.ArgumentParser()
    for name in ("vireoctl", "worker", "randread", "guests"):
        p.add_argument(f"--{name}", required=True)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--smp", type=int, default=1, help="processors of L1")
    o = p.parse_args()
    begun, results, memory = {}, collections.defaultdict(list), collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as top:
        subprocess.run([f"{TESTS}/guests/mkinitrd", "--guests", o.guests, "--out", f"{top}/i", "--kernel", "cloud", "--modules",
                        "hv_vmbus hv_storvsc hv_netvsc sd_mod virtio_pci virtio_blk virtio_net", "--script",
                        f"{HERE}/guest.sh", "--binary", o.randread, "--binary", "/usr/bin/iperf3"], check=True)
        for line in run(o, f"{top}/i"):
            if m := re.search(r"MEMORY (\w+) (\d+)", line):
                memory[m[1]].append(int(m[2]) / 1024)
            m = re.search(r"SAMPLE (\w+) .*MARK (\w+) (begin|end)(?: \w+=([\d.]+))?.* exits=(\d+) ticks=(\d+)", line)
            if not m:
                continue
            now = (int(m[5]), int(m[6]) / 100)
            if m[3] == "begin":
                begun[m[1], m[2]] = now
            elif m[4] and (m[1], m[2]) in begun:
                exits, cpu = (b - a for a, b in zip(begun.pop((m[1], m[2])), now))
                results[m[2], m[1]].append((float(m[4]), exits, cpu))
    print(f"\n{'':22}{'vireo':>12}{'qemu':>12}{'ratio':>8}")

    def row(what, values, digits):
        a, b = (statistics.median(v) if v else float("nan") for v in values)
        print(f"{what:22}{a:12.{digits}f}{b:12.{digits}f}{a / b if b else 0:8.2f}")

    for part, what in (("read8", "8 jobs"), ("read1", "1 job")):
        both = [results[part, who] for who in ("vireo", "qemu")]
        row(f"{what}: reads/s", [[v / READ_S for v, _, _ in r] for r in both], 0)
        row(f"{what}: exits/read", [[e / v for v, e, _ in r] for r in both], 3)
        row(f"{what}: CPU us/read", [[c / v * 1e6 for v, _, c in r] for r in both], 1)
    for part, what in (("out", "guest to host"), ("in", "host to guest")):
        both = [results[part, who] for who in ("vireo", "qemu")]
        row(f"{what}: Mbit/s", [[v for v, _, _ in r] for r in both], 0)
        row(f"{what}: CPU ms/MB", [[c / (v * NET_S / 8) * 1000 if v else 0 for v, _, c in r] for r in both], 2)
        row(f"{what}: exits/MB", [[e / (v * NET_S / 8) if v else 0 for v, e, _ in r] for r in both], 1)
    row("private memory, MiB", [memory["vireo"], memory["qemu"]], 1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
