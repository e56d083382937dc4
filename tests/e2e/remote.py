#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The console from elsewhere, with a Debian desktop on the software processor and the clients that people have:
spicy-screenshot, remote-viewer, gvnccapture, xtigervncviewer.

    remote.py --vireoctl V --worker W --guests DIR --build BUILD [--top RUNNING] [PART...]
"""
import array, hashlib, os, re, socket, subprocess, time

import desktop
from desktop import check, until

PATIENCE = 120
children = []


def start(*command, **more):
    p = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    children.append(p)
    return p


def run(*command, ok=True, timeout=PATIENCE):
    r = subprocess.run(command, capture_output=True, timeout=timeout)
    if ok and r.returncode:
        raise SystemExit(f"{command}: {r.returncode} {r.stderr.decode()[-500:]}")
    return r.stdout.decode(errors="replace").strip()


def need_display():
    if os.environ.get("VIREO_REMOTE_DISPLAY"):
        return
    read, write = os.pipe()
    start("Xvfb", "-displayfd", str(write), "-screen", "0", "1280x1024x24", "-nolisten", "tcp", pass_fds=[write])
    os.environ["DISPLAY"] = os.environ["VIREO_REMOTE_DISPLAY"] = ":" + os.read(read, 16).decode().strip()


ports = {}


def listening(g, kind):
    """Switches it on, on this computer's loopback alone; the port."""
    if kind not in ports:
        for port in range(5940, 5999):
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) and port not in ports.values():
                    break
        g.ctl("remote", g.name, kind, "on", "--port", str(port), "--no-password")
        ports[kind] = port
    return str(ports[kind])


class Viewer:
    def __init__(self, g, *command):
        need_display()
        self.g = g
        self.process = start(*command)
        self.window = until(self.find, PATIENCE)
        check(f"{command[0]} shows the machine", self.window)

    def find(self):
        found = run("xdotool", "search", "--onlyvisible", "--pid", str(self.process.pid), ok=False).split()
        found += run("xdotool", "search", "--onlyvisible", "--name", self.g.name, ok=False).split()
        for w in found:
            out = run("xdotool", "getwindowgeometry", "--shell", w, ok=False)
            sizes = dict(l.split("=") for l in out.split() if "=" in l)
            if int(sizes.get("WIDTH", 0)) > 300 and int(sizes.get("HEIGHT", 0)) > 200:
                self.place = [int(sizes[k]) for k in ("X", "Y", "WIDTH", "HEIGHT")]
                return w
        return None

    def focus(self):
        x, y, width, height = self.place
        run("xdotool", "windowfocus", self.window)
        run("xdotool", "mousemove", str(x + width // 2), str(y + height // 2))
        time.sleep(0.5)
        run("xdotool", "click", "1")
        time.sleep(0.5)

    def type(self, text):
        self.focus()
        run("xdotool", "type", "--delay", "60", text)
        run("xdotool", "key", "Return")

    def end(self):
        self.process.kill()
        self.process.wait()
        children.remove(self.process)


def pixels(path):
    """Without names of formats: what ImageMagick makes of the picture."""
    return hashlib.sha256(subprocess.run(["convert", path, "-depth", "8", "rgb:-"], stdout=subprocess.PIPE,
                                         check=True).stdout).hexdigest()


def pictures(g):
    spice, vnc = listening(g, "spice"), listening(g, "vnc")
    top = g.o.top

    def same():
        g.ctl("screenshot", g.name, f"{top}/own.png")
        run("spicy-screenshot", "-h", "127.0.0.1", "-p", spice, "-o", f"{top}/spice.ppm")
        run("gvnccapture", f"127.0.0.1:{int(vnc) - 5900}", f"{top}/vnc.png")
        g.ctl("screenshot", g.name, f"{top}/again.png")
        sums = [pixels(f"{top}/{f}") for f in ("own.png", "spice.ppm", "vnc.png", "again.png")]
        return len(set(sums)) == 1
    check("SPICE's and VNC's pictures are the screen, pixel for pixel", until(same, PATIENCE))


def xterm(g):
    """One window that fills the screen, in front."""
    g.user("pkill -x xclip; W=$(xdotool search --class xterm | tail -1); xdotool windowactivate $W windowsize $W 100% 100% "
           "windowmove $W 0 0 windowraise $W")


def typed(g, viewer, word):
    viewer.type(f"echo {word} >/tmp/typed-{word}")
    check(f"{viewer.process.args[0]} types", until(lambda: word in g.do(f"cat /tmp/typed-{word}"), 60))


def spice(g):
    port = listening(g, "spice")
    v = Viewer(g, "remote-viewer", f"spice://127.0.0.1:{port}")
    try:
        xterm(g)
        typed(g, v, "spiced")
        check("the session is on", until(lambda: g.status()["state"] == "on", 60), g.status())
        g.user("printf from-the-guest | setsid xclip -selection clipboard -i")
        check("copied in the guest, pasted here",
              until(lambda: run("xclip", "-selection", "clipboard", "-o", ok=False) == "from-the-guest", PATIENCE))
        subprocess.run(["xclip", "-selection", "clipboard", "-i"], input=b"from here", stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, check=True)
        check("copied here, pasted in the guest",
              until(lambda: "from here" in g.user("timeout 20 xclip -selection clipboard -o"), PATIENCE))
        run("xdotool", "windowsize", v.window, "900", "740")
        check("the guest's screen takes the viewer's size",
              until(lambda: re.search(r"current (8[0-9]\d|900) x [67]\d\d", g.user("xrandr")), PATIENCE),
              g.user("xrandr"))
    finally:
        v.end()


def sound_server(g):
    start("pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "-L",
          f"module-native-protocol-unix auth-anonymous=1 socket={g.o.top}/native", "-L",
          "module-null-sink sink_name=out rate=48000", "-L", "module-null-sink sink_name=feed rate=48000")
    until(lambda: subprocess.run(["pactl", "info"], capture_output=True).returncode == 0, 60)
    run("pactl", "set-default-sink", "out")
    run("pactl", "set-default-source", "feed.monitor")


def frequency(data, rate=48000):
    a = array.array("h")
    a.frombytes(data[:len(data) // 2 * 2])
    loud = [i for i, v in enumerate(a) if abs(v) > 500]
    if len(loud) < rate // 4:
        return 0
    part = a[loud[0]:loud[-1]]
    return sum(1 for x, y in zip(part, part[1:]) if x < 0 <= y) * rate / len(part)


def sound(g):
    sound_server(g)
    port = listening(g, "spice")
    v = Viewer(g, "remote-viewer", f"spice://127.0.0.1:{port}")
    try:
        until(lambda: g.status()["services"].get("sound") == "on", 60)
        g.user("sox -n -r 48000 -c 2 /tmp/tone.wav synth 40 sine 1000 gain -6; setsid paplay /tmp/tone.wav >/dev/null 2>&1 &")
        heard = 0
        for _ in range(8):
            p = subprocess.Popen(["parec", "-d", "out.monitor", "--rate=48000", "--channels=1", "--format=s16le", "--raw"],
                                 stdout=subprocess.PIPE)
            data = p.stdout.read(48000 * 2 * 4)
            p.kill()
            p.wait()
            heard = frequency(data)
            if 990 < heard < 1010:
                break
        # A guest that cannot keep up has gaps, which are no crossings.
        check("a tone of the guest is heard through SPICE", 900 < heard < 1010, heard)
    finally:
        v.end()


def microphone(g):
    """What the viewer's microphone hears is recorded in the guest, once that is allowed."""
    g.ctl("session", "policy", g.name, "microphone=yes")
    if "PULSE_SERVER" not in os.environ or subprocess.run(["pactl", "info"], capture_output=True).returncode:
        sound_server(g)
    feed = start("sh", "-c", "sox -n -t raw -r 48000 -c 1 -b 16 -e signed - synth 200 sine 440 gain -6 | pacat -d feed --raw "
                 "--format=s16le --channels=1 --rate=48000")
    v = Viewer(g, "remote-viewer", f"spice://127.0.0.1:{listening(g, 'spice')}")
    try:
        def loudness(effects):
            out = g.user(f"sox -t raw -r 48000 -c 1 -b 16 -e signed /tmp/mic.raw -n trim 2 3 {effects} stat")
            m = re.search(r"RMS\s+amplitude:\s+([\d.]+)", out)
            return float(m[1]) if m else 0

        def heard():
            g.user("timeout 12 parecord -d vireo_mic --raw --format=s16le --channels=1 --rate=48000 /tmp/mic.raw")
            whole, tone = loudness(""), loudness("sinc 400-480")
            # Of a guest that cannot keep up, pieces are missing: that is told, not failed.
            print(f"     loudness {whole:.3f}, of the tone {tone:.3f}")
            return whole > 0.1
        check("the viewer's microphone is recorded in the guest", until(heard, PATIENCE))
    finally:
        v.end()
        feed.kill()
        children.remove(feed)


def disc(g):
    """What remote-viewer shares is a drive of the guest."""
    port = listening(g, "spice")
    iso = f"{g.o.top}/shared.iso"
    with open(iso, "wb") as f:
        f.write(os.urandom(2048 * 300))
    with open(iso, "rb") as f:
        want = hashlib.sha256(f.read()).hexdigest()
    v = Viewer(g, "remote-viewer", f"--spice-share-cd={iso}", "--spice-usbredir-redirect-on-connect=-1,-1,-1,-1,1",
               f"spice://127.0.0.1:{port}")
    try:
        check("remote-viewer's disc is a drive of the guest", until(lambda: "sr0" in g.do("ls /sys/block"), PATIENCE),
              g.do("dmesg | tail -20"))
        check("and is read byte for byte",
              until(lambda: want in g.do("head -c 614400 /dev/sr0 | sha256sum", 300), PATIENCE), g.do("dmesg | tail -20"))
    finally:
        v.end()
    check("the drive goes with the viewer", until(lambda: "sr0" not in g.do("ls /sys/block"), PATIENCE))


def vnc(g):
    port = listening(g, "vnc")
    v = Viewer(g, "xtigervncviewer", "-SecurityTypes", "None", "-RemoteResize=0", f"127.0.0.1:{int(port) - 5900}")
    try:
        xterm(g)
        typed(g, v, "vnced")
        g.user("printf guest-by-vnc | setsid xclip -selection clipboard -i")
        check("VNC brings the guest's clipboard",
              until(lambda: run("xclip", "-selection", "clipboard", "-o", ok=False) == "guest-by-vnc", PATIENCE))
    finally:
        v.end()


def together(g):
    """Two viewers and vireoctl's own at once."""
    s = Viewer(g, "remote-viewer", f"spice://127.0.0.1:{listening(g, 'spice')}")
    v = Viewer(g, "xtigervncviewer", "-SecurityTypes", "None", "-RemoteResize=0",
               f"127.0.0.1:{int(listening(g, 'vnc')) - 5900}")
    try:
        xterm(g)
        typed(g, v, "second")
        clients = g.ctl("remote", g.name).stdout.decode()
        check("both are listed", "spice" in clients.lower() and "vnc" in clients.lower(), clients)
        pictures(g)
    finally:
        s.end()
        v.end()


try:
    desktop.run(desktop.options(), [pictures, spice, sound, microphone, disc, vnc, together])
finally:
    for child in children:
        child.kill()
