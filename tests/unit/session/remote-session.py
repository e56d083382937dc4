#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What SPICE and VNC clients have of the enhanced session, with real clients and a guest's agent of our own (fakeguest.py):
clipboard both ways, sound and microphone, the size, a CD shared by remote-viewer and read by USB/IP, policy.
remote-session.py REMOTE-SERVER [TEST...]"""
import math, os, shutil, signal, struct, subprocess, sys, time

import fakeguest
from remotelib import (PATIENCE, Server, end_display, free_display_port, free_port, need_display, run, until, window, work,
                       xdotool)

SOUND = None


class Session:
    """A remote-server with a guest, and a viewer."""

    def __init__(self, kind, *viewer):
        need_display()
        self.path = f"{work}/guest.sock"
        if os.path.exists(self.path):
            os.unlink(self.path)
        n = free_display_port()
        port = 5900 + n if kind == "vnc" else free_port()
        self.server = Server(kind, f"tcp:{port}", f"guest={self.path}")
        self.guest = fakeguest.Guest(self.path)
        place = f"127.0.0.1:{n}" if kind == "vnc" else f"spice://127.0.0.1:{port}"
        self.log = open(f"{work}/viewer.log", "w")
        self.viewer = subprocess.Popen([*viewer, place], stdout=self.log, stderr=self.log)

    def __enter__(self):
        self.server.wait_clients(1)
        self.window = window("A machine")
        xdotool("windowfocus", self.window)
        return self

    def __exit__(self, kind, value, trace):
        self.viewer.kill()
        self.viewer.wait()
        self.log.close()
        if kind is None:
            self.server.wait_clients(0)
            self.server.end()
        else:
            self.server.process.kill()
            print(open(f"{work}/viewer.log").read()[-2000:])


def host_copy(data, target="UTF8_STRING"):
    p = subprocess.Popen(["xclip", "-selection", "clipboard", "-t", target, "-i"], stdin=subprocess.PIPE,
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    p.communicate(data)
    assert p.returncode == 0


def host_paste(target="UTF8_STRING"):
    return subprocess.run(["xclip", "-selection", "clipboard", "-t", target, "-o"], stdout=subprocess.PIPE,
                          stderr=subprocess.DEVNULL, timeout=PATIENCE).stdout


def clipboard_both_ways(s, large):
    g = s.guest
    g.wait("the agent", lambda: g.vdagent)
    for text in "five!", "Grüße, 世界, \U0001f600", "x" * 70000 if large else "four":
        g.copy(text=text.encode())
        assert until(lambda: host_paste() == text.encode())
        mine = (text + " back").encode()
        g.offered = None
        host_copy(mine)
        assert until(lambda: g.paste() == mine)


def spice_clipboard():
    """Also a picture; and what the policy keeps back stays there."""
    with Session("spice", "remote-viewer") as s:
        clipboard_both_ways(s, True)
        g = s.guest
        png = subprocess.run(["convert", "-size", "64x48", "plasma:red-blue", "png:-"], stdout=subprocess.PIPE,
                             check=True).stdout
        g.copy(png=png)
        assert until(lambda: host_paste("image/png") == png)
        assert s.server.ask("policy 1 0") == "set"  # from the guest
        g.copy(text=b"secret")
        time.sleep(2)
        assert b"secret" not in host_paste()
        assert s.server.ask("policy 0 0") == "set"  # to the guest
        g.offered = None
        host_copy(b"mine")
        time.sleep(2)
        assert g.offered is None, g.offered


def vnc_clipboard():
    with Session("vnc", "xtigervncviewer", "-SecurityTypes", "None", "-RemoteResize=0") as s:
        g = s.guest
        g.wait("the agent", lambda: g.vdagent)
        for i in range(3):
            g.copy(text=f"from the guest {i}".encode())
            assert until(lambda: host_paste() == f"from the guest {i}".encode())
            g.offered = None
            host_copy(f"to the guest {i}".encode())
            xdotool("windowfocus", "--sync", s.window)
            assert until(lambda: g.offered and g.paste() == f"to the guest {i}".encode())


def spice_size():
    """The guest's screen follows the viewer's window."""
    with Session("spice", "remote-viewer") as s:
        g = s.guest
        g.wait("the agent", lambda: g.vdagent)
        xdotool("windowsize", s.window, "900", "700")
        g.wait("the size", lambda: g.size and 800 <= g.size[0] <= 900 and 500 <= g.size[1] <= 700)


# ---- sound ----

def need_sound():
    """A sound server whose sink is recorded, and whose source plays what a second sink is given."""
    global SOUND
    if SOUND:
        return
    os.environ["PULSE_SERVER"] = f"unix:{work}/pulse.sock"
    SOUND = subprocess.Popen(
        ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no", "--disable-shm=yes", "--system=no",
         "-L", "module-null-sink sink_name=out rate=48000", "-L", "module-null-sink sink_name=feed rate=48000",
         "-L", f"module-native-protocol-unix auth-anonymous=1 socket={work}/pulse.sock"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert until(lambda: run("pactl", "info", check=False).returncode == 0)
    run("pactl", "set-default-sink", "out")
    run("pactl", "set-default-source", "feed.monitor")


def frequency(samples, rate):
    """By zero crossings of the loud part, and its share of the whole."""
    loud = [i for i, v in enumerate(samples) if abs(v) > 1000]
    if len(loud) < rate // 4:
        return 0
    part = samples[loud[0]:loud[-1]]
    return sum(1 for a, b in zip(part, part[1:]) if a < 0 <= b) * rate / len(part)


def words(data):
    return struct.unpack(f"<{len(data) // 2}h", data[:len(data) // 2 * 2])


def spice_sound():
    need_sound()
    with Session("spice", "remote-viewer") as s:
        s.guest.tone = 1000
        assert until(lambda: "remote-viewer" in run("pactl", "list", "sink-inputs").stdout.lower() or
              "virt" in run("pactl", "list", "sink-inputs").stdout.lower())
        heard = 0
        for _ in range(10):
            p = subprocess.Popen(["parec", "-d", "out.monitor", "--rate=48000", "--channels=1", "--format=s16le", "--raw"],
                                 stdout=subprocess.PIPE)
            data = p.stdout.read(48000 * 2 * 3)
            p.kill()
            p.wait()
            heard = frequency(words(data), 48000)
            if abs(heard - 1000) < 5:
                break
        assert abs(heard - 1000) < 5, heard


def spice_microphone():
    need_sound()
    tone = b"".join(struct.pack("<h", int(12000 * math.sin(2 * math.pi * 440 * i / 48000))) for i in range(48000 * 120))
    with open(f"{work}/tone.raw", "wb") as f:
        f.write(tone)
    player = subprocess.Popen(["pacat", "-d", "feed", "--rate=48000", "--channels=1", "--format=s16le", "--raw",
                               f"{work}/tone.raw"])
    try:
        with Session("spice", "remote-viewer") as s:
            g = s.guest
            g.records = True
            for _ in range(10):
                g.heard = b""
                g.wait("sound", lambda: len(g.heard) > 48000 * 2 * 2)
                heard = frequency(words(g.heard[48000:]), 48000)
                if abs(heard - 440) < 5:
                    break
            assert abs(heard - 440) < 5, heard
            g.records = False
    finally:
        player.kill()
        player.wait()


# ---- USB ----

def spice_cd():
    """A CD that remote-viewer shares is read byte for byte by the guest's USB/IP; taken away, it ends."""
    content = os.urandom(2048 * 700 + 0)
    with open(f"{work}/disc.iso", "wb") as f:
        f.write(content)
    with Session("spice", "remote-viewer", f"--spice-share-cd={work}/disc.iso",
                 "--spice-usbredir-redirect-on-connect=-1,-1,-1,-1,1") as s:
        g = s.guest
        g.wait("the device", lambda: g.devices)
        d = g.devices[0]
        head = d.descriptor(1, 18)
        assert head[:2] == b"\x12\x01", head
        d.configure()
        assert d.scsi(bytes([0x12, 0, 0, 0, 36, 0]), 36)[1][0] & 31 == 5, "no CD drive"
        assert until(lambda: d.scsi(bytes(6), 0)[0] == 0 or d.scsi(bytes([3, 0, 0, 0, 18, 0]), 18) and False)
        last, size = struct.unpack(">II", d.scsi(bytes([0x25]) + bytes(9), 8)[1])
        assert (last, size) == (699, 2048), (last, size)
        read = b""
        for at in range(0, 700, 35):
            status, data = d.scsi(struct.pack(">BBIBHB", 0x28, 0, at, 0, 35, 0), 35 * 2048)
            assert status == 0
            read += data
        assert read == content, "what was read is not what was shared"
        s.viewer.kill()
        try:
            d.scsi(bytes(6), 0)
            raise AssertionError("the device outlived its viewer")
        except (OSError, EOFError):
            d.ended = True


TESTS = [spice_clipboard, vnc_clipboard, spice_size, spice_sound, spice_microphone, spice_cd]
signal.alarm(900)
failed = 0
try:
    for test in TESTS:
        if len(sys.argv) > 2 and test.__name__ not in sys.argv[2:]:
            continue
        try:
            test()
            print(f"ok   {test.__name__}", flush=True)
        except Exception as problem:
            failed += 1
            print(f"FAIL {test.__name__}: {type(problem).__name__}: {problem}", flush=True)
finally:
    end_display()
    if SOUND:
        SOUND.kill()
    shutil.rmtree(work, ignore_errors=True)
sys.exit(failed != 0)
