#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Workers and vireoctl are killed at random points of what they do to a running machine: checkpoint, apply,
delete with its merge, save, export. Each time the machine is then as before or as after: no flushed write of
the guest is lost, every checkpoint reads, nothing is left for good.

    kills.py --vireoctl V --worker W --guests DIR [--kills 100] [--seed N] [--accel soft]
"""
import json, os, random, re, signal, subprocess, sys, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from worker import Machine, arguments, check, failures, make_initrd, own_store

MODULES = "hv_vmbus hv_storvsc sd_mod hv_utils"
# Counts on the disk, each number flushed before it is told.
GUEST = """stty -echo </dev/ttyS0
i=0
while true; do
    i=$((i+1))
    printf '%-512d' $i | dd of=/dev/sda bs=512 seek=$((i % 4096)) conv=fsync,notrunc 2>/dev/null
    printf '%-512d' $i | dd of=/dev/sda bs=512 seek=8000 conv=fsync,notrunc 2>/dev/null && echo "F$i."
done
"""


class Killed(Machine):
    def listen(self):
        """Follows what the guest says it has flushed."""
        self.flushed = 0
        p = subprocess.Popen([self.o.vireoctl, "serial", self.name], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE)
        self.serial = p

        def follow():
            text = b""
            while chunk := os.read(p.stdout.fileno(), 4096):
                text = (text + chunk)[-200:]
                for n in re.findall(rb"F(\d+)\.", text):
                    self.flushed = int(n)
        threading.Thread(target=follow, daemon=True).start()

    def flushes(self, more, seconds=240):
        want, end = self.flushed + more, time.monotonic() + seconds
        while self.flushed < want:
            if time.monotonic() > end:
                raise SystemExit(f"the guest flushes nothing any more ({self.flushed})")
            time.sleep(0.01)

    def folder(self):
        top = os.environ["XDG_DATA_HOME"] + "/vireo/"
        return top + json.loads(self.ctl("list", "--json").stdout)[0]["id"]

    def pid(self):
        return json.loads(self.ctl("status", self.name, "--json").stdout)["worker"]

    def on_disk(self):
        """What the machine's disk says now."""
        path = self.ctl("show", self.name, "disk0.path").stdout.strip()
        raw = f"{self.o.top}/now.raw"
        self.ctl("disk", "convert", os.path.join(self.folder(), path), raw, "--force")
        with open(raw, "rb") as f:
            f.seek(8000 * 512)
            return int(f.read(512).strip(b"\0 ") or b"0")

    def list(self):
        return json.loads(self.ctl("checkpoint", "list", self.name, "--json").stdout)


def operation(m, what, names):
    """The command, in a process of its own."""
    other = [n for n in names if n != "base"]
    verb = {"create": ["checkpoint", "create", m.name, f"c{random.getrandbits(32):x}"],
            "save": ["save", m.name],
            "export": ["checkpoint", "export", m.name, "base", f"{m.o.top}/x.vireo", "--replace"],
            "apply": ["checkpoint", "apply", m.name, random.choice(names)],
            "delete": ["checkpoint", "delete", m.name, random.choice(other or ["base"])]}[what]
    if what == "delete" and not other:
        verb = ["checkpoint", "create", m.name, "again"]
    return verb, subprocess.Popen([m.o.vireoctl, *verb], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)


def kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def gone(m):
    """No worker holds the machine any more, a fresh one that an apply has just started included."""
    for _ in range(300):
        r = json.loads(m.ctl("status", m.name, "--json").stdout)
        if r["state"] in ("off", "saved"):
            return
        kill(r.get("worker", 1 << 22))
        time.sleep(0.05)


def one(m, values):
    """One kill. `values`: what each checkpoint has on its disk."""
    names = [c["name"] for c in m.list()]
    what = random.choice(["create", "create", "apply", "delete", "delete", "save", "export"])
    m.ctl("start", m.name)
    m.listen()
    m.flushes(random.randint(1, 4))
    pid = m.pid()
    verb, p = operation(m, what, names)
    time.sleep(random.choice([0.05, 0.3, 1.0]) * random.random())
    if random.random() < 0.8:
        kill(pid)
    if random.random() < 0.5:
        p.kill()
    p.wait()
    gone(m)
    m.serial.kill()
    flushed = m.flushed
    now = m.on_disk()
    fine = now >= flushed
    if what == "apply":
        low, high = values.get(verb[3], (0, 1 << 60))
        fine = fine or low <= now <= high + 1
    if not fine:
        check(f"{' '.join(verb)}: nothing flushed is lost", False, (flushed, now, values))
    for c in m.list():
        values.setdefault(c["name"], (flushed - 8, now + 1))
    r = m.ctl("checkpoint", "check", m.name, ok=False)
    if r.returncode:
        check(f"{' '.join(verb)}: every checkpoint reads", False, r.stdout)
    m.ctl("checkpoint", "apply", m.name, "base") # memory and all: the next one need not boot
    return what


def main():
    o = arguments(("--kills", {"type": int, "default": 100}), ("--seed", {"type": int, "default": int(time.time())}))
    random.seed(o.seed)
    print(f"seed {o.seed}", flush=True)
    with own_store(o):
        with open(f"{o.top}/script", "w") as f:
            f.write(GUEST)
        make_initrd(o, MODULES, f"{o.top}/script")
        m, done = Killed(o, "killed", "memory.startup=192"), {}
        try:
            m.ctl("set", "killed", "adapter0.switch=none")
            subprocess.run([o.vireoctl, "disk", "create", f"{m.folder()}/d.vhdx", "--size", "16M"],
                           check=True)
            m.ctl("set", "killed", "disk0.path=d.vhdx")
            m.ctl("start", "killed")
            m.listen()
            m.flushes(3)
            m.ctl("checkpoint", "create", "killed", "base")
            values = {"base": (0, m.flushed + 1)}
            m.ctl("turn-off", "killed")
            m.ctl("checkpoint", "apply", "killed", "base")
            begin = time.monotonic()
            for i in range(o.kills):
                what = one(m, values)
                done[what] = done.get(what, 0) + 1
                if failures:
                    break
                if i % 10 == 9:
                    print(f"{i + 1} kills in {time.monotonic() - begin:.0f} s: {done}", flush=True)
                if len(m.list()) > 6:
                    m.ctl("checkpoint", "delete", m.name, [c["name"] for c in m.list()][-1])
            m.ctl("checkpoint", "delete", m.name, "base", "--subtree")
            for c in m.list():
                m.ctl("checkpoint", "delete", m.name, c["id"], ok=False)
            m.ctl("start", m.name)
            m.ctl("turn-off", m.name)
            m.ctl("checkpoint", "create", m.name, "last")
            m.ctl("checkpoint", "delete", m.name, "last")
            left = [f for f in os.listdir(m.folder()) if f.endswith(".avhdx")]
            states = os.listdir(m.folder() + "/states")
            check(f"{sum(done.values())} of {o.kills} kills ({done}): nothing left for good", not left and not states,
                  (left, states))
        finally:
            m.ctl("turn-off", m.name, ok=False)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
