#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest with a disk and work going on is saved and resumed in a fresh worker, checkpointed while it
runs, put back, its checkpoints deleted; its memory, its disk and its clock are as they must be.

    checkpoints.py --vireoctl V --worker W --guests DIR [--accel soft] [--connections]
"""
import json, os, shutil, signal, socket, subprocess, sys, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from worker import Machine, arguments, check, failures, make_initrd, own_store

MODULES = "hv_vmbus hv_netvsc hv_storvsc sd_mod hyperv_keyboard hyperv_drm hv_utils"


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
        return self.folder_of([m["id"] for m in machines(self.o) if m["name"] == self.name][0])

    def folder_of(self, id):
        return os.path.realpath(os.path.join(os.environ["XDG_DATA_HOME"], "vireo", id))


class Copy(Kept):
    """One that is there already."""
    def __init__(self, o, name):
        self.o, self.name, self.serial = o, name, None


def machines(o):
    return json.loads(subprocess.run([o.vireoctl, "list", "--json"], capture_output=True, text=True,
                                     check=True).stdout)


def wait_for(what, seconds=60):
    end = time.monotonic() + seconds
    while not (r := what()) and time.monotonic() < end:
        time.sleep(0.2)
    return r


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


class Idle:
    """A connection from the guest to this computer on which nothing is said unless asked."""
    def __init__(self, m):
        self.m = m
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(120)
        port = self.listener.getsockname()[1]
        m.says("rm -f /tmp/gone; mkfifo /tmp/in 2>/dev/null; (nc 10.203.0.2 %d </tmp/in >/tmp/got 2>&1; "
               "echo over >/tmp/gone) & sleep 1000 >/tmp/in & echo started" % port)
        self.s, _ = self.listener.accept()
        self.s.settimeout(60)

    def works(self, word):
        self.s.sendall(word.encode() + b"\n")
        return bool(wait_for(lambda: self.m.says("cat /tmp/got; echo") is not None and
                             word in self.m.do("cat /tmp/got")[1], 60))

    def gone_here(self):
        try:
            return self.s.recv(1) == b""
        except ConnectionError:
            return True

    def gone_there(self):
        return wait_for(lambda: "over" in self.m.do("cat /tmp/gone 2>/dev/null")[1], 90)


def connections(m):
    """A checkpoint disturbs none; what was open before a resume is reset on both sides."""
    idle = Idle(m)
    check("a connection of the guest works", idle.works("before"))
    m.ctl("checkpoint", "create", m.name, "connected")
    check("taking a checkpoint disturbs no connection", idle.works("after"))
    m.ctl("save", m.name)
    check("when the machine is saved, the other side hears that it is over", idle.gone_here())
    m.resume()
    check("after a resume an idle connection is reset in the guest", idle.gone_there())
    check("and new ones work", Idle(m).works("new"))
    m.ctl("checkpoint", "apply", m.name, "connected")
    m.attach()
    check("after a checkpoint was applied as well", idle.gone_there())
    check("and new ones work then", Idle(m).works("newer"))
    m.ctl("checkpoint", "delete", m.name, "connected")


def trying(m, two, three):
    """A disposable machine from a checkpoint, beside the running one."""
    now = state(m)
    id = m.ctl("checkpoint", "try", m.name, "second").stdout.strip()
    t = Copy(m.o, id)
    t.attach()
    check("a try goes on from the checkpoint", state(t) == f"two {two}", state(t))
    check("without network", t.says("cat /sys/class/net/eth0/carrier") == "0")
    write(t, "other")
    check("and changes nothing of the machine", state(m) == now, state(m))
    folder = t.folder_of(id)
    m.ctl("turn-off", id)
    check("it is gone when it is turned off",
          wait_for(lambda: not os.path.exists(folder + "/machine.ini")) and
          id not in [x["id"] for x in machines(m.o)], os.listdir(folder))


def transfers(m, two):
    """Exported, imported, moved; what was exported lives on as a machine of its own."""
    file = f"{m.o.top}/second.vireo"
    m.ctl("checkpoint", "export", m.name, "second", file)
    names = subprocess.run(["tar", "--zstd", "-tf", file], capture_output=True, text=True)
    check("an export is an archive that others can read", "machine.ini" in names.stdout.split(),
          names.stderr)
    again = m.ctl("checkpoint", "export", m.name, "second", file, ok=False)
    check("an export replaces nothing unasked", again.returncode != 0, again)
    place = f"{m.o.top}/elsewhere"
    os.mkdir(place)
    m.ctl("import", file, "--name", "copy", "--place", place)
    c = Copy(m.o, "copy")
    check("an import lies where it was wanted", os.path.exists(f"{place}/copy/machine.ini"))
    c.resume()
    check("an imported checkpoint goes on as it was", state(c) == f"two {two}", state(c))
    c.ctl("save", "copy")
    c.ctl("move", "copy")
    check("a machine moves into the store", not os.path.exists(f"{place}/copy") and
          not os.path.islink(c.folder()))
    os.mkdir(f"{m.o.top}/there")
    c.ctl("move", "copy", f"{m.o.top}/there")
    c.ctl("rename", "copy", "renamed")
    c.name = "renamed"
    whole = f"{m.o.top}/whole.vireo"
    c.ctl("export", "renamed", whole)
    c.resume()
    check("saved, moved, renamed, it resumes", state(c) == f"two {two}", state(c))
    c.ctl("turn-off", "renamed")
    c.ctl("delete", "renamed", "--yes")
    bad = bytearray(open(whole, "rb").read())
    bad[len(bad) // 2] ^= 4
    open(f"{m.o.top}/bad.vireo", "wb").write(bad)
    r = m.ctl("import", f"{m.o.top}/bad.vireo", ok=False)
    left = [f for f in os.listdir(os.environ["XDG_DATA_HOME"] + "/vireo") if f[0] == "."]
    check("a damaged export is refused, with the reason, and leaves nothing",
          r.returncode and "damaged" in r.stderr and not left, (r.stderr, left))
    m.ctl("import", whole, "--name", "again")
    c = Copy(m.o, "again")
    c.resume()
    check("an export outlives its machine", state(c) == f"two {two}", state(c))
    c.ctl("turn-off", "again")
    c.ctl("delete", "again", "--yes")


def starts(m):
    """With the session: what ran before, or is set to."""
    m.ctl("set", m.name, "automatic.start=if-running")
    m.ctl("autostart")
    check("what did not run is not started", m.ctl("status", m.name).stdout.strip() == "off")
    m.ctl("set", m.name, "automatic.start=always", "automatic.start-delay=1")
    m.ctl("autostart")
    check("what is to start with the session is",
          m.ctl("status", m.name).stdout.strip() == "running")
    m.ctl("turn-off", m.name)
    m.ctl("set", m.name, "automatic.start=never")


def deleting(m, two):
    m.ctl("checkpoint", "delete", m.name, "first")
    m.ctl("checkpoint", "delete", m.name, "second")
    check("deleted checkpoints are gone", m.list() == [])
    check("the guest goes on while layers are merged", state(m) == f"two {two}", state(m))
    m.ctl("turn-off", m.name)
    m.ctl("checkpoint", "create", m.name, "off")
    check("a checkpoint of a machine that is off", [c["name"] for c in m.list()] == ["off"])
    m.ctl("checkpoint", "delete", m.name, "off")
    left = [f for f in os.listdir(m.folder()) if f.endswith(".avhdx")]
    check("nothing of them is left", not left and not os.listdir(m.folder() + "/states"), left)
    starts(m)
    m.start()
    m.wait("VIREO-READY", 240)
    sum_now = m.says("echo $(md5sum </dev/sda)")
    check("and the disk is what it was", sum_now == two, sum_now)


def main():
    o = arguments(("--connections", {"action": "store_true", "help": "look at NAT connections, too"}))
    with own_store(o):
        make_initrd(o, MODULES, f"{HERE}/worker-guest.sh")
        m = Kept(o, "kept")
        try:
            subprocess.run([o.vireoctl, "disk", "create", f"{o.top}/d.vhdx", "--size", "64M"], check=True)
            m.ctl("set", "kept", f"disk0.path={o.top}/d.vhdx", "adapter0.host-access=true")
            m.start()
            m.wait("VIREO-READY", 240)
            one = save(m)
            if o.connections:
                connections(m)
            two, three = checkpoints(m, one)
            trying(m, two, three)
            transfers(m, two)
            deleting(m, two)
        finally:
            m.ctl("turn-off", m.name, ok=False)
    print(f"{len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
