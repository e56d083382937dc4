#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine of generation 1 in the store, as a person has it: saved and resumed in SeaBIOS, in GRUB's menu and in the
running system; after Hyper-V's drivers are up nothing goes through the emulated disks and adapter, without them all
does; discs are changed; iperf3 through the legacy adapter; a boot from the network; unreal mode, VBE, VGA modes and keyboard from real mode.

    pc.py --vireoctl V --worker W --guests DIR [--case hyperv|emulated|network|realmode]...
"""
import argparse, os, shutil, struct, subprocess, sys, tempfile, time, zlib

HERE = os.path.dirname(os.path.abspath(__file__))
GUESTS = os.path.join(HERE, "..", "guests")
sys.path.insert(0, HERE)
from worker import Machine, check, failures, png_pixels

CFG = """serial --unit=0 --speed=115200
terminal_input console
terminal_output serial console
set timeout=-1
menuentry hyperv {{
 linux /boot/full console=ttyS0 do=script,modules {args}
 initrd /boot/initrd
}}
"""
MODULES = "hv_vmbus hv_storvsc hv_netvsc hv_utils sd_mod ata_piix sr_mod isofs ext4 tulip"


class Pc(Machine):
    def __init__(self, o, name, disk, *settings):
        self.o, self.name, self.serial, self.text = o, name, None, ""
        self.ctl("create", name, "--generation", "1", "--memory", "320M", f"processor.accel={o.accel}", *disk, *settings)

    def attach(self):
        if self.serial:
            self.serial.kill()
            self.serial.wait()
        self.serial = subprocess.Popen([self.o.vireoctl, "serial", self.name], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE)
        os.set_blocking(self.serial.stdout.fileno(), False)
        self.text = ""
        time.sleep(0.5)

    def on(self):
        self.ctl("start", self.name)
        self.attach()

    def again(self, what):
        self.ctl("save", self.name)
        check(f"saved {what}", self.ctl("status", self.name).stdout.strip() == "saved")
        self.on()

    def says(self, command):
        return (self.do(command, 120)[1].strip().splitlines() or [""])[-1]

    def press_until(self, key, what, seconds=240):
        """A key, again as long as nothing happens: the firmware may not look yet."""
        end = time.monotonic() + seconds
        while what not in self.text and time.monotonic() < end:
            self.ctl("key", self.name, key)
            step = time.monotonic() + 3
            while what not in self.text and time.monotonic() < step:
                self.text += (self.serial.stdout.read() or b"").decode(errors="replace")
                time.sleep(0.1)
        check(f"{key} on the keyboard gives {what}", what in self.text, self.text[-1000:])

    def counters(self):
        disks = {d["id"]: (d["emulated-commands"], d["emulated-read"], d["emulated-written"]) for d in self.info("disks")}
        nics = [n["frames-in"] + n["frames-out"] for n in self.info("adapters") if n["legacy"]]
        return disks, nics


def make_disk(o, name, args):
    script, initrd, cfg, disk = (os.path.join(o.top, name + n) for n in (".sh", ".initrd", ".cfg", ".img"))
    with open(cfg, "w") as f:
        f.write(CFG.format(args=args))
    subprocess.run([f"{GUESTS}/mkinitrd", "--guests", o.guests, "--out", initrd, "--kernel", "full", "--modules", MODULES,
                    "--script", f"{HERE}/pc-guest.sh", "--binary", "/usr/bin/iperf3"], check=True)
    subprocess.run([f"{GUESTS}/mkbootdisk", disk, "64", cfg, f"{o.guests}/kernels/full/vmlinuz=boot/full",
                    f"{initrd}=boot/initrd"], check=True)
    return disk


def make_disc(o, name, text):
    folder, iso = os.path.join(o.top, name), os.path.join(o.top, name + ".iso")
    os.mkdir(folder)
    with open(f"{folder}/text", "w") as f:
        f.write(text)
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", iso, folder], check=True,
                   stderr=subprocess.DEVNULL)
    return iso


def stages(m, o):
    """Up to the running system, through a save in each."""
    m.on()
    shot, end = os.path.join(o.top, "shot.png"), time.monotonic() + 60
    lit = (0, 0, 0)
    while lit[2] < 300 and time.monotonic() < end:
        if m.ctl("screenshot", m.name, shot, ok=False).returncode == 0:
            lit = png_pixels(shot)
        time.sleep(0.05)
    m.text += (m.serial.stdout.read() or b"").decode(errors="replace")
    check("SeaBIOS is on the screen before anything else", lit[2] >= 300 and "GRUB" not in m.text, (lit, m.text))
    m.again("in SeaBIOS")
    m.wait("GNU GRUB", 120)
    m.again("in GRUB")
    m.press_until("enter", "VIREO-INIT")
    m.wait("VIREO-READY", 240)
    m.says("echo here >/tmp/word; mkdir -p /m; mount /dev/sda1 /m; dd if=/dev/urandom of=/m/data bs=1M count=4 2>/dev/null; "
           "sync; md5sum </m/data >/m/sum; sync")
    m.again("in the running system")
    m.says("echo 3 >/proc/sys/vm/drop_caches")
    check("memory and disk are as they were", m.says('[ "$(cat /tmp/word) $(md5sum </m/data)" = "here $(cat /m/sum)" ] && echo same')
          == "same")


WORK = ("echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/sda of=/dev/null bs=1M 2>/dev/null; "
        "dd if=/dev/zero of=/m/zero bs=64k count=64 conv=fsync 2>/dev/null; ping -q -c 3 10.203.0.2 >/dev/null && echo answered")


def discs(m, o):
    one, two = make_disc(o, "one", "first disc"), make_disc(o, "two", "second disc")
    read = ("mkdir -p /d; for i in 1 2 3 4 5 6 7 8 9; do mount -t iso9660 -o ro /dev/sr0 /d 2>/dev/null && break; sleep 1; "
            "done; cat /d/text; echo; umount /d")
    for iso, text in (one, "first disc"), (two, "second disc"):
        m.ctl("media", "insert", m.name, iso)
        got = m.says(read)
        check(f"the guest reads the {text}", got == text, got)
    m.ctl("media", "eject", m.name)
    status, _ = m.do("dd if=/dev/sr0 of=/dev/null count=1 2>/dev/null")
    check("no disc, nothing to read", status != 0)


def run_hyperv(o):
    m = Pc(o, "hyperv", ["--disk", make_disk(o, "h", "hyperv")], "disk1.media=dvd", "disk1.bus=ide", "disk1.slot=2",
           "adapter1.switch=nat", "adapter1.legacy=true")
    stages(m, o)
    check("the disk is on VMBus", "ata" not in m.says("readlink -f /sys/block/sda/device"))
    before = m.counters()
    check("the guest works", m.says(WORK) == "answered")
    after = m.counters()
    check("nothing went through the emulated disk and adapter", before == after and len(after[1]) == 1, (before, after))
    discs(m, o)
    m.ctl("turn-off", m.name)


def iperf(m, port, *how):
    return m.says(f"iperf3 -c 10.203.0.2 -p {port} -t 1 {' '.join(how)} >/tmp/i 2>&1; grep receiver /tmp/i || cat /tmp/i")


def run_emulated(o):
    m = Pc(o, "emulated", ["--disk", make_disk(o, "e", "plain")], "disk1.media=dvd", "disk1.bus=ide", "disk1.slot=2",
           "adapter0.legacy=true", "adapter0.host-access=true")
    stages(m, o)
    check("the disk is the emulated controller's", "ata" in m.says("readlink -f /sys/block/sda/device"))
    before = m.counters()
    check("the guest works without Hyper-V's drivers", m.says(WORK) == "answered")
    after = m.counters()
    check("all of it went through the emulated disk and adapter", after[0]["ide0:0"][1] - before[0]["ide0:0"][1] >= 60 << 20 and
          after[0]["ide0:0"][2] - before[0]["ide0:0"][2] >= 4 << 20 and after[1][0] - before[1][0] >= 6, (before, after))
    server = subprocess.Popen(["iperf3", "-s", "-p", str(o.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for how in [], ["-R"]:
            line = iperf(m, o.port, *how)
            check(f"iperf3 {' '.join(how)} through the legacy adapter: {' '.join(line.split()[-4:-1])}", "receiver" in line, line)
    finally:
        server.kill()
        server.wait()
    discs(m, o)
    m.ctl("turn-off", m.name)


SERVER = """ip link set eth0 up; ip addr add 10.9.0.1/24 dev eth0
cat >/tmp/conf <<END
start 10.9.0.50
end 10.9.0.60
interface eth0
siaddr 10.9.0.1
boot_file http://10.9.0.1/boot.ipxe
opt subnet 255.255.255.0
lease_file /tmp/leases
END
: >/tmp/leases
udhcpd -f /tmp/conf &
httpd -p 80 -h /www
echo SERVER-READY
sleep 100000
"""


def run_network(o):
    """A machine that serves, and one that has nothing but its legacy adapter."""
    script, initrd, boot = (os.path.join(o.top, n) for n in ("server.sh", "server.cpio.gz", "boot.ipxe"))
    kernel = f"{o.guests}/kernels/cloud/vmlinuz"
    with open(script, "w") as f:
        f.write(SERVER)
    with open(boot, "w") as f:
        f.write("#!ipxe\nkernel http://10.9.0.1/vmlinuz console=ttyS0 do=poweroff\ninitrd http://10.9.0.1/initrd\nboot\n")
    subprocess.run([f"{GUESTS}/mkinitrd", "--guests", o.guests, "--out", initrd, "--kernel", "cloud", "--modules",
                    "hv_vmbus hv_netvsc af_packet", "--script", script, "--file", f"{boot}=www/boot.ipxe", "--file",
                    f"{kernel}=www/vmlinuz", "--file", f"{o.guests}/initrd-amd64.cpio.gz=www/initrd"], check=True)
    server = Pc.__new__(Pc)
    server.o, server.name, server.serial, server.text = o, "server", None, ""
    server.ctl("create", "server", "--memory", "320M", "--kernel", kernel, "--initrd", initrd, "--append",
               "console=ttyS0 do=script", f"processor.accel={o.accel}", "adapter0.switch=private", "adapter0.name=boot")
    server.on()
    server.wait("SERVER-READY", 240)
    m = Pc(o, "client", [], "adapter0.switch=private", "adapter0.name=boot", "adapter0.legacy=true", "boot.order=network disk")
    m.on()
    m.wait("VIREO-INIT", 300)
    check("a kernel from the network runs", True)
    m.wait("VIREO-DONE|Power down", 60)
    server.ctl("turn-off", server.name)


def pixels(path):
    """Width, height, and a function of x and y to (red, green, blue)."""
    data = open(path, "rb").read()
    width, height = struct.unpack(">II", data[16:24])
    at, z = 8, b""
    while at < len(data):
        n, kind = struct.unpack(">I4s", data[at:at + 8])
        z += data[at + 8:at + 8 + n] if kind == b"IDAT" else b""
        at += 12 + n
    raw, row = zlib.decompress(z), width * 3 + 1
    return width, height, lambda x, y: tuple(raw[y * row + 1 + x * 3:y * row + 4 + x * 3])


def run_realmode(o):
    out = os.path.join(o.top, "real")
    subprocess.run(["as", "--32", "-o", f"{out}.o", f"{HERE}/realmode.S"], check=True)
    subprocess.run(["ld", "-m", "elf_i386", "-Ttext=0x7c00", "--oformat=binary", "-o", f"{out}.img", f"{out}.o"], check=True)
    with open(f"{out}.img", "ab") as f:
        f.truncate(1 << 20)
    m = Pc(o, "realmode", ["--disk", f"{out}.img"])
    shot = f"{out}.png"

    def seen(what, size, *dots):
        """Waits until the screen has that size and those dots."""
        end, got = time.monotonic() + 60, None
        while time.monotonic() < end:
            if m.ctl("screenshot", m.name, shot, ok=False).returncode == 0:
                w, h, at = pixels(shot)
                got = (w, h), [at(x, y) for x, y, _ in dots if x < w and y < h]
                if got == (size, [colour for _, _, colour in dots]):
                    break
            time.sleep(0.3)
        check(f"{what} on the screen", got == (size, [colour for _, _, colour in dots]), got)

    def go_on():
        m.serial.stdin.write(b"x")
        m.serial.stdin.flush()

    m.on()
    m.wait("REAL-VBE|REAL-13H", 120)
    check("unreal mode", "REAL-UNREAL" in m.text, m.text)
    check("VBE", "REAL-VBE" in m.text, m.text)
    seen("1024x768 by VBE", (1024, 768), (10, 10, (0xc0, 0x80, 0x40)), (1000, 383, (0xc0, 0x80, 0x40)),
         (10, 384, (0x20, 0x40, 0x60)), (1023, 767, (0x20, 0x40, 0x60)))
    m.ctl("save", m.name)
    m.on()
    seen("the same after a save", (1024, 768), (10, 10, (0xc0, 0x80, 0x40)), (1023, 767, (0x20, 0x40, 0x60)))
    go_on()
    m.wait("REAL-13H", 60)
    seen("mode 13h", (320, 200), (0, 0, (170, 0, 0)), (319, 199, (170, 0, 0)))
    go_on()
    m.wait("REAL-12H", 60)
    seen("planar mode 12h", (640, 480), (0, 0, (0, 170, 0)), (639, 478, (0, 170, 0)))
    go_on()
    m.wait("REAL-TEXT", 60)
    m.press_until("q", "REAL-KEY q")
    m.ctl("turn-off", m.name)


CASES = {"hyperv": run_hyperv, "emulated": run_emulated, "network": run_network, "realmode": run_realmode}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--vireoctl", required=True)
    p.add_argument("--worker", required=True)
    p.add_argument("--guests", required=True)
    p.add_argument("--accel", default="soft")
    p.add_argument("--port", type=int, default=5399)
    p.add_argument("--case", action="append", choices=CASES)
    o = p.parse_args()
    for need in ("/usr/share/seabios/bios-256k.bin", "/usr/lib/grub/i386-pc/boot.img", "/usr/lib/ipxe/ipxe.lkrn",
                 f"{o.guests}/kernels/full/vmlinuz", "/usr/bin/iperf3"):
        if not os.path.exists(need):
            print(f"skipped: no {need}")
            return 77
    o.top = tempfile.mkdtemp(prefix="vp-", dir="/tmp")
    os.environ.update(XDG_RUNTIME_DIR=f"{o.top}/run", XDG_DATA_HOME=f"{o.top}/data",
                      VIREO_WORKER=os.path.abspath(o.worker), VIREO_NO_SYSTEMD="1")
    os.mkdir(f"{o.top}/run", 0o700)
    try:
        for case in o.case or CASES:
            print(f"-- {case}", flush=True)
            CASES[case](o)
    except SystemExit:
        for name in "client", "emulated", "hyperv", "realmode":  # what it stands at
            subprocess.run([o.vireoctl, "screenshot", name, f"/tmp/pc-{name}.png"], stderr=subprocess.DEVNULL)
        raise
    finally:
        for name in "hyperv", "emulated", "server", "client", "realmode":
            subprocess.run([o.vireoctl, "turn-off", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.rmtree(o.top, ignore_errors=True)
    print(f"{len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
