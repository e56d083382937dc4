# SPDX-License-Identifier: GPL-3.0-or-later
"""Every window, page and menu, for people to look at (tests/gui/look): test_windows.py opens the most of them in ./test."""
import os
import shutil
import subprocess
import sys

import ui
import vireo
from looking import _, look, problems


def label(text):
    """A text of the application's with its mnemonic, as it is shown."""
    return _(text).replace("_", "")


def menu(button, title, name):
    """Looks at the menu of a button."""
    ui.click(ui.need(_(button)), title)
    ui.wait(lambda: [n for n, _d in ui.walk(ui.app()) if n.get_role_name() == "menu item" and ui.showing(n)], "the menu")
    look(name)
    ui.xdo("key", "Escape")


def tall(title, height):
    """The window so high that all of a long page is in it, where the display has room for that."""
    wid = ui.window_id(title)
    room = int(subprocess.run(["xdotool", "getdisplaygeometry"], capture_output=True, text=True).stdout.split()[1])
    x, y, w, h = ui.geometry(wid)
    if room >= height * ui.SCALE:
        ui.xdo("windowsize", "--sync", wid, w, height * ui.SCALE)
        ui.xdo("windowmove", wid, 20, 0)


def turn_to(page, title):
    """A page of the settings; its button may be on the way to another place."""
    button = ui.need(_(page), None, ui.find(title, "frame"))
    if button.get_action_iface() is None or not button.do_action(0):
        ui.click(button, title)


def close(title):
    ui.focus(title)
    ui.xdo("key", "Escape")
    ui.wait(lambda: ui.find(title, "frame") is None and ui.find(title, "dialog") is None,
            f"“{title}” to close", 10)


# A gallery whose builder takes its time, then has no room.
shutil.copytree(os.environ["VIREO_GALLERY"], vireo.DIR + "/gallery")
os.environ["VIREO_GALLERY"] = vireo.DIR + "/gallery"
open(vireo.DIR + "/gallery/build-debian", "w").write(
    "#!/bin/sh\necho 30 Installing packages\nwhile [ ! -e %s/full ]; do sleep 0.1; done\n"
    "echo error There is not enough room on the disk.\nexit 1\n" % vireo.DIR)
WIZARD, LIBRARY = _("New Virtual Machine"), _("Virtual Machines")

app = vireo.start()
ui.need(_("No Virtual Machines Yet"), "label")
look("empty")
menu("Main Menu", LIBRARY, "main-menu")
vm = vireo.ctl("create", "Debian 12", "--memory", "2G", "disk0.path=" + vireo.DIR + "/none.raw",
               "disk1.media=dvd", "disk1.slot=1", "machine.notes=Test")
other = vireo.ctl("create", "Running one")
bad = vireo.ctl("create", "Bad")
open(f"{vireo.STORE}/{bad}/machine.ini", "w").write("junk")
ui.press(_("Start %s") % "Running one", "push button")
vireo.logged(other, "state running")
ui.need(bad, "list item")
look("library")
menu(_("Actions for %s") % "Debian 12", LIBRARY, "row-menu")
ui.focus(LIBRARY)
ui.xdo("key", "ctrl+f")
ui.xdo("type", "nothing like it")
ui.need(_("Nothing Found"), "label")
look("nothing-found")
ui.xdo("key", "Escape")

vireo.action("new")
ui.need(_("What is in it?"), "label")
look("wizard-1-source")
for page, title in [("2-gallery", "Choose a system"), ("3-name", "Name and place"),
                    ("4-hardware", "Hardware"), ("5-summary", "Ready to create")]:
    if page == "3-name":
        ui.type_into(_("Password"), "secret")  # below the edge of a small display
    ui.next_page(_(title), label("_Next"))
    look("wizard-" + page)
ui.press(label("_Create"), "push button")
ui.need(_("Installing packages"), "label")
look("wizard-6-building")
open(vireo.DIR + "/full", "w").close()
dialog = ui.need(_("The Machine Was Not Created"), "label")
look("wizard-7-failed")
while dialog.get_role_name() not in ("dialog", "alert", "frame", "window"):
    dialog = dialog.get_parent()
ui.press(label("_Close"), "push button", dialog)
ui.gone(_("The Machine Was Not Created"), "label")


def wizard_from(source, *pages):
    """Another way through the wizard, from its first page."""
    ui.wait(lambda: ui.find(WIZARD, "frame") is None, "the wizard to close")
    vireo.action("new")
    ui.need(_("What is in it?"), "label")
    row = ui.need(_(source), "list item")
    x, y, w, h = ui.geometry(ui.focus(WIZARD))
    for _i in range(20):  # it may be below the edge of a small display
        e = row.get_extents(ui.Atspi.CoordType.WINDOW)
        if (e.y + e.height) * ui.SCALE < h:
            break
        ui.xdo("mousemove", x + w // 2, y + h * 2 // 3, "click", 5, "sleep", 0.3)
    ui.click(row, WIZARD)
    for page, title in pages:
        ui.next_page(_(title), label("_Next"))
        look("wizard-" + page)
        if ui.find(_("File"), "text"):
            ui.type_into(_("File"), vireo.DIR + "/some.iso")


def leave_wizard():
    ui.focus(WIZARD)
    ui.xdo("key", *["Escape"] * 6)


open(vireo.DIR + "/some.iso", "w").write("junk")
leave_wizard()
wizard_from("Installer image", ("iso", "Installer image"))
ui.next_page(_("Name and place"), label("_Next"))
ui.next_page(_("Generation"), label("_Next"))
look("wizard-generation")
leave_wizard()
wizard_from("Linux kernel", ("kernel", "Linux"))
leave_wizard()
ui.wait(lambda: ui.find(WIZARD, "frame") is None, "the wizard to close")

vireo.ctl("switch", "create", "lab")
vireo.action("switches")
ui.need("lab", "label")
look("switches")
ui.xdo("key", "Escape")
ui.gone(_("Switch Manager"), "frame")
vireo.action("preferences")
ui.need(_("Preferences"))
look("preferences")
ui.xdo("key", "Escape")
vireo.action("why-slow")
look("why-slow")
ui.xdo("key", "alt+F4")
vireo.action("about")
look("about")
ui.xdo("key", "Escape")
vireo.action("shortcuts")
look("shortcuts")
ui.xdo("key", "Escape")
vireo.action("open", other)
ui.window_id("^Running one$")
ui.need(_("Screen of the virtual machine"))
look("console")
menu("Menu", "^Running one$", "console-menu")
for _i in range(2):
    ui.press(_("Checkpoint"), "push button")
ui.press(_("Checkpoints"), "push button")
look("checkpoints")
ui.press(_("Turn Off"), "push button")
ui.need(_("Turn Off “%s”?") % "Running one", "label")
look("ask-turn-off")
ui.xdo("key", "Escape")
ui.gone(_("Turn Off “%s”?") % "Running one", "label")
ui.press(_("Checkpoints"), "push button")


def choose(*items):
    """In the menu of the console."""
    ui.click(ui.need(_("Menu")), "^Running one$")
    for item in items:
        ui.press(label(item), "menu item")


choose("_View", "_Share…")
ui.need("VNC", "label")
look("share")
ui.xdo("key", "Escape")
ui.gone("VNC", "label")
choose("_Clipboard", "_Type Clipboard Text…")
ui.need(_("Type Clipboard Text"))
look("type-text")
ui.xdo("key", "Escape")
ui.gone(_("Type Clipboard Text"), "frame")
console = ui.focus("^Running one$")
before = ui.geometry(console)[2:]
for _i in range(10):  # once it has the keyboard again
    ui.xdo("key", "F11")
    try:
        ui.wait(lambda: ui.geometry(console)[2:] != before, "the full screen", 6)
        break
    except ui.NotThere:
        pass
for _i in range(20):  # once it fills the screen
    ui.xdo("mousemove", 300, 200, "sleep", 0.3, "mousemove", 300, 1)
    try:
        ui.need(label("_Leave Full Screen"), "push button", seconds=5)
        break
    except ui.NotThere:
        pass
look("fullscreen")
ui.press(label("_Leave Full Screen"), "push button")
ui.gone(label("_Leave Full Screen"), "push button")
os.kill(vireo.worker_pid(other), 9)
ui.need(_("Crashed"), "label")
look("crashed")
ui.focus("^Running one$")
ui.xdo("key", "ctrl+w")

vireo.action("settings", vm)
ui.need(_("Virtual processors"), "label")
title = _("Settings of %s") % "Debian 12"
tall(title, 1500)
look("settings-machine")
for page in ["Disks", "Network", "Console", "Management"]:
    turn_to(page, title)
    look("settings-" + page.lower())
ui.xdo("key", "Escape")
ui.gone(title, "frame")
disk = vireo.DIR + "/disk.vhdx"
vireo.ctl("disk", "create", disk, "--size", "1G")
vireo.action("disk-tool")
ui.need(_("Disk Tool"), "frame")
look("disk-tool")
vireo.stop(app)
for p in sorted(set(problems)):
    print(p, file=sys.stderr)
sys.exit(bool(problems))
