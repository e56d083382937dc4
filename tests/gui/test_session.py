# SPDX-License-Identifier: GPL-3.0-or-later
"""The enhanced session in the console window, with a pretended guest (tests/session/guest.py) that has the real
spice-vdagent and PulseAudio: its states and reasons, the screen that follows, copy and paste, sound, a file
dragged in, USB's chooser."""
import glob
import os
import subprocess
import sys
import threading
import urllib.parse

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/../session")
os.environ["VIREO_FAKE_AGENT"] = os.environ["VIREO_GUI_INSIDE"] + "/agent.sock"
os.environ["VIREO_FAKE_STILL"] = "1"
sound_folder = os.environ["VIREO_GUI_INSIDE"] + "/sound"
os.environ["PULSE_SERVER"] = f"unix:{sound_folder}/native"

import guest  # noqa: E402
import sounds  # noqa: E402
import ui  # noqa: E402
import vireo  # noqa: E402

HOST = dict(os.environ)
begun = [guest.pulse(sound_folder, "module-null-sink sink_name=out rate=48000")]


def button():
    """GTK 4.8 tells no role and state of its own for one that toggles."""
    return ui.find("Enhanced Session", "toggle button") or ui.find("Enhanced Session", "push button")


def need_state(text, sensitive=True):
    ui.need(text + " session · software processor", "label", seconds=120)
    ui.wait(lambda: ui.enabled(button()) == sensitive, "the button to be as it should")


def xclip(env, *args, data=None):
    return subprocess.run(["timeout", "20", "xclip", "-selection", "clipboard", *args], env=env, input=data,
                          stdout=subprocess.DEVNULL if data is not None else subprocess.PIPE, stderr=subprocess.DEVNULL)


def same(look, wanted, what):
    ui.wait(lambda: look() == wanted, what, 60)


def first():
    """No agent: Basic, and why."""
    need_state("Basic", sensitive=False)
    vireo.shot("session-basic")
    assert "No agent answers in the guest" in vireo.ctl("session", "status", "Guest")


def copying(g):
    # by programs of both sides
    xclip(HOST, "-i", data="for the guest \u20ac".encode())
    same(lambda: g.paste(seconds=20), "for the guest \u20ac".encode(), "the host's text in the guest")
    g.copy(b"of the guest")
    same(lambda: xclip(HOST, "-o").stdout, b"of the guest", "the guest's text on the host")
    # by an entry of another program
    lines = []
    other = subprocess.Popen(["/usr/bin/python3", os.path.dirname(os.path.abspath(__file__)) + "/desktop.py", g.folder + "/dragged.txt",
                              g.folder + "/large.bin"],
                             stdout=subprocess.PIPE, text=True)
    begun.append(other)
    threading.Thread(target=lambda: [lines.append(l.rstrip("\n")) for l in other.stdout], daemon=True).start()
    wid = ui.window_id("^Other Program$")
    ui.xdo("windowmove", wid, 20, 700)
    for _ in range(5):
        ui.focus("^Other Program$")
        x, y, w, h = ui.geometry(wid)
        ui.xdo("mousemove", x + w // 2, y + 12, "click", 1)
        ui.xdo("key", "ctrl+a")
        ui.xdo("key", "ctrl+v")
        try:
            ui.wait(lambda: lines and lines[-1] == "of the guest", "the guest's text pasted into an entry", 8)
            break
        except ui.NotThere:
            pass
    assert lines[-1:] == ["of the guest"], lines
    ui.xdo("key", "ctrl+a")
    ui.xdo("type", "typed by hand")
    ui.wait(lambda: lines[-1] == "typed by hand", "the typed text")
    ui.xdo("key", "ctrl+a")
    ui.xdo("key", "ctrl+c")
    same(lambda: g.paste(seconds=20), b"typed by hand", "the entry's text in the guest")


def html(g):
    xclip(HOST, "-i", "-t", "text/html", data=b"<b>for the guest</b>")
    same(lambda: g.paste("text/html", seconds=20), b"<b>for the guest</b>", "the host's HTML in the guest")
    g.copy(b"<i>of the guest</i>", "text/html")
    same(lambda: xclip(HOST, "-o", "-t", "text/html").stdout, b"<i>of the guest</i>", "the guest's HTML on the host")


def drag(screen):
    """What the other program has for it, onto the guest's screen."""
    vx, vy, _, _ = ui.geometry(ui.focus("^Guest$"))
    e = screen.get_extents(ui.Atspi.CoordType.WINDOW)
    x, y, w, h = ui.geometry(ui.focus("^Other Program$"))
    ui.xdo("mousemove", x + w // 2, y + h - 30, "mousedown", 1)
    for step in range(1, 21):
        ui.xdo("mousemove", x + w // 2 + (vx + e.x + e.width // 2 - x - w // 2) * step // 20,
               y + h - 30 + (vy + e.y + 60 - y - h + 30) * step // 20, "sleep", "0.05")
    ui.xdo("sleep", "0.5", "mouseup", 1)


def dragging(g, turn):
    """Two files: one arrives; the other, a large one, shows how far it is, and is cancelled."""
    content = os.urandom(100000)
    with open(g.folder + "/dragged.txt", "wb") as f:
        f.write(content)
    with open(g.folder + "/large.bin", "wb") as f:
        f.truncate(3 << 30)
    screen = ui.need("Screen of the virtual machine")

    def there(name):
        return [p for d in ("Downloads", "Desktop") for p in glob.glob(f"{g.folder}/{d}/{name}*")]

    def arrived():
        return any(open(p, "rb").read() == content for p in there("dragged"))
    for _ in range(4):
        drag(screen)
        try:
            ui.wait(arrived, "the file in the guest", 15)
            break
        except ui.NotThere:
            pass
    assert arrived(), there("")
    vireo.shot(f"session-dragged-{turn}")
    label = "Sending \u201clarge.bin\u201d"
    ui.need(label, "label", seconds=60)
    ui.wait(lambda: there("large"), "a part of the large file in the guest")
    vireo.shot(f"session-sending-{turn}")
    ui.press("Cancel", "push button")
    ui.wait(lambda: not ui.find(label, "label"), "that it is not sent any more")
    ui.wait(lambda: not there("large"), "that nothing of it is left in the guest")


def pasting(g):
    """A file copied in the desktop's file manager, by the window's menu."""
    with open(g.folder + "/copied.txt", "wb") as f:
        f.write(b"copied there")
    there = [f"{g.folder}/{d}/copied.txt" for d in ("Downloads", "Desktop")]
    xclip(HOST, "-i", "-t", "text/uri-list", data=f"file://{g.folder}/copied.txt\r\n".encode())
    ui.focus("^Guest$")
    ui.click(ui.need("Menu", "push button"), "^Guest$")
    ui.need("Clipboard", "menu item")
    ui.xdo("sleep", "0.5", "key", "c")  # by their mnemonics
    ui.need("Paste Files", "menu item")
    ui.xdo("sleep", "0.5", "key", "p")
    ui.wait(lambda: any(os.path.exists(p) and open(p, "rb").read() == b"copied there" for p in there), "the pasted file in the guest")


def files_out(g):
    """Files that were copied in the guest, pasted into the desktop's file manager."""
    content = os.urandom(100000)
    with open(g.folder + "/out there.bin", "wb") as f:
        f.write(content)
    g.copy(f"file://{g.folder}/out%20there.bin\r\n".encode(), "text/uri-list")

    def pasted(target, begin):
        r = xclip(HOST, "-o", "-t", target)
        if r.returncode or not r.stdout.startswith(begin):
            return False
        path = urllib.parse.unquote(r.stdout[len(begin):].decode().strip()).removeprefix("file://")
        return path.endswith("/out there.bin") and not path.startswith(g.folder) and open(path, "rb").read() == content
    ui.wait(lambda: pasted("text/uri-list", b"file://"), "the guest's file on the host", 60)
    ui.wait(lambda: pasted("x-special/gnome-copied-files", b"copy\n"), "the same, as file managers ask", 60)


def sound(g):
    listener = sounds.Listener(HOST)
    subprocess.run(["sox", "-n", "-r", "48000", "-c", "2", g.folder + "/tone.wav", "synth", "3", "sine", "1000"], check=True)
    play = subprocess.Popen(["paplay", "-d", "vireo", g.folder + "/tone.wav"], env=g.env)
    ui.wait(listener.tone, "a tone of 1000 Hz from the window", 60)
    play.wait()
    listener.end()


def asked_sizes(g):
    """What spice-vdagent was asked to make of the screen."""
    import re
    return re.findall(r"(\d+)x(\d+)", open(g.folder + "/vdagent.log", errors="replace").read())


vm = vireo.ctl("create", "Guest")
app = vireo.start()
ui.press("Start Guest", "push button")
vireo.logged(vm, "state running")
ui.click(ui.need("Guest", "list item"), "Virtual Machines")
wid = ui.window_id("^Guest$")
g = None
try:
    first()
    g = guest.Guest(os.environ["VIREO_GUI_INSIDE"] + "/guest", vireo.BUILD, os.environ["VIREO_FAKE_AGENT"])
    # The session comes by itself.
    need_state("Enhanced")
    vireo.shot("session-on")
    copying(g)
    html(g)
    sound(g)
    # The guest's screen follows the window.
    before = len(asked_sizes(g))
    ui.xdo("windowsize", ui.focus("^Guest$"), 1100, 800)
    ui.wait(lambda: len(asked_sizes(g)) > before, f"the guest to hear of the window's size: {asked_sizes(g)[-3:]}")
    dragging(g, "first")
    dragging(g, "again")  # the second drop is another thing to GDK than the first
    pasting(g)
    files_out(g)
    ui.press("USB devices", "toggle button") if ui.find("USB devices", "toggle button") else None
    ui.click(ui.need("USB Devices"), "^Guest$")
    ui.xdo("sleep", "1")
    vireo.shot("session-usb")
    ui.xdo("key", "Escape")
    # Basic: nothing goes either way.
    button().do_action(0)
    need_state("Basic")
    g.copy(b"not for the host")
    xclip(HOST, "-i", data=b"not for the guest")
    ui.xdo("sleep", 2)
    assert xclip(HOST, "-o").stdout == b"not for the guest"
    assert g.paste(seconds=20) == b"not for the host"
    button().do_action(0)
    need_state("Enhanced")
    # The agent goes: back to Basic, by itself, and says why.
    g.stop("agent")
    need_state("Basic", sensitive=False)
    g.restart_agent()
    need_state("Enhanced")
    vireo.shot("session-again")
finally:
    if g:
        g.end()
    for p in begun:
        p.kill()
vireo.stop(app)
vireo.ctl("turn-off", "Guest")
