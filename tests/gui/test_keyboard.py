# SPDX-License-Identifier: GPL-3.0-or-later
"""Nobody needs a pointer: in every window and page the keyboard alone comes to whatever can be worked."""
import sys
import time

from gi.repository import GLib

import ui
import vireo

WORKED = {"push button", "toggle button", "check box", "radio button", "text", "password text", "entry", "combo box",
          "spin button", "slider", "switch", "page tab", "link"}
WINDOW = {"Minimize", "Maximize", "Restore", "Close"}  # the window manager's keys do these
FOCUSED, FOCUSABLE = ui.Atspi.StateType.FOCUSED, ui.Atspi.StateType.FOCUSABLE
there, come = {}, {}  # by window: what can be worked, and what the keyboard came to


def said(n):
    """Its role and name. A part that has the keyboard counts as what it is a part of."""
    parent = n.get_parent()
    if parent is not None and parent.get_role_name() in ("spin button", "text", "combo box", "entry"):
        return said(parent)
    return f"{n.get_role_name().replace('toggle', 'push')} “{n.get_name()}”"


def row_of(part):
    """The entry row that this is a part of: GTK 4.8 does not tell that one has the keyboard, only that a part of it changes."""
    for _depth in range(3):
        if part is None or part.get_role_name() not in ("filler", "panel", "text"):
            return None
        if part.get_role_name() == "text":
            return part
        part = part.get_parent()
    return None


def workable(n):
    return (n.get_role_name() in WORKED and n.get_name() not in WINDOW and not lone_tab(n) and ui.showing(n) and ui.enabled(n))


def lone_tab(n):
    """The only page's, which is not shown."""
    return n.get_role_name() == "page tab" and n.get_parent().get_child_count() == 1


def inside(row):
    """The only thing to be worked in a row: pressing the row does it."""
    found = {said(n) for n, _depth in ui.walk(row) if workable(n)}
    return found if len(found) == 1 else set()


class Keyboard:
    """Who has the keyboard: what the application tells a screen reader."""

    def __init__(self):
        self.now = self.row = None
        self.listener = ui.Atspi.EventListener.new(self.told)
        self.listener.register("object:state-changed:focused")

    def told(self, event):
        if event.detail1:
            self.now = event.source
        else:
            self.row = row_of(event.source) or self.row

    def press(self, key):
        """The widget that the key gave the keyboard to; None where it stayed."""
        self.now = self.row = None
        ui.xdo("key", key)
        end = time.monotonic() + 1
        while not self.now and time.monotonic() < end:
            GLib.MainContext.default().iteration(False) or time.sleep(0.01)
        return self.now or self.row


def check(title, page):
    """Walks by Tab, then through groups and lists by the arrows too, until nothing new comes."""
    ui.focus("^" + title + "$")
    window = ui.need(title, "frame")
    mine, got = there.setdefault(title, {}), come.setdefault(title, set())
    for n, _depth in ui.walk(window):
        if workable(n):
            mine.setdefault(said(n), page)
    for keys in (("Tab",), ("Tab", "Down", "Right")) * 2:
        seen, stale = set(), 0
        while stale < 8 and not set(mine) <= got:
            stale += 1
            for key in keys:
                n = keyboard.press(key)
                if n is None:
                    continue
                role = n.get_role_name()
                got.add(said(n))
                if role == "list item":
                    got |= inside(n)
                if n.path not in seen:
                    stale = 0
                seen.add(n.path)
                if role not in ("radio button", "check box", "list item", "page tab"):
                    break  # elsewhere the arrows change values
        if set(mine) <= got:
            break
    print(f"{title}, {page}: {len(mine)} to be worked, {len(set(mine) - got)} not come to yet:",
          *sorted(set(mine) - got), flush=True)


def close(title):
    """The first Escape may only leave an entry, or a menu."""
    for _ in range(5):
        ui.focus("^" + title + "$")
        ui.xdo("key", "Escape")
        try:
            return ui.wait(lambda: ui.find(title, "frame") is None, f"{title} to close", 8)
        except ui.NotThere:
            pass
    sys.exit(f"{title} does not close")


keyboard = Keyboard()
vm = vireo.ctl("create", "First", "disk0.path=" + vireo.DIR + "/none.raw", "disk1.media=dvd", "disk1.slot=1")
other = vireo.ctl("create", "Second")
app = vireo.start()
ui.press("Start Second", "push button")
vireo.logged(other, "state running")
check("Virtual Machines", "library")
WIZARD = "New Virtual Machine"
vireo.action("new")
ui.need("What is in it?", "label")
check(WIZARD, "What is in it?")
for page in ("Choose a system", "Name and place", "Hardware", "Ready to create"):
    if page == "Name and place":
        ui.fill(WIZARD, "Password", "secret")
    ui.next_page(page)
    check(WIZARD, page)
while ui.find(WIZARD, "frame"):
    ui.focus(WIZARD)
    ui.xdo("key", "Escape")
    time.sleep(0.3)
vireo.ctl("switch", "create", "lab")
vireo.action("switches")
ui.need("lab", "label")
check("Switch Manager", "all")
close("Switch Manager")
vireo.action("preferences")
ui.need("Preferences", "frame")
check("Preferences", "all")
close("Preferences")
vireo.action("disk-tool")
ui.need("Disk Tool", "frame")
check("Disk Tool", "all")
ui.focus("Disk Tool")
ui.xdo("key", "ctrl+w")
vireo.action("open", other)
ui.need("Screen of the virtual machine")
ui.press("Checkpoint", "push button")
ui.press("Checkpoints", "push button")
check("Second", "console")
vireo.action("settings", vm)
ui.need("Virtual processors", "label")
for page in ("Machine", "Disks", "Network", "Console", "Management"):
    ui.click(ui.need(page, None, ui.find("Settings of First", "frame")), "Settings of First")
    check("Settings of First", page)
close("Settings of First")
vireo.stop(app)
problems = [f"{title}, {page}: the keyboard does not come to the {what}" for title in there
            for what, page in there[title].items() if what not in come[title]]
problems += [f"{title}: a {what.split(' “')[0]} without a name" for title in come  # or its class, for want of one
             for what in come[title] if what.split(" “")[1].startswith(("Gtk", "Adw")) and what.split(" ")[0] in ("push", "text", "check")]
print(*problems, sep="\n", file=sys.stderr)
sys.exit(bool(problems))
