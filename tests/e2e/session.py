#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The enhanced session with a Debian desktop (desktop.py) on the software processor: real programs in the guest
(xclip, paplay, parecord, espeak-ng), vireoctl and a PulseAudio of null sinks on this side. What a loaded host
cannot keep up with is told, not failed.

    session.py --vireoctl V --worker W --guests DIR --build BUILD [--top RUNNING] [--quick] [PART...]
"""
import argparse, array, hashlib, json, os, random, subprocess, sys, time

from desktop import HERE, check, options, run, until

sys.path.insert(0, HERE + "/../session")
from hearing import frequency, likeness, loud_part  # noqa: E402


def sha(data):
    return hashlib.sha256(data).hexdigest()


# ---- clipboard ----

def to_guest(g, data, mime=None, target="UTF8_STRING"):
    """Copies here, pastes there: the sum of what arrived. The guest hears of it a little later."""
    g.ctl("clipboard", "set", g.name, *(["--type", mime] if mime else []), data=data)
    out = ""

    def look():
        nonlocal out
        out = g.user(f"timeout 90 xclip -selection clipboard -o -t {target} | sha256sum")
        return sha(data) in out
    if until(look, 90, 1):
        return True
    print("     last:", out.strip()[-200:])
    return False


def from_guest(g, path, data, mime=None, target=None):
    g.user(f"setsid xclip -selection clipboard -i {'-t ' + target if target else ''} {path}")
    r = None

    def look():
        nonlocal r
        r = g.ctl("clipboard", "get", g.name, *(["--type", mime] if mime else []), ok=False)
        return r.returncode == 0 and r.stdout == data
    if until(look, 90, 1):
        return True
    print("     last:", r.stderr.decode()[-200:], len(r.stdout))
    return False


def put_file(g, name, data):
    path = f"{g.o.top}/{name}"
    with open(path, "wb") as f:
        f.write(data)
    g.ctl("send", g.name, path, timeout=600)
    return f"/home/user/Downloads/{name}"


def short(g):
    check("text: host to guest", to_guest(g, "five \u20ac \U0001f600\r\n".encode()))
    path = put_file(g, "short.txt", b"from there\n")
    check("text: guest to host", from_guest(g, path, b"from there\n"))


def texts():
    planes = "".join(chr(p * 0x10000 + c) for p in range(17) for c in (0x41, 0xe9, 0x20ac, 0x4e2d))
    big = "".join(random.choices("abcdefghijklmnopqrstuvwxyz \n", k=1 << 16)).encode() * 160
    return {"5 bytes": b"hello", "every plane": planes.encode(), "CRLF": b"one\r\ntwo\r\n",
            "LF": b"one\ntwo\n", "10 MiB": big}


def clipboard(g):
    for name, data in texts().items():
        check(f"text, {name}: host to guest", to_guest(g, data))
        path = put_file(g, name.replace(" ", "-"), b"back: " + data)
        check(f"text, {name}: guest to host", from_guest(g, path, b"back: " + data))
    check("no text at all: host to guest", to_guest(g, b""))
    check("no text at all: guest to host", from_guest(g, put_file(g, "empty", b""), b""))
    check("a picture: host to guest", to_guest(g, picture(), "image/png", "image/png"))
    png = picture()
    path = put_file(g, "picture.png", png)
    check("a picture: guest to host", from_guest(g, path, png, "image/png", "image/png"))
    page = "<p>one <b>two</b> \u20ac</p>\n".encode()
    check("HTML: host to guest", to_guest(g, page, "text/html", "text/html"))
    path = put_file(g, "page.html", page * 2)
    check("HTML: guest to host", from_guest(g, path, page * 2, "text/html", "text/html"))


def picture():
    """Another one each time."""
    return subprocess.run(["convert", "-size", "320x200", "plasma:red-blue", "png:-"], stdout=subprocess.PIPE).stdout


def many_owners(g):
    """Copies on both sides, at random times; then the last one counts on both."""
    g.do("cat >/tmp/owners <<'END'\nexport DISPLAY=:0\nfor i in $(seq 100); do\n"
         "echo guest $i | setsid xclip -selection clipboard -i\nsleep 0.$((RANDOM % 4))\ndone\nEND\n"
         "chmod +r /tmp/owners")
    g.serial.stdin.write(b"su user -c 'bash /tmp/owners' >/dev/null 2>&1\n")
    g.serial.stdin.flush()
    for n in range(100):
        g.ctl("clipboard", "set", g.name, data=b"host %d" % n)
        time.sleep(random.random() * 0.4)
    g.do("true", 300)
    check("after 200 changes of owner the host's text is in the guest", to_guest(g, b"the last"))
    path = put_file(g, "last", b"the very last")
    check("and then the guest's on the host", from_guest(g, path, b"the very last"))


def policy(g):
    g.ctl("session", "policy", g.name, "clipboard-to-guest=no", "files=no")
    r = g.ctl("clipboard", "set", g.name, data=b"secret", ok=False)
    out = g.user("timeout 5 xclip -selection clipboard -o")
    check("nothing is pasted in the guest when that is not allowed",
          r.returncode != 0 and "secret" not in out, out)
    r = g.ctl("send", g.name, f"{g.o.top}/last", ok=False)
    check("no file is sent when that is not allowed", r.returncode != 0, r.stderr)
    g.ctl("session", "policy", g.name, "clipboard-to-guest=yes", "clipboard-from-guest=no",
          "files=yes")
    g.user("echo hidden | setsid xclip -selection clipboard -i")
    time.sleep(2)
    r = g.ctl("clipboard", "get", g.name, ok=False)
    check("nothing of the guest is pasted here when that is not allowed",
          r.returncode != 0 and b"hidden" not in r.stdout, r.stdout)
    g.ctl("session", "policy", g.name, "clipboard-from-guest=yes")


def big_file(g):
    data = os.urandom(50 << 20)
    begin = time.monotonic()
    path = put_file(g, "fifty.bin", data)
    took = time.monotonic() - begin
    check("a file of 50 MiB is sent", sha(data) in g.do(f"sha256sum {path}"), path)
    print(f"     in {took:.1f} s")


def files_out(g):
    """A file of the guest's, copied there and put here."""
    path = put_file(g, "out there.bin", os.urandom(50 << 20))
    want = g.do(f"sha256sum '{path}'")
    g.do(f"printf 'file://%s\\r\\n' '{path.replace(' ', '%20')}' >/tmp/uris; chmod +r /tmp/uris")
    g.user("setsid xclip -selection clipboard -i -t text/uri-list /tmp/uris")
    folder = f"{g.o.top}/put"
    os.makedirs(folder)
    begin, r = time.monotonic(), None

    def get():
        nonlocal begin, r
        begin = time.monotonic()
        r = g.ctl("clipboard", "get", g.name, "--files", folder, ok=False)
        return r.returncode == 0
    until(get, 120, 1)
    took = time.monotonic() - begin
    got = f"{folder}/out there.bin"
    check("a file of 50 MiB that was copied in the guest: guest to host", os.path.exists(got) and sha(open(got, "rb").read()) in want,
          (r.stderr, os.listdir(folder), want))
    print(f"     in {took:.1f} s")
    g.ctl("session", "policy", g.name, "files=no")
    r = g.ctl("clipboard", "get", g.name, "--files", folder, ok=False)
    check("and none that is not allowed", r.returncode != 0 and len(os.listdir(folder)) == 1, r.stdout)
    g.ctl("session", "policy", g.name, "files=yes")


def size(g):
    g.ctl("session", "size", g.name, "1400x900")
    end, out = time.monotonic() + 60, ""
    while "current 1400 x 900" not in out and time.monotonic() < end:
        out = g.user("xrandr | head -1")
    check("the guest's screen takes the window's size", "current 1400 x 900" in out, out)


# ---- sound ----

def pulse(o):
    return subprocess.Popen(
        ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1",
         "-L", f"module-native-protocol-unix auth-anonymous=1 socket={o.top}/native",
         "-L", "module-null-sink sink_name=out rate=48000",
         "-L", "module-null-sink sink_name=micfeed rate=48000",
         "-L", "module-remap-source master=micfeed.monitor source_name=virtmic",
         ], env=dict(os.environ, HOME=o.top), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_pulse():
    for _ in range(100):
        if subprocess.run(["pactl", "info"], capture_output=True).returncode == 0:
            subprocess.run(["pactl", "set-default-source", "virtmic"])
            subprocess.run(["pactl", "set-default-sink", "out"])
            return
        time.sleep(0.1)


class Recording:
    """What the null sink hears, mono at 48 kHz."""

    def __init__(self, path):
        self.path = path
        self.p = subprocess.Popen(["parecord", "-d", "out.monitor", "--raw", "--format=s16le",
                                   "--channels=1", "--rate=48000", path])

    def samples(self):
        self.p.terminate()
        self.p.wait()
        a = array.array("h")
        with open(self.path, "rb") as f:
            d = f.read()
        a.frombytes(d[:len(d) // 2 * 2])
        return a


def tone(g, seconds, what):
    rec = Recording(f"{g.o.top}/rec.raw")
    g.user(f"sox -n -r 48000 -c 2 /tmp/tone.wav synth {seconds} sine 1000; timeout {seconds * 6} "
           "paplay -d vireo /tmp/tone.wav", seconds * 8 + 60)
    time.sleep(2)
    part, gaps = loud_part(rec.samples())
    heard = frequency(part)
    check(f"{what}: 1 kHz is heard", 990 < heard < 1010 and len(part) > 48000,
          (heard, len(part) / 48000))
    print(f"     {len(part) / 48000:.2f} s of {seconds}, {heard:.1f} Hz, gaps over 20 ms: {gaps[:20]}{' ...' if gaps[20:] else ''}"
          f" (load {os.getloadavg()[0]:.0f})")
    return gaps


def sound(g):
    g.ctl("session", "policy", g.name, "microphone=yes")
    server = pulse(g.o)
    wait_pulse()
    player = subprocess.Popen([g.o.vireoctl, "session", "audio", g.name, "--record", "--json"],
                              stdout=subprocess.PIPE)
    try:
        check("sound and microphone come up", g.wait_services(30, sound=["on"], microphone=["on"]),
              g.status())
        tone(g, 20, "a tone")
        rec = Recording(f"{g.o.top}/rec.raw")
        g.user("espeak-ng -w /tmp/s.wav hello.this.is.a.spoken.sentence; paplay -d vireo /tmp/s.wav")
        time.sleep(2)
        part, _ = loud_part(rec.samples())
        check("a spoken sentence is heard", len(part) > 48000, len(part))
        microphone(g)
        g.user("pulseaudio -k; sleep 3; pactl info >/dev/null")
        check("the guest's sound server was restarted",
              g.wait_services(60, sound=["on"], microphone=["on"]), g.status())
        time.sleep(2)
        tone(g, 5, "and it plays on")
        server.terminate()
        server.wait()
        time.sleep(2)
        server = pulse(g.o)
        wait_pulse()
        time.sleep(3)
        tone(g, 5, "the host's sound server was restarted")
    finally:
        player.terminate()
        print("     " + player.communicate()[0].decode().strip())
        server.terminate()


def minute(g):
    """A minute of each, as well as the host keeps up: told."""
    server = pulse(g.o)
    wait_pulse()
    player = subprocess.Popen([g.o.vireoctl, "session", "audio", g.name, "--json"], stdout=subprocess.PIPE)
    try:
        check("sound comes up", g.wait_services(60, sound=["on"]), g.status())
        tone(g, 60, "a tone of a minute")
        sentence = "This is a spoken sentence of the guest, which the host shall hear without a gap. "
        g.do(f"echo '{sentence * 12}' >/tmp/text; chmod +r /tmp/text")
        g.user("espeak-ng -f /tmp/text -w /tmp/s.wav; sox /tmp/s.wav -t raw -r 48000 -c 1 -b 16 -e signed /tmp/s.raw", 600)
        rec = Recording(f"{g.o.top}/rec.raw")
        g.user("timeout 400 paplay -d vireo /tmp/s.wav", 460)
        time.sleep(2)
        heard = rec.samples()
        played = array.array("h")
        played.frombytes(fetched(g, "/tmp/s.raw"))
        same, lag, gaps = likeness(played, heard)
        check("a minute's spoken sentences are heard", same > 0.5, same)
        print(f"     {len(played) / 48000:.1f} s of speech, alike by {same:.3f}, gaps over 20 ms: {gaps} (load {os.getloadavg()[0]:.0f})")
    finally:
        player.terminate()
        print("     " + player.communicate()[0].decode().strip())
        server.terminate()


def fetched(g, path):
    """A file of the guest, as what a program copied there."""
    g.user(f"setsid xclip -selection clipboard -i -t image/tiff {path}")
    want = g.do(f"sha256sum {path}")
    return until(lambda: (r := g.ctl("clipboard", "get", g.name, "--type", "image/tiff", ok=False)).returncode == 0
                 and sha(r.stdout) in want and r.stdout, 90, 1) or b""


def microphone(g):
    check("the microphone is not heard while nobody records", not g.status()["recording"])
    feed = subprocess.Popen("sox -n -t raw -r 48000 -c 1 -b 16 -e signed - synth 120 sine 440 | pacat "
                            "-d micfeed --raw --format=s16le --channels=1 --rate=48000", shell=True)
    g.serial.stdin.write(b"su user -c 'export XDG_RUNTIME_DIR=/run/user/1000; timeout 15 parecord -d "
                         b"vireo_mic --raw --format=s16le --channels=1 --rate=48000 /tmp/mic.raw'\n")
    g.serial.stdin.flush()
    seen = until(lambda: g.status()["recording"], 60)
    check("the session tells that the microphone is heard", seen)
    g.do("true")
    a = array.array("h")
    a.frombytes(fetched(g, "/tmp/mic.raw"))
    feed.terminate()
    part, gaps = loud_part(a)
    heard = frequency(part)
    check("the guest records the host's microphone", 430 < heard < 450 and len(part) > 5 * 48000, (heard, len(part) / 48000))
    print(f"     {len(part) / 48000:.1f} s, {heard:.0f} Hz, gaps over 20 ms: {[round(v) for v in gaps]} "
          f"(load {os.getloadavg()[0]:.0f})")


# ---- coming back ----

def again(g):
    for what, orders in (("a restarted agent", "systemctl restart vireo-agent"),
                         ("an agent that was away for long", "systemctl stop vireo-agent; sleep 30; systemctl start vireo-agent")):
        g.do(orders)
        begin = time.monotonic()
        if not check(f"{what} is back", g.wait_services(60, clipboard=["ready", "on"], files=["ready", "on"]), g.status()):
            print(g.do("journalctl -b --no-pager -n 60; systemctl --no-pager status 'spice-vdagentd*' vireo-agent"))
        print(f"     in {time.monotonic() - begin:.1f} s")
        check("and the clipboard goes on", to_guest(g, b"after: " + what.encode()))
        path = None

        def sent():
            nonlocal path
            path = f"{g.o.top}/again.txt"
            with open(path, "wb") as f:
                f.write(what.encode())
            return g.ctl("send", g.name, path, ok=False).returncode == 0
        check("and files", until(sent, 90, 2) and what in g.do("cat /home/user/Downloads/again*"))


def package(g):
    """The agent's own package in place of what was copied in, by the guest's dpkg."""
    with open(f"{g.o.build}/session/guest/vireo-agent.deb", "rb") as f:
        path = put_file(g, "vireo-agent.deb", f.read())
    out = g.do(f"dpkg -i {path}")
    check("the package installs", g.status_code == 0, out[-500:])
    check("and its agent offers the session", g.wait_services(120, clipboard=["ready", "on"]), g.status())
    check("from the place where packages have it", "/usr/sbin/vireo-agent" in g.do("dpkg -S $(readlink /proc/$(pidof vireo-agent)/exe)"))
    out = g.do("dpkg -r vireo-agent")
    check("and is removed", g.status_code == 0 and "gone" in g.do("pidof vireo-agent || echo gone"), out[-500:])


def saved(g):
    """Saved and resumed with a session open; then back to a checkpoint."""
    server = pulse(g.o)
    wait_pulse()
    try:
        g.ctl("checkpoint", "create", g.name, "before")
        for what, orders in (("saved and resumed", [["save", g.name], ["start", g.name]]),
                             ("a checkpoint applied", [["checkpoint", "apply", g.name, "before"]])):
            g.user("echo of the guest | setsid xclip -selection clipboard -i")
            player = subprocess.Popen([g.o.vireoctl, "session", "audio", g.name, "--json"], stdout=subprocess.DEVNULL)
            check("sound comes up", g.wait_services(60, sound=["on"]), g.status())
            g.close()
            for order in orders:
                r = g.ctl(*order, ok=False)
                if not check(" ".join(order), r.returncode == 0, r.stderr.decode()):
                    return
            begin = time.monotonic()
            check(f"{what}: the session is back, USB too",
                  g.wait_services(60, clipboard=["ready", "on"], sound=["ready", "on"], usb=["ready", "on"]), g.status())
            print(f"     in {time.monotonic() - begin:.1f} s")
            player.wait()
            g.open_serial()
            check("and the clipboard goes on", to_guest(g, b"after " + what.encode()))
            path = put_file(g, "later", b"later " + what.encode())
            check("both ways", from_guest(g, path, b"later " + what.encode()))
            player = subprocess.Popen([g.o.vireoctl, "session", "audio", g.name, "--json"], stdout=subprocess.DEVNULL)
            check("and sound", g.wait_services(60, sound=["on"]), g.status())
            tone(g, 4, what)
            player.terminate()
            player.wait()
    finally:
        server.terminate()


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--quick", action="store_true")
    o = options(p)
    if o.quick:
        o.parts = ["short", "size", "saved"]
    run(o, [short, clipboard, many_owners, policy, big_file, files_out, size, sound, minute, again, saved, package])


main()
