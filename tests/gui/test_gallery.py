# SPDX-License-Identifier: GPL-3.0-or-later
"""A system of the gallery, as a person makes it: the wizard builds a Debian, it boots in the window, its
user logs in there and types, and it shuts down. VIREO_ENTRY: server or desktop."""
import os
import subprocess
import sys
import time

import machine
import ui
import vireo

ENTRY = os.environ.get("VIREO_ENTRY", "server")
GUESTS = os.environ["VIREO_GUESTS"]
WIZARD = "New Virtual Machine"
NAME = "Debian " + ENTRY

# The packages of former runs.
os.makedirs(GUESTS + "/gallery", exist_ok=True)
os.makedirs(os.environ["XDG_CACHE_HOME"] + "/vireo")
os.symlink(GUESTS + "/gallery", os.environ["XDG_CACHE_HOME"] + "/vireo/gallery")


def told():
    """What the wizard says while it builds."""
    return [n.get_name() for n, _ in ui.walk(ui.find(WIZARD, "frame")) if n.get_role_name() == "label"]


def go_to_build():
    ui.press("Create a Virtual Machine", "push button")
    ui.need("What is in it?", "label")
    ui.next_page()
    ui.click(ui.need(NAME, "list item"), WIZARD)
    ui.fill(WIZARD, "User name", "tester")
    ui.fill(WIZARD, "Password", "secret")
    ui.type_into("Time zone", "Asia/Tokyo")
    ui.next_page()
    ui.next_page()
    ui.need("Processors", "spin button")
    ui.next_page()


def cancel_leaves_nothing():
    ui.press("Create", "push button")
    ui.need(f"Creating “{NAME}”", "label")
    ui.wait(lambda: len(vireo.machines()) == 1, "the machine's folder")
    time.sleep(2)
    ui.press("Cancel", "push button")
    ui.need("Ready to create", "label", seconds=60)
    ui.wait(lambda: not vireo.machines(), "nothing to be left", 60)


def build():
    ui.press("Create", "push button")
    seen, end = set(), time.monotonic() + 2400
    while not ui.find(NAME, "frame"):
        if ui.find("The Machine Was Not Created", "label"):
            sys.exit(f"it was not built: {told()}")
        assert time.monotonic() < end, f"not built in time: {seen}"
        try:
            seen.update(told())
        except Exception:
            pass
        time.sleep(0.3)
    assert seen & {"Setting up the system", "Writing the disk", "Packing the disk"}, seen
    return vireo.machines()[0]


def log_in(serial):
    serial.wait("login: ", 1200)
    serial.say("tester")
    serial.wait("Password: ", 120)
    serial.say("secret")
    serial.wait(r"tester@debian", 300)
    serial.say("stty -echo; PS1=; date +zone-%Z; echo secret | sudo -S chmod 666 /dev/ttyS0; echo open-$((1+1))")
    serial.wait("zone-JST")
    serial.wait("open-2", 120)


def type_on_screen(serial):
    title = f"^{NAME}$"
    if ENTRY == "desktop":
        serial.say("until pgrep -x lxqt-panel >/dev/null; do sleep 1; done; sleep 20; "
                   "XAUTHORITY=$HOME/.Xauthority DISPLAY=:0 setsid qterminal >/dev/null 2>&1 & sleep 30; echo there-$((1+1))")
        serial.wait("there-2", 900)
        vireo.shot("gallery-desktop")
        ui.click(ui.need("Screen of the virtual machine"), title)
    else:
        ui.click(ui.need("Screen of the virtual machine"), title)
        for line, wait in (("tester", 6), ("secret", 25)):
            ui.xdo("type", "--delay", "40", line)
            ui.xdo("key", "Return")
            time.sleep(wait)
    machine.type_line(serial, 6)
    vireo.shot(f"gallery-{ENTRY}-typed")


vireo.say("opening the application")
app = vireo.start()
vireo.shot("gallery-1-empty")
go_to_build()
vireo.shot("gallery-2-summary")
vireo.say("building is cancelled once, which leaves nothing")
cancel_leaves_nothing()
vireo.say(f"building {NAME}")
vm = build()
assert os.path.exists(f"{vireo.STORE}/{vm}/disk.vhdx") and not os.path.exists(f"{vireo.STORE}/{vm}/disk.raw")
vireo.say("it starts")
ui.wait(lambda: vireo.state(vm) == "running", "the machine to run", 60)
serial = vireo.Serial(vm)
log_in(serial)
vireo.say("its user has logged in; typing on the screen")
type_on_screen(serial)
vireo.say("a checkpoint, and back")
serial = machine.back_in_time(NAME, vm, serial)
vireo.say("shutting down")
ui.press("Shut Down", "push button")
ui.need("Off", "label", seconds=400)
vireo.shot("gallery-3-off")
vireo.stop(app)
vireo.say("done")
