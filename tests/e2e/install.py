#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A system is installed from an ISO image onto an empty VHDX in a machine of generation 1, and boots from there by its
own GRUB, with the ISO image still in the drive.

    install.py --vireoctl V --worker W --guests DIR [--case short|debian] [--nested RUN]
short   a busybox system: partition, file system and GRUB are made inside, the kernel comes from the disc
debian  tests/guests/mkinstaller's: Debian over the NAT from the mirror, then upgraded to another kernel, which boots
The short one saves, resets and restores devices and processors every few seconds on the way, and once goes on in another
process."""
import argparse, os, re, shutil, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
GUESTS = os.path.join(HERE, "..", "guests")
INSTALL = """
fail() { echo INSTALL-FAILED $1; poweroff -f; }
for i in $(seq 100); do [ -b /dev/sda ] && [ -b /dev/sr0 ] && break; sleep 0.2; done
mkdir -p /cd /t
mount -t iso9660 -o ro /dev/sr0 /cd || fail cd
echo 'start=2048, type=83, bootable' | /bin/sfdisk -q /dev/sda || fail sfdisk
for i in $(seq 100); do [ -b /dev/sda1 ] && break; sleep 0.2; done
/bin/mke2fs -q -t ext4 /dev/sda1 || fail mke2fs
mount -t ext4 /dev/sda1 /t || fail mount
mkdir -p /t/boot
cp -r /cd/grub /t/boot/ && cp /cd/vmlinuz /cd/initrd /t/boot/ || fail copy
sync
echo '(hd0) /dev/sda' >/tmp/map
/bin/grub-bios-setup --skip-fs-probe --directory=/t/boot/grub/i386-pc --device-map=/tmp/map '(hd0)' || fail grub
umount /t
echo INSTALL-DONE
reboot -f
"""
RUNS = """
mount -t ext4 -o ro /dev/sda1 /mnt && [ -e /mnt/boot/grub/i386-pc/core.img ] && echo INSTALLED-RUNS $(readlink -f /sys/block/sda/device)
"""


def short(o):
    def path(name):
        return os.path.join(o.top, name)
    iso = path("iso")
    os.makedirs(f"{iso}/grub/i386-pc")
    os.makedirs(f"{iso}/boot/grub")
    for name, script in ("install", INSTALL), ("runs", RUNS):
        with open(path(name), "w") as f:
            f.write(script)
    grub = "/usr/lib/grub/i386-pc"
    tools = ["--binary", "/sbin/sfdisk", "--binary", "/sbin/mke2fs", "--binary", f"{grub}/grub-bios-setup"]
    for name, out, modules, more in (("install", f"{iso}/install.gz", "hv_vmbus hv_storvsc sd_mod ata_piix sr_mod isofs ext4", tools),
                                     ("runs", f"{iso}/initrd", "hv_vmbus hv_storvsc sd_mod ext4", [])):
        subprocess.run([f"{GUESTS}/mkinitrd", "--guests", o.guests, "--out", out, "--kernel", "full", "--modules", modules,
                        "--script", path(name), *more], check=True)
    shutil.copy(f"{o.guests}/kernels/full/vmlinuz", f"{iso}/vmlinuz")
    shutil.copy(f"{grub}/boot.img", f"{iso}/grub/i386-pc/")
    subprocess.run(["grub-mkimage", "-O", "i386-pc", "-p", "(hd0,msdos1)/boot/grub", "-o", f"{iso}/grub/i386-pc/core.img",
                    "biosdisk", "part_msdos", "ext2", "normal", "linux", "serial", "terminal", "echo", "configfile"], check=True)
    serial = "serial --unit=0 --speed=115200\nterminal_output serial console\nset timeout=0\n"
    entry = "menuentry x {{\n linux {0}/vmlinuz console=ttyS0 do=script,poweroff\n initrd {0}/{1}\n}}\n"
    with open(f"{iso}/boot/grub/grub.cfg", "w") as f:
        f.write(serial + "echo GRUB-OF-THE-DISC\n" + entry.format("", "install.gz"))
    with open(f"{iso}/grub/grub.cfg", "w") as f:
        f.write(serial + "echo GRUB-OF-THE-DISK\n" + entry.format("/boot", "initrd"))
    subprocess.run(["grub-mkrescue", "-d", grub, "-o", path("short.iso"), iso], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    again = [] if o.nested else ["--self-restore", "4"]
    return path("short.iso"), "256M", "64M", [*again, "--restore-when", "VIREO-INIT"], 900, [
        "GRUB-OF-THE-DISC", "goes on in another process", "INSTALL-DONE", "GRUB-OF-THE-DISK", "INSTALLED-RUNS .*VMBUS"]


def debian(o):
    subprocess.run([f"{GUESTS}/mkinstaller", o.guests], check=True)
    return f"{o.guests}/installer/install.iso", "1G", "4G", [], 9000, [
        "INSTALLER-GRUB", "INSTALLER-RUNS", "INSTALLER-ADDRESS 10", "INSTALLER-PARTITIONED", "INSTALLER-DONE",
        "INSTALLED-BOOT", "INSTALLED-UPGRADED", "INSTALLED-BOOT", "VIREO-UPGRADED"]


def here(o, iso, memory, size, more):
    disk = os.path.join(o.top, "disk.vhdx")
    subprocess.run([o.vireoctl, "disk", "create", disk, "--size", size], check=True)
    return [o.vireoctl, "run", "--machine", "bios", "--accel", "soft", "--memory", memory, "--disk", disk, "--iso", iso,
            "--net", "nat", *more]


def nested(o, iso, memory, size, more):
    firmware = [f"/usr/share/seabios/{n}" for n in ("bios-256k.bin", "vgabios-stdvga.bin")]
    return [o.nested, "--guests", o.guests, "--binary", o.vireoctl, "--binary", o.worker, "--file", f"{iso}=/install.iso",
            *sum((["--file", f"{f}={f}"] for f in firmware), []), "--timeout", "1700",
            "export VIREO_WORKER=/bin/vireo-vm; vireoctl disk create /tmp/disk.vhdx --size", size,
            "&& exec vireoctl run --machine bios --accel kvm --memory", memory,
            "--disk /tmp/disk.vhdx --iso /install.iso --net nat", *more]


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--vireoctl", required=True)
    p.add_argument("--worker", required=True)
    p.add_argument("--guests", required=True)
    p.add_argument("--nested", help="tests/nested/run: on KVM")
    p.add_argument("--case", default="short", choices=["short", "debian"])
    o = p.parse_args()
    for need in ("/usr/share/seabios/bios-256k.bin", "/usr/lib/grub/i386-pc/grub-bios-setup", "/usr/bin/grub-mkrescue",
                 "/usr/bin/mformat", f"{o.guests}/kernels/full/vmlinuz"):
        if not os.path.exists(need):
            print(f"skipped: no {need}")
            return 77
    with tempfile.TemporaryDirectory(prefix="vi-", dir="/var/tmp") as o.top:
        iso, memory, size, more, seconds, wants = {"short": short, "debian": debian}[o.case](o)
        cmd = nested(o, iso, memory, size, more) if o.nested else here(o, iso, memory, size, more)
        seconds *= 2 if o.nested else 1
        log = os.path.join(o.top, "log")
        with open(log, "wb") as f:
            status = subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=f, stderr=subprocess.STDOUT, timeout=seconds,
                                    env=dict(os.environ, VIREO_WORKER=os.path.abspath(o.worker))).returncode
        with open(log, encoding="utf-8", errors="replace") as f:
            text = f.read()
    at, missing = 0, None
    for want in wants:
        m = re.compile(want).search(text, at)
        if not m:
            missing = want
            break
        at = m.end()
    for line in re.findall(r"^.*(?:INSTALL|VIREO-UPGRADED).*$", text, re.M):
        print(line.strip())
    if missing or status:
        print(text[-6000:], f"\nstatus {status}, missing {missing}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
