#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that writes and verifies its disk and sends a stream is checkpointed at random moments, reverted at
random, saved and resumed in a fresh process: checksums hold, the kernel's log stays clean, the clock is right,
a checkpoint breaks no connection and after anything else new ones are made.

    soak.py --vireoctl V --worker W --guests DIR [--rounds 50] [--seed N] [--accel soft]
"""
import argparse, os, random, shutil, socket, subprocess, sys, tempfile, threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
from worker import check, failures
from checkpoints import Kept, clock_is_right, wait_for

# Slots of 1 MiB on the disk; what each must hold is remembered in memory.
WORK = r"""
i=0
while true; do
    i=$((i+1)); slot=$((i*7%60))
    if [ -e /tmp/sum.$slot ]; then
        echo 3 >/proc/sys/vm/drop_caches
        [ "$(dd if=/dev/sda bs=1M skip=$slot count=1 2>/dev/null | md5sum)" = "$(cat /tmp/sum.$slot)" ] || echo $i >>/tmp/bad
    fi
    head -c 1048576 /dev/urandom >/tmp/block
    md5sum </tmp/block >/tmp/sum.$slot
    dd if=/tmp/block of=/dev/sda bs=1M seek=$slot conv=fsync,notrunc 2>/dev/null || echo $i >>/tmp/bad
    echo $i >/tmp/count
done
"""


class Stream:
    """Takes what the guest sends; a new connection whenever it makes one."""
    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.connections = self.bytes = 0
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            s, _ = self.listener.accept()
            self.connections += 1
            threading.Thread(target=self.read, args=(s,), daemon=True).start()

    def read(self, s):
        try:
            while data := s.recv(65536):
                self.bytes += len(data)
        except ConnectionError:
            pass

    def flows(self):
        before = self.bytes
        return wait_for(lambda: self.bytes > before, 120)


def healthy(m, what, stream):
    said = m.says('echo "bad=$(cat /tmp/bad 2>/dev/null | wc -l) log=$(dmesg | grep -ciE '
                  '"i/o error|oops|bug:|hung|stall|corrupt")"')
    if said != "bad=0 log=0":
        check(f"{what}: checksums and log", False, said + m.do("dmesg | tail -20")[1])
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


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--vireoctl", required=True)
    p.add_argument("--worker", required=True)
    p.add_argument("--guests", required=True)
    p.add_argument("--accel", default="soft")
    p.add_argument("--rounds", type=int, default=50)
    p.add_argument("--seed", type=int, default=int(time.time()))
    o = p.parse_args()
    if not os.path.exists(f"{o.guests}/kernels/full/vmlinuz"):
        print("the tests' kernels are not there (tests/guests/prepare)")
        return 77
    o.top = tempfile.mkdtemp(prefix="vs-", dir="/tmp")
    os.environ.update(XDG_RUNTIME_DIR=f"{o.top}/run", XDG_DATA_HOME=f"{o.top}/data",
                      VIREO_WORKER=os.path.abspath(o.worker), VIREO_NO_SYSTEMD="1")
    os.mkdir(f"{o.top}/run", 0o700)
    random.seed(o.seed)
    print(f"seed {o.seed}", flush=True)
    with open(f"{o.top}/work", "w") as f:
        f.write(WORK)
    o.initrd = f"{o.top}/i.cpio.gz"
    subprocess.run([f"{HERE}/../guests/mkinitrd", "--guests", o.guests, "--out", o.initrd, "--kernel",
                    "full", "--modules", "hv_vmbus hv_netvsc hv_storvsc sd_mod hv_utils", "--script",
                    f"{HERE}/worker-guest.sh", "--file", f"{o.top}/work=etc/work"], check=True)
    m, stream, names, done = Kept(o, "soaked"), Stream(), [], {}
    try:
        subprocess.run([o.vireoctl, "disk", "create", f"{o.top}/d.vhdx", "--size", "64M"], check=True)
        m.ctl("set", m.name, f"disk0.path={o.top}/d.vhdx", "adapter0.host-access=true")
        m.start()
        m.wait("VIREO-READY", 300)
        m.says("sh /etc/work >/dev/null 2>&1 & (while true; do yes stream | nc 10.203.0.2 "
               f"{stream.port}; sleep 1; done) >/dev/null 2>&1 & echo begun")
        for i in range(o.rounds):
            what = step(m, i, names, stream)
            done[what] = done.get(what, 0) + 1
            if failures:
                break
        clock_is_right(m, "at the end")
        count = int(m.says("cat /tmp/count"))
        check(f"{o.rounds} rounds ({done}): nothing lost, nothing torn", not failures and count > 0)
    finally:
        m.ctl("turn-off", m.name, ok=False)
        shutil.rmtree(o.top, ignore_errors=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
