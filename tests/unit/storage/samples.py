# SPDX-License-Identifier: GPL-3.0-or-later
"""Other people's VHD and VHDX files: samples.py VIREOCTL FOLDER SCRATCH [all].
Each opens, or is refused for the reason its README gives, and converts to the bytes it states.
Without `all` the two disks of 10 GiB are left out (hashing them takes minutes)."""
import hashlib
import json
import lzma
import os
import shutil
import subprocess
import sys
import tempfile

Z40M = "80a3721188e40218b08b26776bc53bdae81e4784fff71d71450a197319cba113"
# name: virtual size, SHA-256 of the whole disk, name that its child looks for
SAMPLES = {
    "ltr-vhdx-log-replay.vhdx": (1073741824, "3ba3b309425b7ff5e8e0199edceed95226250f880c53b24e8eae93865f3fad5e", None),
    "ltr-btrfs.vhdx": (1073741824, "0b959f9cb4e18348ad8b646f152178282542c8304f02fddf765e3fd1a1de6864", None),
    "ltr-swap.vhdx": (10737418240, "60dd30b4c74361427d1089510cabb36e2eeda0cc4747f467ea43173acd358c49", None),
    "ltr-xfs.vhdx": (10737418240, "8ca2bd2d91f1c6ada47128fc2f8d38587e73954ede5a664fe2bb09c19606060e", None),
    "velociraptor-test.vhdx": (5242880, "762ca4030df6cf834f5121ed2ecf52fe6cfd3294673406867ef94b9e0990143e", None),
    "govhd-win8.vhd": (41943040, Z40M, "win8.vhd"),
    "govhd-win8-child.vhd": (41943040, Z40M, None),
    "govhd-vbox.vhd": (41943040, Z40M, None),
    "govhd-qemu.vhd": (41953280, "258dd1ab1617727f344d71220c5093e04d7909b1e13b31bfa810edac4f6fa04f", None),
    "dfvfs-ext2.vhd": (4212736, "870be7ae16c1fa8faab05c6eb9205dc9a7ae35c5f552c5cf8a267c0bc6a5cb99", None),
}
# Edited by hand: their checksums are wrong. Refused; repaired, they read as stated.
DAMAGED = {
    "dfvfs-image.vhd": (104448, "c6db12a7db548e193c29420c1b4533e4708b20c5033db5cc29ef075d48316d25", "image.vhd"),
    "dfvfs-image-differential.vhd": (104448, "c6db12a7db548e193c29420c1b4533e4708b20c5033db5cc29ef075d48316d25", None),
}
failures = 0


def check(ok, what):
    global failures
    if not ok:
        failures += 1
        print("FAIL", what)


def run(*args):
    return subprocess.run([VIREOCTL, "disk", *args], capture_output=True, text=True)


def sha256(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while chunk := f.read(1 << 20):
            h.update(chunk)
    return h.hexdigest()


def unpack(name, alias, scratch):
    path = os.path.join(scratch, alias or name)
    with lzma.open(os.path.join(FOLDER, name + ".xz")) as src, open(path, "wb") as dst:
        while chunk := src.read(1 << 20):  # sparse
            if chunk.count(0) == len(chunk):
                dst.seek(len(chunk), 1)
            else:
                dst.write(chunk)
        dst.truncate(dst.tell())
    return path


def reads_as(path, size, digest):
    raw = path + ".raw"
    r = run("convert", "--to", "raw", path, raw)
    check(r.returncode == 0, f"convert {path}: {r.stderr}")
    if r.returncode == 0:
        check(os.path.getsize(raw) == size, f"{path}: size {os.path.getsize(raw)}")
        check(sha256(raw) == digest, f"{path}: content")
        os.unlink(raw)


def sample(name, size, digest, alias, scratch):
    path = unpack(name, alias, scratch)
    before = sha256(path) if os.path.getsize(path) < 1 << 28 else None
    info = run("info", "--json", path)
    check(info.returncode == 0 and json.loads(info.stdout)["size"] == size, f"info {name}: {info.stderr}")
    r = run("check", "--json", path)
    check(r.returncode == 0 and json.loads(r.stdout)["sound"], f"check {name}: {r.stdout}")
    reads_as(path, size, digest)
    check(before is None or sha256(path) == before, f"{name} was changed by reading")


def damaged(name, size, digest, alias, scratch):
    path = unpack(name, alias, scratch)
    r = run("convert", "--to", "raw", path, path + ".raw")
    check(r.returncode == 1 and "checksum is wrong" in r.stderr, f"{name} is refused: {r.stderr}")
    check(not os.path.exists(path + ".raw"), f"{name} left a target")
    r = run("check", path)
    check(r.returncode == 1 and "checksum is wrong" in r.stdout, f"check {name}: {r.stdout}")
    r = run("check", "--repair", path)
    check(r.returncode == 0, f"repair {name}: {r.stdout}{r.stderr}")
    reads_as(path, size, digest)


def main():
    if not os.path.isdir(FOLDER):
        print("skipped: the samples are not there:", FOLDER)
        return 77
    scratch = tempfile.mkdtemp(prefix="samples-", dir=SCRATCH)
    try:
        for name, (size, digest, alias) in SAMPLES.items():
            if ALL or size < 1 << 31:
                sample(name, size, digest, alias, scratch)
        for name, (size, digest, alias) in DAMAGED.items():
            damaged(name, size, digest, alias, scratch)
    finally:
        shutil.rmtree(scratch)
    print("failures:", failures)
    return 1 if failures else 0


VIREOCTL, FOLDER, SCRATCH = sys.argv[1:4]
ALL = len(sys.argv) > 4
sys.exit(main())
