#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checkpoints that cannot be made or applied: a full disk, a missing parent, a newer version, flipped bits in
every section. Each is refused with the reason, and the running machine goes on.

    refused.py --vireoctl V --worker W --guests DIR [--accel soft]
"""
import os, random, re, shutil, struct, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from worker import arguments, check, failures, make_initrd, use_store
from checkpoints import Kept, wait_for


def goes_on(m):
    return m.says("echo $((6*7))") == "42" and m.ctl("status", m.name).stdout.strip() == "running"


def full_disk(m, ballast):
    m.do("dd if=/dev/urandom of=/tmp/x bs=1M count=60 2>/dev/null")
    r = m.ctl("checkpoint", "create", m.name, "full", ok=False)
    check("a checkpoint on a full disk is refused, with the reason",
          r.returncode and "space" in r.stderr.lower(), r)
    check("it is not there, and the machine goes on", m.list() == [] and goes_on(m), m.list())
    r = m.ctl("save", m.name, ok=False)
    check("saving on a full disk is refused, with the reason",
          r.returncode and "space" in r.stderr.lower(), r)
    check("and the machine goes on", goes_on(m))
    os.unlink(ballast)
    states = m.folder() + "/states"
    check("nothing of them is left", not os.listdir(states), os.listdir(states))


def refused(m, what, word, name="good"):
    r = m.ctl("checkpoint", "apply", m.name, name, ok=False)
    check(f"{what}: refused with the reason", r.returncode and word in r.stderr, r)
    check(f"{what}: the machine goes on", goes_on(m))


def sections(path):
    """Offset and length of each, headers included."""
    data, at = open(path, "rb").read(), 0
    while at < len(data):
        n = struct.unpack_from("<I", data, at + 16)[0]
        yield data[at + 4:at + 8].decode(), at, 24 + n
        at += 24 + n


def flip(path, at):
    with open(path, "r+b") as f:
        f.seek(at)
        b = f.read(1)[0]
        f.seek(at)
        f.write(bytes([b ^ 1 << random.randrange(8)]))


def flipped(m, path):
    """One bit in each section: the first that a restore does not notice fails."""
    was, wrong = open(path, "rb").read(), []
    for name, at, length in list(sections(path)):
        if length == 24: # nothing in it but the header
            continue
        flip(path, at + 24 + random.randrange(length - 24))
        r = m.ctl("checkpoint", "apply", m.name, "good", ok=False)
        if r.returncode == 0 or "damaged" not in r.stderr:
            wrong.append((name, r))
        with open(path, "r+b") as f:
            f.write(was)
    check(f"a flipped bit in each section of {os.path.basename(path)[-6:]} is refused", not wrong, wrong)
    check("and the machine goes on", goes_on(m))


def damage(m, o):
    folder = m.folder()
    m.ctl("checkpoint", "create", m.name, "good")
    base = folder + "/d.vhdx"
    os.rename(base, base + ".away")
    refused(m, "a missing parent", "d.vhdx")
    os.rename(base + ".away", base)
    id = m.list()[0]["id"]
    ini = f"{folder}/checkpoints/{id}/checkpoint.ini"
    text = open(ini).read()
    with open(ini, "w") as f:
        f.write(re.sub(r"version *= *1", "version = 2", text))
    refused(m, "a checkpoint of a newer version", "newer", id)
    with open(ini, "w") as f:
        f.write(text)
    flipped(m, f"{folder}/states/{id}.state")
    flipped(m, f"{folder}/states/{id}.map")
    ram = f"{folder}/states/{id}.ram"
    with open(ram, "rb") as f:
        data = os.lseek(f.fileno(), os.path.getsize(ram) // 2, os.SEEK_DATA)
    flip(ram, data + 77)
    r = m.ctl("checkpoint", "check", m.name, ok=False)
    check("check finds a flipped bit in memory", r.returncode and "damaged" in r.stdout, r)

    def logged():
        return any("is damaged" in open(f"{folder}/{f}", errors="replace").read()
                   for f in os.listdir(folder) if f.endswith(".log"))
    check("and so does the worker by itself, in the background", wait_for(logged, 120),
          os.listdir(folder))


def inside(o):
    """In a user and mount namespace of our own, where a small file system can be made."""
    data = f"{o.top}/data"
    os.makedirs(data)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=900m,mode=700", "none", data], check=True)
    ballast = f"{data}/ballast" # without it there is room
    with open(ballast, "wb") as f:
        os.posix_fallocate(f.fileno(), 0, 800 << 20)
    os.environ["VIREO_CHECK_DELAY"] = "1"
    use_store(o)
    make_initrd(o, "hv_vmbus hv_storvsc sd_mod hv_utils", f"{HERE}/worker-guest.sh")
    m = Kept(o, "kept")
    try:
        m.ctl("set", "kept", "adapter0.switch=none")
        subprocess.run([o.vireoctl, "disk", "create", f"{m.folder()}/d.vhdx", "--size", "16M"], check=True)
        m.ctl("set", "kept", "disk0.path=d.vhdx")
        m.start()
        m.wait("VIREO-READY", 300)
        full_disk(m, ballast)
        damage(m, o)
    finally:
        m.ctl("turn-off", m.name, ok=False)
    print(f"{len(failures)} failed")
    return 1 if failures else 0


def main():
    o = arguments(("--inside", {}))
    if o.inside:
        o.top = o.inside
        return inside(o)
    if subprocess.run(["unshare", "-Urm", "true"], stderr=subprocess.DEVNULL).returncode:
        print("user namespaces are not allowed here")
        return 77
    top = tempfile.mkdtemp(prefix="vr-", dir="/tmp")
    try:
        return subprocess.run(["unshare", "-Urm", sys.executable, *sys.argv, "--inside", top]).returncode
    finally:
        shutil.rmtree(top, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
