#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a guest with busy memory stands still for a checkpoint, and how soon one that was applied
runs, seen from outside: the guest sends a datagram every millisecond. Beside QEMU's savevm and loadvm
of the same guest in the same run.

    run.py --vireoctl V --worker W --guests DIR [--mib 1024] [--rounds 5] [--accel soft] [--no-qemu]

On KVM, in a Debian under QEMU's TCG, both on it:

    ../../nested/script.py --vireoctl V --worker W --guests DIR --qemu bench/checkpoint/run --mib 256
"""
import argparse, json, os, re, shutil, socket, statistics, struct, subprocess, sys, tempfile
import threading, time

HERE = os.path.dirname(os.path.abspath(__file__))
MODULES = "hv_vmbus hv_netvsc hv_storvsc sd_mod hv_utils virtio_net virtio_blk virtio_pci"


class Ticks:
    """When each datagram came, and the guest's clock in it."""
    def __init__(self):
        self.s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.s.bind(("127.0.0.1", 0))
        self.port = self.s.getsockname()[1]
        self.list = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            data = self.s.recv(64)
            self.list.append((time.monotonic(), *struct.unpack("<QQ", data)))

    def wait(self, seconds=600, after=0.0):
        end = time.monotonic() + seconds
        while not self.list or self.list[-1][0] < after:
            if time.monotonic() > end:
                raise SystemExit("the guest sends nothing")
            time.sleep(0.01)

    def between(self, a, b):
        return [t for t in self.list if a <= t[0] <= b]

    def longest(self, a, b):
        """The longest silence, in milliseconds, and what the guest's own clock says of it."""
        t = self.between(a, b)
        i = max(range(1, len(t)), key=lambda k: t[k][0] - t[k - 1][0])
        return (t[i][0] - t[i - 1][0]) * 1000, (t[i][2] - t[i - 1][2]) / 1e6


def ctl(o, *args):
    r = subprocess.run([o.vireoctl, *args], capture_output=True, text=True, timeout=600)
    if r.returncode:
        raise SystemExit(f"vireoctl {' '.join(args)}: {r.stderr}")
    return r.stdout


def make_guest(o, initrd):
    busy = f"{o.top}/busy"
    subprocess.run(["cc", "-O2", "-static", "-o", busy, f"{HERE}/busy.c"], check=True)
    with open(f"{o.top}/script", "w") as f:
        f.write("""cat >/tmp/lease <<'END'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip addr add $ip/${mask:-16} dev $interface
ip route add default via $router
END
chmod +x /tmp/lease
ip link set eth0 up
udhcpc -i eth0 -n -q -t 20 -s /tmp/lease
for word in $(cat /proc/cmdline); do case $word in busy=*) spec=${word#busy=} ;; esac; done
exec /bin/busy $(echo $spec | tr , ' ')
""")
    subprocess.run([f"{HERE}/../../guests/mkinitrd", "--guests", o.guests, "--out",
                    initrd, "--kernel", "full", "--modules", MODULES, "--script",
                    f"{o.top}/script", "--binary", busy], check=True)


def pages_in(path):
    """How many pages a memory image holds itself, by its map."""
    data, at, pages = open(path, "rb").read(), 0, 0
    while at < len(data):
        magic, id, _, _, _, n, _ = struct.unpack_from("<4s4sIHHII", data, at)
        payload = data[at + 24:at + 24 + n]
        if id in (b"MEMC", b"CMEM"):
            _, _, size = struct.unpack_from("<HHI", payload)
            for c in range(8, 8 + size, 68):
                for b in payload[c:c + 64]:
                    pages += sum((b >> s & 3) == 1 for s in (0, 2, 4, 6))
        at += 24 + n
    return pages


def size_of(folder, id):
    on_disk = sum(os.stat(f"{folder}/states/{id}{e}").st_blocks * 512
                  for e in (".ram", ".map", ".state"))
    return on_disk / (pages_in(f"{folder}/states/{id}.map") * 4096)


def said(folder):
    text = "".join(open(f"{folder}/{f}", errors="replace").read()
                   for f in os.listdir(folder) if f.endswith(".log"))
    return re.findall(r"stood still for [^\n\"]*", text)


def vireo(o, ticks):
    ctl(o, "create", "bench", "--memory", f"{o.mib + 512}M", "--kernel",
        f"{o.guests}/kernels/full/vmlinuz", "--initrd", o.initrd, "--append",
        f"console=ttyS0 quiet do=script busy=10.203.0.2,{ticks.port},{o.mib}",
        "adapter0.host-access=true", f"processor.accel={o.accel}")
    ctl(o, "start", "bench")
    folder = f"{o.top}/data/vireo/" + json.loads(ctl(o, "list", "--json"))[0]["id"]
    ticks.wait()
    time.sleep(5)
    now = time.monotonic()
    r = {"quiet": ticks.longest(now - 4, now)[0], "stalls": [], "clock": [], "sizes": [],
         "applied": []}
    for i in range(o.rounds):
        a = time.monotonic() - 0.2
        id = ctl(o, "checkpoint", "create", "bench", f"c{i}").strip()
        took = time.monotonic() - a
        time.sleep(0.5)
        gap, guest = ticks.longest(a, time.monotonic())
        r["stalls"].append(gap)
        r["clock"].append(guest)
        r["sizes"].append(size_of(folder, id))
        print(f"checkpoint {i}: silent for {gap:.1f} ms ({guest:.1f} by the guest's clock), written in "
              f"{took:.1f} s, {r['sizes'][-1]:.3f} of its pages on disk", flush=True)
    print("\n".join(said(folder)))
    for i in range(o.rounds):
        a = time.monotonic()
        ctl(o, "checkpoint", "apply", "bench", f"c{i}")
        ticks.wait(60, time.monotonic())
        last = [t for t in ticks.list if t[0] >= a]
        k = max(range(1, len(last)), key=lambda k: last[k][0] - last[k - 1][0])
        r["applied"].append((last[k][0] - a) * 1000)
        print(f"apply {i}: the guest speaks {r['applied'][-1]:.0f} ms after the command began, "
              f"silent for {(last[k][0] - last[k - 1][0]) * 1000:.0f} ms", flush=True)
        time.sleep(1)
    ctl(o, "turn-off", "bench")
    ctl(o, "delete", "bench", "--yes")
    return r


class Monitor:
    def __init__(self, path):
        self.s = socket.socket(socket.AF_UNIX)
        for _ in range(100):
            try:
                self.s.connect(path)
                break
            except OSError:
                time.sleep(0.1)
        self.answer()

    def answer(self):
        text = b""
        while not text.endswith(b"(qemu) "):
            text += self.s.recv(4096)
        return text

    def do(self, line):
        self.s.sendall(line.encode() + b"\n")
        return self.answer()


def qemu(o, ticks):
    disk, sock = f"{o.top}/q.qcow2", f"{o.top}/mon"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "64M"], check=True)
    p = subprocess.Popen(
        ["qemu-system-x86_64", "-accel", *(["kvm", "-cpu", "host", "-L", o.roms] if o.accel == "kvm" else ["tcg"]), "-m", f"{o.mib + 512}", "-display", "none", "-vga", "none", "-kernel",
         f"{o.guests}/kernels/full/vmlinuz", "-initrd", o.initrd, "-append",
         f"console=ttyS0 quiet do=script busy=10.0.2.2,{ticks.port},{o.mib}", "-nic", "none",
         "-netdev", "user,id=n", "-device", "virtio-net-pci,netdev=n,romfile=", "-drive", f"file={disk},if=virtio", "-monitor",
         f"unix:{sock},server,nowait", "-serial", "null"])
    try:
        ticks.list.clear()
        ticks.wait()
        time.sleep(5)
        m, stalls = Monitor(sock), []
        for i in range(min(o.rounds, 3)):
            a = time.monotonic() - 0.2
            m.do(f"savevm s{i}")
            ticks.wait(60, time.monotonic())
            time.sleep(0.5)
            stalls.append(ticks.longest(a, time.monotonic())[0])
            print(f"QEMU savevm: silent for {stalls[-1]:.0f} ms", flush=True)
        a = time.monotonic()
        m.do("loadvm s0")
        ticks.wait(60, time.monotonic())
        print(f"QEMU loadvm: {(time.monotonic() - a) * 1000:.0f} ms", flush=True)
        return stalls
    finally:
        p.kill()
        p.wait()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--vireoctl", required=True)
    p.add_argument("--worker", required=True)
    p.add_argument("--guests", required=True)
    p.add_argument("--mib", type=int, default=1024)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--accel", default="soft")
    p.add_argument("--no-qemu", action="store_true")
    p.add_argument("--json")
    p.add_argument("--initrd", help="what make_guest made")
    p.add_argument("--roms", default="/usr/share/qemu", help="QEMU's firmware")
    o = p.parse_args()
    o.top = tempfile.mkdtemp(prefix="vb-", dir=os.environ.get("TMPDIR", "/var/tmp"))
    os.environ.update(XDG_RUNTIME_DIR=f"{o.top}/run", XDG_DATA_HOME=f"{o.top}/data",
                      VIREO_WORKER=os.path.abspath(o.worker), VIREO_NO_SYSTEMD="1")
    os.mkdir(f"{o.top}/run", 0o700)
    o.vireoctl = os.path.abspath(o.vireoctl)
    try:
        if not o.initrd:
            o.initrd = f"{o.top}/initrd"
            make_guest(o, o.initrd)
        r = vireo(o, Ticks())
        r["qemu"] = [] if o.no_qemu else qemu(o, Ticks())
    finally:
        subprocess.run([o.vireoctl, "turn-off", "bench"], stderr=subprocess.DEVNULL)
        shutil.rmtree(o.top, ignore_errors=True)
    ours = statistics.median(r["stalls"])
    print(f"{o.mib} MiB busy: without checkpoints at most {r['quiet']:.1f} ms of silence; for one "
          f"{ours:.1f} ms (median), {max(r['stalls']):.1f} at most; applied after "
          f"{statistics.median(r['applied']):.0f} ms")
    if r["qemu"]:
        theirs = statistics.median(r["qemu"])
        print(f"QEMU stands still for {theirs:.0f} ms: {theirs / ours:.1f} times as long")
    if o.json:
        json.dump(r, open(o.json, "w"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
