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
STEPS = ("Looking for packages", "Fetching packages", "Unpacking packages", "Setting up the system",
         "Writing the disk", "Packing the disk")

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
    ui.next_page("Choose a system")
    ui.click(ui.need(NAME, "list item"), WIZARD)
    ui.fill(WIZARD, "User name", "tester")
    ui.fill(WIZARD, "Password", "secret")
    ui.type_into("Time zone", "Asia/Tokyo")
    ui.next_page("Name and place")
    ui.next_page("Hardware")
    ui.next_page("Ready to create")


def cancel_leaves_nothing():
    ui.press("Create", "push button")
    ui.need(f"Creating “{NAME}”", "label")
    ui.wait(lambda: len(vireo.machines()) == 1, "the machine's folder")
    ui.wait(lambda: len(set(told()) & set(STEPS)) > 0, "it to begin", 120)
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
    assert seen & set(STEPS[3:]), seen
    return vireo.machines()[0]


def log_in(serial):
    serial.wait("login: ", 1800)
    serial.say("tester")
    serial.wait("Password: ", 300)
    serial.say("secret")
    serial.wait(r"tester@debian", 600)
    serial.say("stty -echo; PS1=; date +zone-%Z; echo secret | sudo -S chmod 666 /dev/ttyS0 /dev/vcs1; echo open-$((1+1))")
    serial.wait("zone-JST", 120)
    serial.wait("open-2", 300)
    serial.say("test -e /etc/initramfs-tools/conf.d/vireo; dmesg 2>/dev/null | head -1 >/dev/null; "
               "grep -o BOOT_IMAGE=[^_]* /proc/cmdline")
    serial.wait("BOOT_IMAGE=/vmlinuz", 120)  # its own boot loader gave it that, not we


def until(serial, command, what):
    """Waits inside the guest, at its own pace."""
    serial.say(f"until {command}; do sleep 1; done; echo {what}-$((1+1))")
    serial.wait(f"{what}-2", 1800)


def click_screen():
    ui.click(machine.screen(), f"^{NAME}$")
    ui.need(machine.CAPTURED, "label")


def terminal_on_desktop(serial):
    """A terminal in the guest's session, which then has the keyboard."""
    until(serial, "pgrep -x lxqt-panel >/dev/null", "panel")
    serial.say("XAUTHORITY=$HOME/.Xauthority DISPLAY=:0 setsid qterminal >/dev/null 2>&1 &")
    until(serial, "pgrep -P $(pgrep -x qterminal | head -1) bash >/dev/null 2>&1", "terminal")
    for _ in range(10):  # its window comes some time after its shell
        click_screen()
        machine.line("echo at-$((3*7)) >/dev/ttyS0")
        if serial.look("at-21", 30):
            break
    else:
        sys.exit("the terminal takes no keys")
    vireo.shot("gallery-desktop")
    # xterm's mouse reports: a click is six bytes for the press and six for the release. What comes of further clicks
    # is read too, or the shell would have it as text.
    machine.line("printf '\\e[?1000h'; echo mouse-$((1+1)) >/dev/ttyS0; read -rsn12 k; printf '\\e[?1000l'; "
                 "while read -rsn1 -t2 x; do :; done; echo clicked-${#k} >/dev/ttyS0")
    serial.wait("mouse-2", 120)
    for _ in range(10):
        click_screen()
        if serial.look("clicked-12", 30):
            return
    sys.exit("the terminal sees no click")


def type_on_screen(serial):
    if ENTRY == "desktop":
        terminal_on_desktop(serial)
    else:
        click_screen()
        machine.line("tester")
        until(serial, "tr -d '\\0' </dev/vcs1 | grep -q Password:", "asked")
        machine.line("secret")
        until(serial, "tr -d '\\0' </dev/vcs1 | grep -q 'tester@debian:'", "shell")
    machine.type_line(serial, 6, 300)
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
