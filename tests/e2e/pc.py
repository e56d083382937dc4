#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine of generation 1 in the store, as a person has it: saved and resumed in SeaBIOS, in GRUB's menu and in the
running system; after Hyper-V's drivers are up nothing goes through the emulated disks and adapter, without them all
does; discs are changed; iperf3 through the legacy adapter; a boot from the network; unreal mode, VBE, VGA modes and keyboard from real mode.

    pc.py --vireoctl V --worker W --guests DIR [--case hyperv|emulated|network|realmode]...
"""
import argparse, hashlib, os, shutil, struct, subprocess, sys, tempfile, time, zipfile, zlib

HERE = os.path.dirname(os.path.abspath(__file__))
GUESTS = os.path.join(HERE, "..", "guests")
PYTHON = "/usr/bin/python3"  # Debian's own: what it imports here is built in
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
MODULES = "hv_vmbus hv_storvsc hv_netvsc hv_utils sd_mod ata_piix sr_mod isofs ext4 tulip hyperv_drm"


def patience(o):
    """A processor within one that is emulated is slow."""
    return 5 if o.accel == "kvm" else 1


class Pc(Machine):
    def __init__(self, o, name, disk, *settings):
        self.o, self.name, self.serial, self.text = o, name, None, ""
        self.ctl("create", name, "--generation", "1", "--memory", "320M", f"processor.accel={o.accel}", *disk, *settings)

    def wait(self, what, seconds):
        return super().wait(what, seconds * patience(self.o))

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
        end = time.monotonic() + seconds * patience(self.o)
        while what not in self.text and time.monotonic() < end:
            self.ctl("key", self.name, key)
            step = time.monotonic() + 3 * patience(self.o)
            while what not in self.text and time.monotonic() < step:
                self.text += (self.serial.stdout.read() or b"").decode(errors="replace")
                time.sleep(0.1)
        check(f"{key} on the keyboard gives {what}", what in self.text, self.text[-1000:])

    def counters(self):
        disks = {d["id"]: (d["emulated-commands"], d["emulated-read"], d["emulated-written"]) for d in self.info("disks")}
        nics = [n["frames-in"] + n["frames-out"] for n in self.info("adapters") if n["legacy"]]
        return disks, nics


def make_disk(o, name, args, more=""):
    script, initrd, cfg, disk = (os.path.join(o.top, name + n) for n in (".sh", ".initrd", ".cfg", ".img"))
    if o.prepared:
        return disk
    with open(cfg, "w") as f:
        f.write(CFG.format(args=args))
    subprocess.run([f"{GUESTS}/mkinitrd", "--guests", o.guests, "--out", initrd, "--kernel", "full", "--modules", f"{MODULES} {more}",
                    "--script", f"{HERE}/pc-guest.sh", "--binary", "/usr/bin/iperf3"], check=True)
    subprocess.run([f"{GUESTS}/mkbootdisk", disk, "64", cfg, f"{o.guests}/kernels/full/vmlinuz=boot/full",
                    f"{initrd}=boot/initrd"], check=True)
    return disk


def make_disc(o, name, text):
    folder, iso = os.path.join(o.top, name), os.path.join(o.top, name + ".iso")
    if o.prepared:
        return iso
    os.mkdir(folder)
    with open(f"{folder}/text", "w") as f:
        f.write(text)
    subprocess.run(["xorriso", "-as", "mkisofs", "-quiet", "-o", iso, folder], check=True,
                   stderr=subprocess.DEVNULL)
    return iso


def stages(m, o):
    """Up to the running system, through a save in each."""
    m.on()
    shot, end = os.path.join(o.top, "shot.png"), time.monotonic() + 60 * patience(o)
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


def make_discs(o):
    return make_disc(o, "one", "first disc"), make_disc(o, "two", "second disc")


def discs(m, o):
    one, two = (os.path.join(o.top, n) for n in ("one.iso", "two.iso"))
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
    disk = make_disk(o, "h", "hyperv")
    make_discs(o)
    if o.make:
        return
    m = Pc(o, "hyperv", ["--disk", disk], "disk1.media=dvd", "disk1.bus=ide", "disk1.slot=2",
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
    disk = make_disk(o, "e", "plain")
    make_discs(o)
    if o.make:
        return
    m = Pc(o, "emulated", ["--disk", disk], "disk1.media=dvd", "disk1.bus=ide", "disk1.slot=2",
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
    if not o.prepared:
        with open(script, "w") as f:
            f.write(SERVER)
        with open(boot, "w") as f:
            f.write("#!ipxe\nkernel http://10.9.0.1/vmlinuz console=ttyS0 do=poweroff\ninitrd http://10.9.0.1/initrd\nboot\n")
        subprocess.run([f"{GUESTS}/mkinitrd", "--guests", o.guests, "--out", initrd, "--kernel", "cloud", "--modules",
                        "hv_vmbus hv_netvsc af_packet", "--script", script, "--file", f"{boot}=www/boot.ipxe", "--file",
                        f"{kernel}=www/vmlinuz", "--file", f"{o.guests}/initrd-amd64.cpio.gz=www/initrd"], check=True)
    if o.make:
        return
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


def run_ipxe(o):
    """iPXE by our option ROM gets an address of the NAT's DHCP through the legacy adapter: discover, offer, request, acknowledge."""
    if o.make:
        return
    m = Pc(o, "ipxe", [], "adapter0.switch=nat", "adapter0.legacy=true", "boot.order=network")
    m.on()
    end, got = time.monotonic() + 60 * patience(o), (0, 0)
    while time.monotonic() < end and min(got) < 2:
        got = next((n["frames-in"], n["frames-out"]) for n in m.info("adapters") if n["legacy"])
        time.sleep(0.5)
    check("iPXE gets an address through the legacy adapter", min(got) >= 2, got)
    m.ctl("turn-off", m.name)


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


def make_real(o, name, size):
    out = os.path.join(o.top, name)
    if not o.prepared:
        subprocess.run(["as", "--32", "-o", f"{out}.o", f"{HERE}/realmode.S"], check=True)
        subprocess.run(["ld", "-m", "elf_i386", "-Ttext=0x7c00", "--oformat=binary", "-o", f"{out}.img", f"{out}.o"],
                       check=True)
        os.truncate(f"{out}.img", size)
    return f"{out}.img"


def sector(cylinder, head, number):
    return ((cylinder * 2 + head) * 18 + number - 1) * 512


def run_floppy(o):
    """Real mode from a floppy, with a save on the way; then Linux's driver for it, the medium changed."""
    image, other = make_real(o, "floppy", 1440 << 10), os.path.join(o.top, "other.img")
    if not o.prepared:
        with open(image, "r+b") as f:
            for number, word in (5, b"FLOP"), (6, b"GLOP"):
                f.seek(sector(40, 1, number))
                f.write(word)
        with open(other, "wb") as f:
            f.write(b"other floppy" + bytes((720 << 10) - 12))
    disk = make_disk(o, "f", "plain", "floppy")
    if o.make:
        return
    m = Pc(o, "floppy", ["--floppy", image, "--disk", disk], "boot.order=floppy disk")
    m.on()
    m.wait("REAL-FLOPPY|REAL-NO-FLOPPY", 240)
    check("a system starts from the floppy and reads it", "REAL-FLOPPY" in m.text, m.text)
    m.again("with a floppy in use")
    m.serial.stdin.write(b"x")
    m.serial.stdin.flush()
    m.wait("REAL-VBE|REAL-13H", 240)
    check("it reads on after that", "REAL-WRITTEN" in m.text, m.text)
    check("four resets of the processor", "REAL-RESETS" in m.text, m.text)
    with open(image, "rb") as f:
        f.seek(sector(79, 1, 18))
        check("what it wrote is on the image", f.read(4) == b"TIRW")
    m.ctl("turn-off", m.name)
    m.ctl("set", m.name, "boot.order=disk")
    m.on()
    m.press_until("enter", "VIREO-INIT")
    m.wait("VIREO-READY", 300)
    with open(image, "rb") as f:
        want = hashlib.md5(f.read()).hexdigest()
    got = m.says("dd if=/dev/fd0 bs=18k 2>/dev/null | md5sum")
    check("Linux reads the whole floppy", got.split()[:1] == [want], got)
    m.says("echo written by Linux | dd of=/dev/fd0 bs=512 seek=100 conv=sync,fsync 2>/dev/null; sync")
    with open(image, "rb") as f:
        f.seek(100 * 512)
        check("and writes it", f.read(16) == b"written by Linux")
    m.ctl("media", "insert", m.name, other, "--drive", "floppy0")
    got = m.says("dd if=/dev/fd0 bs=12 count=1 2>/dev/null; echo; dd if=/dev/fd0 bs=9k 2>/dev/null | wc -c")
    check("another floppy, of another kind", got == str(720 << 10) and "other floppy" in m.text, m.text)
    m.ctl("media", "eject", m.name, "--drive", "floppy0")
    status, _ = m.do("dd if=/dev/fd0 of=/dev/null count=1 2>/dev/null")
    check("no floppy, nothing to read", status != 0)
    m.ctl("turn-off", m.name)


def make_memtest(o):
    """memtest86+ on a disc with GRUB."""
    memtest, tree = os.path.join(o.top, "memtest.iso"), os.path.join(o.top, "memtest")
    if o.prepared or os.path.exists(memtest):
        return memtest
    os.makedirs(f"{tree}/boot/grub")
    shutil.copy("/boot/memtest86+x64.bin", f"{tree}/memtest")
    with open(f"{tree}/boot/grub/grub.cfg", "w") as f:
        f.write("linux /memtest console=ttyS0,115200\nboot\n")
    subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o", memtest, tree], check=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return memtest


def run_memtest(o):
    """memtest86+ until it has passed once."""
    iso = make_memtest(o)
    if o.make:
        return
    m = Pc(o, "memtest", ["--iso", iso], "memory.startup=16")
    m.on()
    m.wait(r"Pass: +[1-9]\d* +Errors: +0", 2400)
    check("memtest86+ passes", True)
    m.ctl("turn-off", m.name)


def run_start(o):
    """Discs of other people: grub-rescue-pc's to its menu, memtest86+ until it tests."""
    rescue, memtest = os.path.join(o.top, "rescue.iso"), make_memtest(o)
    if not o.prepared:
        shutil.copy("/usr/lib/grub-rescue/grub-rescue-cdrom.iso", rescue)
    if o.make:
        return
    m = Pc(o, "rescue", ["--iso", rescue])
    m.on()
    shot, end, got = os.path.join(o.top, "menu.png"), time.monotonic() + 240 * patience(o), None
    while time.monotonic() < end and got != ((720, 400), (170, 170, 170), (0, 0, 0)):
        if m.ctl("screenshot", m.name, shot, ok=False).returncode == 0:
            w, h, at = pixels(shot)
            got = (w, h), at(min(680, w - 1), 71), at(min(680, w - 1), 87)
        time.sleep(0.5)
    check("the menu of grub-rescue-pc's disc", got == ((720, 400), (170, 170, 170), (0, 0, 0)), got)
    m.ctl("turn-off", m.name)
    m = Pc(o, "memtest", ["--iso", memtest], "memory.startup=24")
    m.on()
    m.wait(r"Pass: +0 +Errors: +0", 400)
    check("memtest86+ tests", True)
    m.ctl("turn-off", m.name)


INSTALLER = "/usr/lib/debian-installer/images/12/amd64/gtk/debian-installer/amd64"


def make_installer(o):
    """The graphical installer's kernel and initial RAM disk of Debian's package on a disc with GRUB."""
    iso = os.path.join(o.top, "installer.iso")
    if o.prepared:
        return iso
    tree = os.path.join(o.top, "installer")
    os.makedirs(f"{tree}/boot/grub")
    for name in "linux", "initrd.gz":
        shutil.copy(f"{INSTALLER}/{name}", tree)
    with open(f"{tree}/boot/grub/grub.cfg", "w") as f:
        f.write("serial --unit=0 --speed=115200\nterminal_output serial console\necho INSTALLER-GRUB\n"
                "linux /linux vga=788 DEBIAN_FRONTEND=gtk quiet\ninitrd /initrd.gz\nboot\n")
    subprocess.run(["grub-mkrescue", "-d", "/usr/lib/grub/i386-pc", "-o", iso, tree], check=True, stdout=subprocess.DEVNULL,
                   stderr=subprocess.DEVNULL)
    shutil.rmtree(tree)
    return iso


def run_installer(o):
    """Debian's graphical installer to its first dialog, saved and resumed there; then it hears the keyboard."""
    iso = make_installer(o)
    if o.make:
        return
    m = Pc(o, "installer", ["--iso", iso, "--new-disk", "8G"], "memory.startup=1024")
    shot, chosen, white = os.path.join(o.top, "dialog.png"), (41, 134, 123), (255, 255, 255)

    def row_chosen(what, y, seconds):
        """A row of the list of languages is marked, the next is not."""
        end, got = time.monotonic() + seconds, None
        while time.monotonic() < end:
            if m.ctl("screenshot", m.name, shot, ok=False).returncode == 0:
                w, h, at = pixels(shot)
                got = (w, h), (w, h) == (800, 600) and [at(700, y), at(700, y + 23), at(10, 10)]
                if got[1] and got[1][:2] == [chosen, white]:
                    break
            time.sleep(1)
        check(what, bool(got and got[1] and got[1][:2] == [chosen, white]), got)

    m.on()
    m.wait("INSTALLER-GRUB", 120)
    row_chosen("the graphical installer's first dialog is on screen", 361, 1500)
    if o.keep:
        shutil.copy(shot, o.keep)
    m.again("in the installer")
    row_chosen("and is again after that", 361, 60)
    m.ctl("key", m.name, "down")
    row_chosen("a key moves in its list", 384, 120)
    m.ctl("turn-off", m.name)


def run_realmode(o):
    image = make_real(o, "real", 1 << 20)
    if o.make:
        return
    m = Pc(o, "realmode", ["--disk", image])
    shot = os.path.join(o.top, "real.png")

    def seen(what, size, *dots):
        """Waits until the screen has that size and those dots."""
        end, got = time.monotonic() + 60 * patience(o), None
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
    check("four resets of the processor", "REAL-RESETS" in m.text, m.text)
    check("the A20 gate", "REAL-A20" in m.text, m.text)
    check("memory below 1 MiB as PAM says", "REAL-PAM" in m.text, m.text)
    check("unreal mode", "REAL-UNREAL" in m.text, m.text)
    check("limits of segments are kept", o.accel == "kvm" or "REAL-LIMIT" in m.text, m.text)
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


CASES = {"hyperv": run_hyperv, "emulated": run_emulated, "network": run_network, "realmode": run_realmode, "floppy": run_floppy, "installer": run_installer, "start": run_start,
         "ipxe": run_ipxe, "memtest": run_memtest}


def stdlib(path):
    """Python's own library for a guest, in one file."""
    where = subprocess.run([PYTHON, "-c", "import os; print(os.path.dirname(os.__file__))"], check=True, capture_output=True,
                           text=True).stdout.strip()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for folder, inside, names in os.walk(where):
            inside[:] = [d for d in inside if d not in ("__pycache__", "test", "lib-dynload", "dist-packages", "idlelib",
                                                        "tkinter", "ensurepip", "lib2to3", "pydoc_data")]
            for name in names:
                if name.endswith(".py"):
                    full = os.path.join(folder, name)
                    z.write(full, os.path.relpath(full, where))


def run_nested(o):
    """All is made here; a Debian with KVM under QEMU's TCG then runs this program on it."""
    with tempfile.TemporaryDirectory(prefix="vp-", dir="/var/tmp") as o.top:
        o.make = True
        for case in o.case or CASES:
            CASES[case](o)
        files = ["bios-256k.bin", "vgabios-stdvga.bin"]
        give = [f"/usr/share/seabios/{n}=/usr/share/seabios/{n}" for n in files]
        give += ["/usr/lib/ipxe/ipxe.lkrn=/usr/lib/ipxe/ipxe.lkrn", f"{HERE}/pc.py=/t/pc.py", f"{HERE}/worker.py=/t/worker.py"]
        give += [f"{o.top}/{n}=/given/{n}" for n in os.listdir(o.top) if n.endswith((".img", ".iso", "server.cpio.gz"))]
        if "network" in (o.case or CASES):
            give.append(f"{o.guests}/kernels/cloud/vmlinuz=/given/kernels/cloud/vmlinuz")
        stdlib(f"{o.top}/lib.zip")
        give.append(f"{o.top}/lib.zip=/lib.zip")
        cases = " ".join(f"--case {c}" for c in o.case or CASES)
        cmd = [o.nested, "--guests", o.guests, "--memory", "3072", "--timeout", str(o.timeout), "--binary", o.vireoctl, "--binary",
               o.worker, "--binary", f"{PYTHON}=/bin/python3", "--binary", "/usr/bin/iperf3"]
        for f in give:
            cmd += ["--file", f]
        cmd.append("mkdir /tmp/p; mv /given/* /tmp/p/ 2>/dev/null || cp -r /given/* /tmp/p/; chmod -R u+w /tmp/p; "
                   "export PYTHONPATH=/lib.zip PYTHONHOME=/ PYTHONDONTWRITEBYTECODE=1 HOME=/tmp; "
                   "python3 -u /t/pc.py --vireoctl /bin/vireoctl --worker /bin/vireo-vm --guests /tmp/p --accel kvm "
                   f"--prepared /tmp/p {cases}")
        return subprocess.run(cmd, stdin=subprocess.DEVNULL).returncode


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--vireoctl", required=True)
    p.add_argument("--worker", required=True)
    p.add_argument("--guests", required=True)
    p.add_argument("--accel", default="soft")
    p.add_argument("--port", type=int, default=5399)
    p.add_argument("--nested", help="tests/nested/run: on KVM")
    p.add_argument("--prepared", help="a folder where all is made already (within --nested)")
    p.add_argument("--keep", help="where the installer's dialog goes, a PNG")
    p.add_argument("--timeout", type=int, default=1200, help="of all, nested")
    p.add_argument("--case", action="append", choices=CASES)
    o = p.parse_args()
    o.make = False
    for need in ("/usr/share/seabios/bios-256k.bin", "/usr/lib/grub/i386-pc/boot.img", "/usr/lib/ipxe/ipxe.lkrn",
                 f"{o.guests}/kernels/full/vmlinuz", "/usr/bin/iperf3"):
        if not o.prepared and not os.path.exists(need):
            print(f"skipped: no {need}")
            return 77
    if "installer" in (o.case or CASES) and not o.prepared and not os.path.exists(f"{INSTALLER}/linux"):
        print(f"skipped: no {INSTALLER}")
        return 77
    if o.nested:
        return run_nested(o)
    o.top = o.prepared or tempfile.mkdtemp(prefix="vp-", dir="/tmp")
    os.environ.update(XDG_RUNTIME_DIR=f"{o.top}/run", XDG_DATA_HOME=f"{o.top}/data",
                      VIREO_WORKER=os.path.abspath(o.worker), VIREO_NO_SYSTEMD="1")
    os.mkdir(f"{o.top}/run", 0o700)
    try:
        for case in o.case or CASES:
            print(f"-- {case}", flush=True)
            CASES[case](o)
    except SystemExit:
        for name in "client", "emulated", "hyperv", "realmode", "floppy", "installer", "rescue", "memtest", "ipxe":  # what it stands at
            subprocess.run([o.vireoctl, "screenshot", name, f"/tmp/pc-{name}.png"], stderr=subprocess.DEVNULL)
        raise
    finally:
        for name in "hyperv", "emulated", "server", "client", "realmode", "floppy", "installer", "rescue", "memtest", "ipxe":
            subprocess.run([o.vireoctl, "turn-off", name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        shutil.rmtree(o.top, ignore_errors=True)
    print(f"{len(failures)} failed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
