# SPDX-License-Identifier: GPL-3.0-or-later
"""Finds and works the application's widgets by AT-SPI, and the pointer and keys by xdotool."""
import os
import subprocess
import time

import gi

gi.require_version("Atspi", "2.0")
from gi.repository import Atspi, GLib  # noqa: E402

Atspi.init()
Atspi.set_timeout(30000, 60000)  # of answers, in milliseconds: on a busy host 0.8 s are not enough
SCALE = int(os.environ.get("GDK_SCALE", "1"))  # pixels of the display for one of the application's


class NotThere(Exception):
    pass


def wait(fn, what, seconds=40):
    """fn's first true result; NotThere after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        try:
            r = fn()
        except Exception as e:  # widgets vanish while they are looked at
            r, last = None, e
        if r:
            return r
        if time.monotonic() > end:
            raise NotThere(what)
        time.sleep(0.05)


def app(name="vireo"):
    desktop = Atspi.get_desktop(0)
    for i in range(desktop.get_child_count()):
        a = desktop.get_child_at_index(i)
        if a and a.get_name() == name:
            return a
    return None


def walk(node, depth=0):
    """Every accessible below node that is showing, with its depth. What goes meanwhile is left out."""
    yield node, depth
    try:
        children = [node.get_child_at_index(i) for i in range(node.get_child_count())]
    except GLib.Error:
        return
    for c in children:
        if c is not None:
            yield from walk(c, depth + 1)


def showing(node):
    """GTK 4.8 does not tell SHOWING; what has a size is laid out."""
    try:
        e = node.get_extents(Atspi.CoordType.WINDOW)
    except Exception:
        return False
    return node.get_state_set().contains(Atspi.StateType.VISIBLE) and e.width > 0 and e.height > 0


def find(name, role=None, root=None, need_showing=True):
    """The first showing accessible of that name (and role, as 'push button')."""
    for n, _ in walk(root or wait(app, "the application")):
        try:
            if n.get_name() == name and (role is None or n.get_role_name() == role) and (not need_showing or showing(n)):
                return n
        except GLib.Error:  # gone meanwhile
            continue
    return None


def need(name, role=None, root=None, seconds=40):
    return wait(lambda: find(name, role, root), f"{role or 'widget'} “{name}”", seconds)


def gone(name, role=None, seconds=40):
    wait(lambda: find(name, role) is None, f"{name} to go", seconds)


def enabled(node):
    return node.get_state_set().contains(Atspi.StateType.SENSITIVE)


def press(name, role=None, root=None):
    n = wait(lambda: (lambda x: x if x and enabled(x) else None)(find(name, role, root)),
             f"an enabled {role or 'widget'} “{name}”")
    a = n.get_action_iface()
    if a is None or not n.do_action(0):
        raise NotThere(f"{name} has no action")
    return n


def type_into(name, text, role="text"):
    n = need(name, role)
    n.get_editable_text_iface()
    n.set_text_contents(text)


def window_id(title, seconds=40):
    def look():
        out = subprocess.run(["xdotool", "search", "--onlyvisible", "--name", title],
                             capture_output=True, text=True).stdout.split()
        return out[-1] if out else None
    return wait(look, f"window “{title}”", seconds)


def xdo(*args):
    subprocess.run(["xdotool", *map(str, args)], check=True, stdout=subprocess.DEVNULL)


def geometry(wid):
    out = subprocess.run(["xdotool", "getwindowgeometry", "--shell", wid], capture_output=True,
                         text=True).stdout
    g = dict(line.split("=", 1) for line in out.split())
    return int(g["X"]), int(g["Y"]), int(g["WIDTH"]), int(g["HEIGHT"])


def focus(title):
    """Gives the window the keyboard; returns its id."""
    wid = window_id(title)
    xdo("windowactivate", "--sync", wid)
    return wid


def click(node, title, button=1):
    """A real click in the middle of the widget, which is in the window of that title."""
    e = node.get_extents(Atspi.CoordType.WINDOW)
    x, y, _, _ = geometry(focus(title))
    xdo("mousemove", x + (e.x + e.width // 2) * SCALE, y + (e.y + e.height // 2) * SCALE, "click", button)


def content(node):
    iface = node.get_text_iface()
    return Atspi.Text.get_text(iface, 0, Atspi.Text.get_character_count(iface)) if iface else None


def fill(title, label, text):
    """Types into a row of the window of that title as a person would, who looks at what stands there then: a
    page that still slides in takes neither click nor keys."""
    for _ in range(5):
        node = need(label, "text")
        click(node, title)
        xdo("key", "ctrl+a")
        xdo("type", "--delay", "1", text)
        time.sleep(0.3)
        if content(node) == text:
            return
    raise NotThere(f"{label} takes no text: {content(node)!r}")


def next_page(title, button="Next"):
    """The wizard's next page, which has that title. A press while a field is still taken in does nothing."""
    for _ in range(6):
        press(button, "push button")
        try:
            return need(title, "label", seconds=20)
        except NotThere:
            pass
    raise NotThere(f"page “{title}”")


def shot(path):
    """The display; with VIREO_SHOT_WINDOW the active window alone and a little around it."""
    part = []
    if os.environ.get("VIREO_SHOT_WINDOW"):
        out = subprocess.run(["xdotool", "getactivewindow"], capture_output=True, text=True).stdout.split()
        if out:
            x, y, w, h = geometry(out[-1])
            part = ["-crop", f"{w + 20}x{h + 40}+{max(0, x - 10)}+{max(0, y - 30)}", "+repage"]
    subprocess.run(["import", "-window", "root", *part, path], check=True)


def dump(root=None):
    for n, d in walk(root or app()):
        if showing(n):
            print("  " * d + n.get_role_name(), repr(n.get_name()))


if __name__ == "__main__":
    dump()
