#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines run by vireo-vm and controlled by vireoctl, whole: screen, keyboard, mouse, network by NAT
and private switch, sockets, memory, disks and adapters that come and go, the sandbox, death of a worker.

    worker.py --vireoctl V --worker W --guests DIR --vsock VSOCK-GUEST [--accel soft]
"""
import argparse, contextlib, http.server, json, os, re, shutil, signal, socket, struct, subprocess, sys
import tempfile, threading, time, zlib

HERE = os.path.dirname(os.path.abspath(__file__))
failures = []
GONE = "i=0; while [ -e %s ] && [ $i -lt 300 ]; do sleep 0.1; i=$((i+1)); done; [ $i -lt 300 ]"


def check(what, ok, detail=""):
    print(("ok   " if ok else "FAIL ") + what + ("" if ok else f": {detail}"), flush=True)
    if not ok:
        failures.append(what)


def arguments(*more):
    """What all of these scripts are called with; `more`: (name, keywords) of add_argument."""
    p = argparse.ArgumentParser()
    p.add_argument("--vireoctl", required=True)
    p.add_argument("--worker", required=True)
    p.add_argument("--guests", required=True)
    p.add_argument("--accel", default="soft")
    p.add_argument("--initrd", help="made already (tests/nested/script.py)")
    for name, keywords in more:
        p.add_argument(name, **keywords)
    o = p.parse_args()
    o.vireoctl, o.worker, o.guests = map(os.path.abspath, (o.vireoctl, o.worker, o.guests))
    if not os.path.exists(f"{o.guests}/kernels/full/vmlinuz"):
        print("the tests' kernels are not there (tests/guests/prepare)")
        sys.exit(77)
    return o


def use_store(o):
    """Machines are stored and run below o.top, which is there."""
    os.environ.update(XDG_RUNTIME_DIR=f"{o.top}/run", XDG_DATA_HOME=f"{o.top}/data", VIREO_WORKER=o.worker,
                      VIREO_NO_SYSTEMD="1")
    os.mkdir(f"{o.top}/run", 0o700)


@contextlib.contextmanager
def own_store(o):
    """A store of the script's own, gone with what is below."""
    o.top = tempfile.mkdtemp(prefix="vt-")
    try:
        use_store(o)
        yield
    finally:
        shutil.rmtree(o.top, ignore_errors=True)


def make_initrd(o, modules, script, *more):
    if o.initrd:
        return
    o.initrd = f"{o.top}/i.cpio.gz"
    subprocess.run([f"{HERE}/../guests/mkinitrd", "--guests", o.guests, "--out", o.initrd, "--kernel", "full",
                    "--modules", modules, "--script", script, *more], check=True)


def png_pixels(path):
    """Width, height and how many pixels are not black (8-bit RGB, filter 0)."""
    data = open(path, "rb").read()
    width, height = struct.unpack(">II", data[16:24])
    at, z = 8, b""
    while at < len(data):
        n, kind = struct.unpack(">I4s", data[at:at + 8])
        if kind == b"IDAT":
            z += data[at + 8:at + 8 + n]
        at += 12 + n
    raw, lit = zlib.decompress(z), 0
    for y in range(height):
        row = raw[y * (width * 3 + 1) + 1:(y + 1) * (width * 3 + 1)]
        lit += width * 3 - row.count(0)
    return width, height, lit // 3


class Machine:
    def __init__(self, o, name, *settings):
        self.o, self.name = o, name
        self.ctl("create", name, "--memory", "320M", "--kernel",
                 f"{o.guests}/kernels/full/vmlinuz", "--initrd", o.initrd, "--append",
                 "console=tty0 console=ttyS0 do=script", f"processor.accel={o.accel}", *settings)
        self.serial = None

    def ctl(self, *args, ok=True, timeout=300):
        r = subprocess.run([self.o.vireoctl, *args], capture_output=True, text=True, timeout=timeout)
        if ok and r.returncode:
            raise SystemExit(f"vireoctl {' '.join(args)}: {r.stderr}")
        return r

    def start(self):
        self.ctl("start", self.name)
        self.serial = subprocess.Popen([self.o.vireoctl, "serial", self.name],
                                       stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        os.set_blocking(self.serial.stdout.fileno(), False)
        self.text = ""

    def wait(self, what, seconds):
        end = time.monotonic() + seconds
        while not (m := re.search(what, self.text)):
            if time.monotonic() > end:
                raise SystemExit(f"{self.name}: no {what} in {seconds} s:\n{self.text[-3000:]}")
            self.text += (self.serial.stdout.read() or b"").decode(errors="replace")
            time.sleep(0.05)
        return m

    def do(self, command, seconds=60):
        """Runs a line in the guest: (status, output)."""
        self.text = ""
        self.serial.stdin.write(command.encode() + b"\n")
        self.serial.stdin.flush()
        status = int(self.wait(r"VIREO-STATUS (\d+)", seconds).group(1))
        return status, self.text.split("VIREO-STATUS")[0].replace("\r", "")

    def info(self, *topic):
        return json.loads(self.ctl("info", self.name, *topic, "--json").stdout)

    def state(self):
        r = self.ctl("info", self.name, "--json", ok=False)
        return json.loads(r.stdout)[0]["State"] if r.returncode == 0 else "off"

    def wait_off(self, seconds):
        end = time.monotonic() + seconds
        while self.state() != "off" and time.monotonic() < end:
            time.sleep(0.2)
        return self.state() == "off"


def screen(m, o):
    shot = os.path.join(o.top, "shot.png")
    end, first = time.monotonic() + 60, (0, 0, 0)
    while time.monotonic() < end and first[2] < 2000:
        if m.ctl("screenshot", m.name, shot, ok=False).returncode == 0:
            first = png_pixels(shot)
        time.sleep(0.2)
    check("the kernel's first lines are on the boot framebuffer", first[:2] == (1024, 768) and
          first[2] > 2000 and "VIREO-READY" not in m.text, first)
    m.wait("VIREO-READY", 180)
    m.ctl("type", m.name, "clear; echo typed-$((6*7)) | tee /dev/ttyS0\\n")
    m.wait("typed-42", 30)
    time.sleep(1)
    m.ctl("screenshot", m.name, shot)
    later = png_pixels(shot)
    check("typing reaches the shell on the screen, which hyperv_drm draws",
          later[:2] == (1024, 768) and 200 < later[2] < first[2], later)
    status, text = m.do("basename $(readlink /sys/class/graphics/fb0/device/driver)")
    check("the screen is hyperv_drm's", "hyperv_drm" in text, text)
    m.serial.stdin.write(b"head -c 24 /dev/input/event1 | hexdump -C\n")
    m.serial.stdin.flush()
    time.sleep(1)
    m.text = ""
    m.ctl("mouse", m.name, "512", "384", "left", "wheel-down")
    check("the mouse moves", bool(m.wait(r"03 00 00 00|03 00 0[01] 00", 20)))
    m.wait("VIREO-STATUS", 20)


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"reached-the-host\n")

    def log_message(self, *args):
        pass


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def host_resolves():
    try:
        return socket.gethostbyname("deb.debian.org")
    except OSError:
        return None


def iperf(m, host, port, *args):
    status, text = m.do(f"iperf3 -J -c {host} -p {port} -t 2 {' '.join(args)}", 60)
    try:
        end = json.loads(text[text.index("{"):text.rindex("}") + 1])["end"]
        return end["sum_received"]["bits_per_second"] / 1e6
    except (ValueError, KeyError):
        return 0


def serve_iperf(port):
    return subprocess.Popen(["iperf3", "-s", "-1", "-B", "127.0.0.1", "-p", str(port)],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def nat(m, o):
    address = m.info()[0]["Adapters"]
    mine = re.search(r"10\.203\.\d+\.\d+", address).group(0)
    status, text = m.do("ip -4 addr show eth0")
    check("DHCP gives the machine its own address", mine in text, text)
    if host_resolves():
        status, text = m.do("nslookup deb.debian.org", 30)
        check("names are resolved", status == 0 and host_resolves() in text, text)
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    get = f"printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 5 10.203.0.2 {web.server_port}"
    status, text = m.do(get, 30)
    check("the host's loopback is out of reach", "reached" not in text, text)
    forward = free_port()
    m.ctl("nic", "set", m.name, "net0", "nat", "--host-access", "--forward", f"tcp:{forward}:5201")
    status, text = m.do(get, 30)
    check("and in reach when that is allowed", "reached-the-host" in text, text)
    rates = []
    for more in ((), ("-R",)):
        port = free_port()
        server = serve_iperf(port)
        time.sleep(0.5)
        rates.append(iperf(m, "10.203.0.2", port, *more))
        server.kill()
        server.wait()
    check("iperf3 runs both ways", min(rates) > 1, rates)
    rows = m.info("adapters")[0]
    check("large packets cross whole both ways",
          rows["bytes-out"] / rows["frames-out"] > 2500 and
          rows["bytes-in"] / rows["frames-in"] > 2500, rows)
    print(f"     guest to host {rates[0]:.0f} Mbit/s, host to guest {rates[1]:.0f} Mbit/s")
    m.do("iperf3 -s -D -1; sleep 1")
    r = subprocess.run(["iperf3", "-c", "127.0.0.1", "-p", str(forward), "-t", "1"],
                       capture_output=True, text=True, timeout=60)
    check("a forwarded port leads into the guest", r.returncode == 0, r.stdout + r.stderr)
    web.shutdown()


def private_switch(a, b):
    for m, last in ((a, 1), (b, 2)):
        m.ctl("nic", "add", m.name, "private:lan", "--mac", f"00:15:5d:77:00:0{last}")
        m.do("i=0; while [ ! -e /sys/class/net/eth1 ] && [ $i -lt 50 ]; do sleep 0.2; "
             "i=$((i+1)); done")
        m.do(f"ip link set eth1 up; ip addr add 192.168.77.{last}/24 dev eth1")
    status, text = a.do("ping -c 3 -w 15 192.168.77.2", 30)
    check("two machines meet on a private switch", status == 0, text)
    b.do("iperf3 -s -D -1; sleep 1")
    rate = iperf(a, "192.168.77.2", 5201)
    check("and move data", rate > 1, rate)
    print(f"     machine to machine {rate:.0f} Mbit/s")
    meets = "i=0; until ping -c 1 -W 1 192.168.77.2 >/dev/null || [ $i -ge 60 ]; do i=$((i+1)); done; [ $i -lt 60 ]"
    a.ctl("nic", "set", a.name, "net1", "private:lan", "--vlan", "5")
    status, text = a.do("ping -c 2 -w 4 192.168.77.2", 30)
    check("a VLAN parts them", status != 0, text)
    b.ctl("nic", "set", b.name, "net1", "private:lan", "--vlan", "5", "--bandwidth", "2")
    check("the same one joins them", a.do(meets, 120)[0] == 0)
    b.ctl("nic", "set", b.name, "net1", "private:lan", "--cable", "out", "--bandwidth", "0")
    status, text = b.do("i=0; until grep -q 0 /sys/class/net/eth1/carrier || [ $i -ge 100 ]; do sleep 0.2; i=$((i+1)); done; "
                        "grep -q 0 /sys/class/net/eth1/carrier", 60)
    check("a cable that is pulled out is seen", status == 0, text)
    b.ctl("nic", "set", b.name, "net1", "private:lan", "--cable", "in")
    check("and one that is put in", a.do(meets, 120)[0] == 0)
    b.ctl("nic", "remove", b.name, "net1")
    status, text = b.do(GONE % "/sys/class/net/eth1")
    check("an adapter is taken away", status == 0, text)
    status, text = a.do("ping -c 1 -w 2 192.168.77.2", 30)
    check("and nobody answers there", status != 0, text)


def resized(m, o):
    """A disk in use gets another size; the guest sees it with its next requests."""
    image = os.path.join(o.top, "grows.vhdx")
    m.ctl("disk", "create", image, "--size", "64M", "--block-size", "1M")
    made = m.ctl("disk", "add", m.name, image).stdout.strip()
    wait = ("i=0; while [ \"$(cat /sys/block/sda/size 2>/dev/null)\" != %d ] && [ $i -lt 300 ]; do sleep 0.1; i=$((i+1)); "
            "dd if=/dev/sda of=/dev/null bs=4k count=1 iflag=direct 2>/dev/null; done; ")
    m.do(wait % 131072 + "(while dd if=/dev/zero of=/dev/sda bs=64k count=64 oflag=direct 2>/dev/null; do :; done) & busy=$!", 60)
    m.ctl("disk", "resize", image, "160M")
    status, out = m.do(wait % 327680 + "cat /sys/block/sda/size; "
                       "printf far | dd of=/dev/sda bs=1 seek=167772157 conv=fsync,notrunc 2>/dev/null", 120)
    check("a disk in use grows, and its guest writes to the new end", status == 0 and "327680" in out, out)
    r = m.ctl("disk", "resize", image, "32M", ok=False)
    check("a disk in use does not lose data", r.returncode == 1 and "data" in r.stderr, r.stderr)
    m.do("kill $busy; wait $busy; sync", 60)  # there are other jobs
    m.ctl("disk", "remove", m.name, made)
    info = json.loads(m.ctl("disk", "info", image, "--json").stdout)
    m.ctl("disk", "check", image)
    raw = os.path.join(o.top, "grown.raw")
    m.ctl("disk", "convert", image, raw)
    with open(raw, "rb") as f:
        f.seek(-3, 2)
        check("what was written there is there", info["size"] == 160 << 20 and f.read() == b"far", info)


def disks(m, o):
    image = os.path.join(o.top, "disk.img")
    with open(image, "wb") as f:
        f.truncate(16 << 20)
    made = m.ctl("disk", "add", m.name, image).stdout.strip()
    status, text = m.do("i=0; while [ ! -e /dev/sda ] && [ $i -lt 50 ]; do sleep 0.2; "
                        "i=$((i+1)); done; echo whole | dd of=/dev/sda conv=fsync bs=512 seek=3 "
                        "2>/dev/null; sync", 30)
    m.ctl("disk", "remove", m.name, made)
    with open(image, "rb") as f:
        f.seek(3 * 512)
        check("a disk is added, written, and taken away", f.read(5) == b"whole", status)
    status, text = m.do(GONE % "/dev/sda")
    check("the guest sees it go", status == 0, text)


def echoed(s, said):
    s.settimeout(60)
    s.sendall(said)
    got = b""
    while len(got) < len(said) and (more := s.recv(65536)):
        got += more
    return got == said


def give_back(listener):
    with contextlib.suppress(OSError):  # closed
        while True:
            s, _ = listener.accept()

            def run(s=s):
                while data := s.recv(65536):
                    s.sendall(data)
                s.close()
            threading.Thread(target=run, daemon=True).start()


def sockets(m, o):
    """Programs in the guest: by vireoctl, and by the socket for other programs of the host."""
    m.text = ""
    m.serial.stdin.write(b"vsock-guest echo 5000 & echo VIREO-BEGUN\n")
    m.serial.stdin.flush()
    m.wait("VSOCK-LISTENS 5000", 60)
    r = subprocess.run([o.vireoctl, "vsock", m.name, "5000"], input=b"by-vireoctl" * 1000, capture_output=True, timeout=60)
    check("vireoctl vsock speaks with a program in the guest", r.stdout == b"by-vireoctl" * 1000, (len(r.stdout), r.stderr))
    path = next(os.path.join(at, "vsock") for at, _, names in os.walk(f"{o.top}/run") if "vsock" in names)
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        s.sendall(b"CONNECT 5000\n")
        answer = s.recv(64)
        check("so does another program, by CONNECT", re.fullmatch(rb"OK \d+\n", answer) and echoed(s, b"whole" * 50000), answer)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path + "_6000")
        s.listen(64)
        threading.Thread(target=give_back, args=(s,), daemon=True).start()
        status, text = m.do("vsock-guest talk 6000 8 50000", 120)
        check("the guest's programs find the host's", status == 0 and "VSOCK-TALKED 8 bad 0" in text, text)
    status, text = m.do("vsock-guest talk 6001 1 5", 120)
    check("but only those that are there", status != 0, text)


def until(what, seconds=60):
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:
        time.sleep(0.2)
    return what()


def memory_and_keys(m, o):
    m.ctl("memory", m.name, "256M")
    check("memory is taken back", until(lambda: m.info("memory")[0]["assigned"] == 256 << 20), m.info("memory"))
    m.ctl("memory", m.name, "320M")
    check("and given again", until(lambda: m.info("memory")[0]["assigned"] == 320 << 20), m.info("memory"))
    m.text = ""
    m.ctl("type", m.name, "echo keyed-$((6*7)) >/dev/ttyS0")
    m.ctl("key", m.name, "enter")
    check("single keys are pressed", bool(m.wait("keyed-42", 60)))
    rows = {row["device"]: row for row in m.info("vmbus") if row["channel"] == 0}
    check("every channel can be looked at", all(rows[d]["state"] == "open" and rows[d]["packets-in"] for d in
                                                ("keyboard", "netvsp", "storvsp", "balloon")), rows)


def connections(m):
    """Programs that asked and went leave nothing behind."""
    pid = m.info()[0]["ProcessId"]

    def open_files():
        return len(os.listdir(f"/proc/{pid}/fd"))
    before = open_files()
    for _ in range(40):
        m.info()
    check("40 connections that ended are held no more", until(lambda: open_files() < before + 10), (before, open_files()))


def life(m, o):
    worker = m.info("worker")[0]
    check("the worker is in its sandbox", worker["sandboxed"] == 1, worker)
    m.ctl("pause", m.name)
    check("pauses", m.state() == "paused", m.state())
    m.ctl("resume", m.name)
    status, text = m.do("echo still-here")
    check("and goes on", "still-here" in text, text)
    m.ctl("shutdown", m.name)
    check("the guest shuts down when asked", m.wait_off(60), m.state())
    m.serial.wait(60)


def killed(m):
    os.kill(m.info("worker")[0]["pid"], signal.SIGKILL)
    check("a killed worker's machine is off", m.wait_off(60), m.state())
    m.start()
    check("and can be started again", m.state() == "running", m.state())
    r = m.ctl("start", m.name, ok=False)
    check("but not twice", r.returncode == 1, r.stdout + r.stderr)
    m.ctl("turn-off", m.name)
    check("and turned off", m.wait_off(60), m.state())


def main():
    o, machines = arguments(("--vsock", {"required": True})), []
    with own_store(o):
        make_initrd(o, "hv_vmbus hv_netvsc hv_storvsc sd_mod hyperv_keyboard hid_hyperv hid_generic hyperv_drm "
                    "hv_utils hv_balloon hv_sock evdev", f"{HERE}/worker-guest.sh", "--binary", "/usr/bin/iperf3", "--binary", o.vsock)
        try:
            a = Machine(o, "a")
            machines.append(a)
            a.start()
            screen(a, o)
            nat(a, o)
            sockets(a, o)
            memory_and_keys(a, o)
            b = Machine(o, "b", "video.memory=16")
            machines.append(b)
            b.start()
            b.wait("VIREO-READY", 180)
            private_switch(a, b)
            disks(a, o)
            resized(a, o)
            connections(a)
            life(a, o)
            killed(b)
        finally:
            for m in machines:
                m.ctl("turn-off", m.name, ok=False)
    print(f"{len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
