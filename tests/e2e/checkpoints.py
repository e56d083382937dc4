#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest with a disk and work going on is saved and resumed in a fresh worker, checkpointed while it
runs, put back, its checkpoints deleted; its memory, its disk and its clock are as they must be.

    checkpoints.py --vireoctl V --worker W --guests DIR [--accel soft]
"""
import argparse, json, os, shutil, signal, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from worker import Machine, check, failures


class Kept(Machine):
    def attach(self):
        if self.serial:
            self.serial.kill()
            self.serial.wait()
        self.serial = subprocess.Popen([self.o.vireoctl, "serial", self.name],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        os.set_blocking(self.serial.stdout.fileno(), False)
        self.text = ""
        time.sleep(0.5)

    def resume(self):
        self.ctl("start", self.name)
        self.attach()

    def says(self, command):
        return self.do(command, 120)[1].strip().splitlines()[-1]

    def list(self):
        return json.loads(self.ctl("checkpoint", "list", self.name, "--json").stdout)

    def folder(self):
        top = os.environ["XDG_DATA_HOME"] + "/vireo"
        return os.path.join(top, os.listdir(top)[0])


def write(m, word):
    """Fills the disk with what only `word` gives, and remembers it in the guest's memory."""
    return m.says(f"yes {word} | head -c 8388608 | dd of=/dev/sda bs=1M conv=fsync 2>/dev/null; "
                  f"echo {word} >/tmp/word; echo $(md5sum </dev/sda)")


def state(m):
    """What the guest has in memory and, past its cache, on the disk."""
    return m.says("echo 3 >/proc/sys/vm/drop_caches; echo $(cat /tmp/word) $(md5sum </dev/sda)")


def clock_is_right(m, what):
    time.sleep(2)
    before = time.time()
    guest = int(m.says("date +%s"))
    check(f"the clock is right {what}", before - 2 <= guest <= time.time() + 2,
          (guest, before))


def save(m):
    one = write(m, "one")
    m.ctl("save", m.name)
    check("a saved machine says so", m.ctl("status", m.name).stdout.strip() == "saved")
    m.resume()
    check("a fresh worker resumes memory and disk", state(m) == f"one {one}", state(m))
    clock_is_right(m, "after a resume")
    worker = json.loads(m.ctl("status", m.name, "--json").stdout)["worker"]
    os.kill(worker, signal.SIGTERM)
    for _ in range(100):
        if m.ctl("status", m.name).stdout.strip() == "saved":
            break
        time.sleep(0.2)
    check("the end of the session saves", m.ctl("status", m.name).stdout.strip() == "saved")
    m.resume()
    check("and the machine goes on from there", state(m) == f"one {one}")
    return one


def checkpoints(m, one):
    m.ctl("checkpoint", "create", m.name, "first")
    two = write(m, "two")
    m.ctl("checkpoint", "create", m.name, "second")
    three = write(m, "three")
    names = [c["name"] for c in m.list()]
    check("two checkpoints, one on the other", names == ["first", "second"] and
          m.list()[1]["parent"] == m.list()[0]["id"], m.list())
    check("the second stores what changed alone",
          m.list()[1]["bytes"] < m.list()[0]["bytes"], m.list())
    m.ctl("checkpoint", "apply", m.name, "first")
    m.attach()
    check("applying brings memory and disk back", state(m) == f"one {one}", state(m))
    clock_is_right(m, "after a checkpoint was applied")
    m.ctl("checkpoint", "apply", m.name, "second")
    m.attach()
    check("and forward again", state(m) == f"two {two}", state(m))
    check("every page is as it was written", "good" in m.ctl("checkpoint", "check", m.name).stdout)
    write(m, "four")
    m.ctl("checkpoint", "revert", m.name)
    m.attach()
    check("revert gives up what came after", state(m) == f"two {two}", state(m))
    errors = m.says("dmesg | grep -ciE 'i/o error|oops|bug:|hung|stall' ")
    check("the guest noticed nothing", errors == "0", errors)
    return two, three


def deleting(m, two):
    m.ctl("checkpoint", "delete", m.name, "first")
    m.ctl("checkpoint", "delete", m.name, "second")
    check("deleted checkpoints are gone", m.list() == [])
    check("the guest goes on while layers are merged", state(m) == f"two {two}", state(m))
    m.ctl("turn-off", m.name)
    m.wait_off(10)
    for _ in range(100): # the worker goes a moment after its machine
        if m.ctl("checkpoint", "create", m.name, "off", ok=False).returncode == 0:
            break
        time.sleep(0.2)
    check("a checkpoint of a machine that is off", [c["name"] for c in m.list()] == ["off"])
    m.ctl("checkpoint", "delete", m.name, "off")
    left = [f for f in os.listdir(m.folder()) if f.endswith(".avhdx")]
    check("nothing of them is left", not left and not os.listdir(m.folder() + "/states"), left)
    m.start()
    m.wait("VIREO-READY", 240)
    sum_now = m.says("echo $(md5sum </dev/sda)")
    check("and the disk is what it was", sum_now == two, sum_now)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--vireoctl", required=True)
    p.add_argument("--worker", required=True)
    p.add_argument("--guests", required=True)
    p.add_argument("--accel", default="soft")
    o = p.parse_args()
    if not os.path.exists(f"{o.guests}/kernels/full/vmlinuz"):
        print("the tests' kernels are not there (tests/guests/prepare)")
        return 77
    o.top = tempfile.mkdtemp(prefix="vc-", dir="/tmp")
    os.environ.update(XDG_RUNTIME_DIR=f"{o.top}/run", XDG_DATA_HOME=f"{o.top}/data",
                      VIREO_WORKER=os.path.abspath(o.worker), VIREO_NO_SYSTEMD="1")
    os.mkdir(f"{o.top}/run", 0o700)
    o.initrd = f"{o.top}/i.cpio.gz"
    subprocess.run([f"{HERE}/../guests/mkinitrd", "--guests", o.guests, "--out", o.initrd,
                    "--kernel", "full", "--modules",
                    "hv_vmbus hv_netvsc hv_storvsc sd_mod hyperv_keyboard hyperv_drm hv_utils",
                    "--script", f"{HERE}/worker-guest.sh"], check=True)
    m = Kept(o, "kept")
    try:
        subprocess.run([o.vireoctl, "disk", "create", f"{o.top}/d.vhdx", "--size", "64M"],
                       check=True)
        m.ctl("set", "kept", f"disk0.path={o.top}/d.vhdx")
        m.start()
        m.wait("VIREO-READY", 240)
        one = save(m)
        two, _ = checkpoints(m, one)
        deleting(m, two)
    finally:
        m.ctl("turn-off", m.name, ok=False)
        shutil.rmtree(o.top, ignore_errors=True)
    print(f"{len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
