#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian in which fio verifies what it wrote and iperf3 sends a stream is checkpointed at random moments,
reverted at random, saved and resumed in a fresh process: checksums hold, the kernel's log stays clean, the
clock is right, a checkpoint breaks no connection, after anything else new ones are made, and the root's file
system is whole in the end.

    soak.py --vireoctl V --worker W --guests DIR [--rounds 50] [--seed N] [--accel soft]
"""
import base64, os, random, re, socket, subprocess, sys, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from worker import arguments, check, failures, own_store
from checkpoints import Kept, clock_is_right, wait_for

# fio stops at the first block that is not what it wrote.
FIO = """while fio --name=v --filename=/dev/sdb --size=48m --rw=randwrite --bsrange=4k-64k --direct=1 \\
    --ioengine=libaio --iodepth=8 --verify=crc32c --do_verify=1 --verify_fatal=1 --output=/tmp/fio.log; do
    echo >>/tmp/rounds
done
cp /tmp/fio.log /tmp/bad
"""
# KVM runs in an emulated machine here: what a slow host looks like to the guest is no fault. One that never ends is.
PATIENCE = " rcupdate.rcu_cpu_stall_timeout=300 nosoftlockup"
STREAM = "while true; do iperf3 -c 10.203.0.2 -p %d -t 86400 >/dev/null 2>&1; sleep 1; done\n"


class Debian(Kept):
    """The tests' Debian (tests/guests/mkdebian) with a disk of its own for fio."""
    def __init__(self, o, name):
        self.o, self.name, self.serial = o, name, None
        made = f"{o.guests}/debian"
        self.ctl("create", name, "--memory", "512M", "--kernel", f"{made}/vmlinuz", "--initrd", f"{made}/initrd",
                 "--append", "console=ttyS0 quiet init=/usr/local/sbin/test-init" + PATIENCE * (o.accel == "kvm"),
                 f"processor.accel={o.accel}",
                 "adapter0.host-access=true")
        self.ctl("disk", "convert", f"{made}/root.ext4", f"{self.folder()}/root.vhdx", timeout=300)
        subprocess.run([o.vireoctl, "disk", "create", f"{self.folder()}/d.vhdx", "--size", "48M"], check=True)
        self.ctl("set", name, "disk0.path=root.vhdx", "disk1.path=d.vhdx")

    def do(self, command, seconds=120):
        self.text = ""
        self.serial.stdin.write(command.encode() + b"\n")
        self.serial.stdin.flush()
        status = int(self.wait(r"STATUS (\d+)", seconds).group(1))
        return status, self.text.split("STATUS")[0].replace("\r", "")


def begin(m, script):
    m.do(f"echo {base64.b64encode(script.encode()).decode()} | base64 -d | setsid sh >/dev/null 2>&1 &")


class Stream:
    """iperf3's server, and what it says: connections, and that something comes."""
    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as s:
            self.port = s.getsockname()[1]
        self.connections = self.lines = 0
        self.server = subprocess.Popen(["iperf3", "-s", "-B", "127.0.0.1", "-p", str(self.port), "-i", "0.5",
                                        "--forceflush"], stdout=subprocess.PIPE, text=True)
        threading.Thread(target=self.follow, daemon=True).start()

    def follow(self):
        for line in self.server.stdout:
            self.connections += line.startswith("Accepted connection")
            self.lines += bool(re.search(r"sec +[1-9][0-9.]* [KMG]?Bytes", line))

    def flows(self):
        before = self.lines
        return wait_for(lambda: self.lines > before + 1, 120)


def healthy(m, what, stream):
    said = m.says('echo "bad=$(cat /tmp/bad 2>/dev/null | wc -l) log=$(dmesg | grep -v rcu_cpu_stall_timeout | grep -ciE '
                  '"i/o error|oops|bug:|hung|stall|corrupt|call trace")"')
    if said != "bad=0 log=0":
        check(f"{what}: checksums and log", False, said + m.do("cat /tmp/bad; dmesg | tail -40")[1])
    if not stream.flows():
        check(f"{what}: the stream goes on", False, stream.connections)


def step(m, i, names, stream):
    what = random.choice(["checkpoint", "checkpoint", "apply", "save"]) if names else "checkpoint"
    time.sleep(random.random() * 3)
    connections = stream.connections
    if what == "checkpoint":
        names.append(f"s{i}")
        m.ctl("checkpoint", "create", m.name, names[-1])
        healthy(m, f"round {i}, {what}", stream)
        if stream.connections != connections:
            check(f"round {i}: a checkpoint breaks no connection", False, stream.connections)
    elif what == "apply":
        m.ctl("checkpoint", "apply", m.name, random.choice(names))
        m.attach()
    else:
        m.ctl("save", m.name)
        m.resume()
    healthy(m, f"round {i}, {what}", stream)
    if len(names) > 5:
        m.ctl("checkpoint", "delete", m.name, names.pop(random.randrange(len(names))))
    return what


def whole(m):
    """Shut down, the root's file system has no fault, nor has any checkpoint."""
    m.ctl("checkpoint", "check", m.name)
    m.serial.stdin.write(b"mount -o remount,ro / 2>/dev/null; sync; poweroff -f\n")
    m.serial.stdin.flush()
    check("it powers off", m.wait_off(120))
    path = m.ctl("show", m.name, "disk0.path").stdout.strip()
    raw = f"{m.o.top}/root.raw"
    layers = os.path.join(m.folder(), path)
    # The worker has its disks a moment longer than its machine.
    wait_for(lambda: m.ctl("disk", "convert", layers, raw, ok=False, timeout=300).returncode == 0)
    r = subprocess.run(["/sbin/e2fsck", "-fp", raw], capture_output=True, text=True)
    check("the root's file system is whole", r.returncode <= 1, r.stdout[-2000:]) # 1: its journal was played


def main():
    o = arguments(("--rounds", {"type": int, "default": 50}), ("--seed", {"type": int, "default": int(time.time())}))
    if os.path.exists(f"{HERE}/../guests/mkdebian"):
        subprocess.run([f"{HERE}/../guests/mkdebian", o.guests], check=True)
    random.seed(o.seed)
    print(f"seed {o.seed}", flush=True)
    with own_store(o):
        m, stream, names, done = Debian(o, "soaked"), Stream(), [], {}
        try:
            m.start()
            m.wait("TEST-INIT", 300)
            begin(m, FIO)
            begin(m, STREAM % stream.port)
            check("the stream begins", bool(stream.flows()))
            started = time.monotonic()
            for i in range(o.rounds):
                what = step(m, i, names, stream)
                done[what] = done.get(what, 0) + 1
                if failures:
                    break
                if i % 10 == 9:
                    print(f"{i + 1} rounds in {time.monotonic() - started:.0f} s: {done}", flush=True)
            clock_is_right(m, "at the end")
            rounds = int(m.says("cat /tmp/rounds 2>/dev/null | wc -l"))
            check(f"{o.rounds} rounds ({done}), fio's {rounds}: nothing lost, nothing torn", not failures)
            whole(m)
        finally:
            stream.server.kill()
            m.ctl("turn-off", m.name, ok=False)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
