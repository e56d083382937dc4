# SPDX-License-Identifier: GPL-3.0-or-later
"""Opens every window and page; whatever takes the keyboard has a name; pictures for people to look at."""
import sys

import ui
import vireo
from looking import _, look, problems


def close(title):
    ui.focus(title)
    ui.xdo("key", "Escape")
    ui.wait(lambda: ui.find(title, "frame") is None and ui.find(title, "dialog") is None,
            f"“{title}” to close", 10)


vm = vireo.ctl("create", "Debian 12", "--memory", "2G", "disk0.path=" + vireo.DIR + "/none.raw",
               "disk1.media=dvd", "disk1.slot=1", "machine.notes=Test")
other = vireo.ctl("create", "Running one")
bad = vireo.ctl("create", "Bad")
open(f"{vireo.STORE}/{bad}/machine.ini", "w").write("junk")
app = vireo.start()
ui.press(_("Start %s") % "Running one", "push button")
vireo.logged(other, "state running")
look("library")

vireo.action("new")
ui.need(_("What is in it?"), "label")
look("wizard-1-source")
for page, label in [("2-gallery", "Choose a system"), ("3-name", "Name and place"),
                    ("4-hardware", "Hardware"), ("5-summary", "Ready to create")]:
    if page == "3-name":
        ui.click(ui.need(_("Password"), "text"), _("New Virtual Machine"))
        ui.xdo("type", "secret")
    ui.next_page(_(label), _("_Next").replace("_", ""))
    look("wizard-" + page)
ui.xdo("key", "Escape", "key", "Escape", "key", "Escape", "key", "Escape", "key", "Escape")
ui.wait(lambda: ui.find(_("New Virtual Machine"), "frame") is None, "the wizard to close")

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
ui.press(_("Checkpoint"), "push button")
if _("Checkpoint") != _("Checkpoints"):
    ui.press(_("Checkpoints"))
look("checkpoints")
ui.press(_("Turn Off"), "push button")
ui.need(_("Turn Off “%s”?") % "Running one", "label")
look("ask-turn-off")
ui.xdo("key", "Escape")
vireo.action("settings", vm)
ui.need(_("Virtual processors"), "label")
look("settings-machine")
for page in ["Disks", "Network", "Console", "Management"]:
    settings = ui.find(_("Settings of %s") % "Debian 12", "frame")
    ui.click(ui.need(_(page), None, settings), _("Settings of %s") % "Debian 12")
    look("settings-" + page.lower())
ui.xdo("key", "Escape")
disk = vireo.DIR + "/disk.vhdx"
vireo.ctl("disk", "create", disk, "--size", "1G")
vireo.action("disk-tool")
look("disk-tool")
vireo.stop(app)
for p in sorted(set(problems)):
    print(p, file=sys.stderr)
sys.exit(bool(problems))
