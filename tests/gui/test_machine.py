# SPDX-License-Identifier: GPL-3.0-or-later
"""A real machine in the window: the wizard makes it, it boots, is typed and clicked in, goes to the full
screen and back, runs on when its window is closed, is opened again, and shuts down."""
import os
import subprocess
import sys

import machine
import ui
import vireo

GUESTS = os.environ["VIREO_GUESTS"]
HERE = os.path.dirname(os.path.abspath(__file__))
NAME = "Real one"
KERNEL = GUESTS + "/kernels/full/vmlinuz"

if not os.path.exists(KERNEL):
    print("the tests' kernels are not there (tests/guests/prepare)")
    sys.exit(77)


def make_initrd():
    path = vireo.DIR + "/initrd.gz"
    subprocess.run([HERE + "/../guests/mkinitrd", "--guests", GUESTS, "--out", path, "--kernel", "full",
                    "--modules", "hv_vmbus hyperv_keyboard hid_hyperv hid_generic hyperv_drm hv_utils evdev",
                    "--script", HERE + "/machine-guest.sh"], check=True)
    return path


def wizard(initrd):
    title = "New Virtual Machine"
    ui.press("Create a Virtual Machine", "push button")
    ui.click(ui.need("Linux kernel", "list item"), title)
    ui.next_page("Linux")
    ui.fill(title, "Kernel", KERNEL)
    ui.fill(title, "Initial RAM disk (may be empty)", initrd)
    ui.fill(title, "Command line (may be empty)", "console=tty0 console=ttyS0 do=script")
    ui.next_page("Name and place")
    ui.fill(title, "Name", NAME)
    ui.next_page("Hardware")
    ui.next_page("Ready to create")
    ui.press("Create", "push button")
    return ui.wait(lambda: vireo.machines()[0], "the machine in the store")


def lit():
    """The brightest spot in the middle of the screen widget on the display, 0 to 1."""
    e = machine.screen().get_extents(ui.Atspi.CoordType.WINDOW)
    x, y, _, _ = ui.geometry(ui.window_id(f"^{NAME}$"))
    w, h = e.width * 3 // 4, e.height // 2
    out = subprocess.run(["import", "-window", "root", "-crop",
                          f"{w}x{h}+{x + e.x + e.width // 8}+{y + e.y + e.height // 8}", "-format",
                          "%[fx:maxima]", "info:"], capture_output=True, text=True, check=True).stdout
    return float(out)


def pointer(serial):
    machine.click_screen(NAME)
    # EV_KEY BTN_LEFT, up after down
    assert serial.do("i=0; until pointer | grep -q '^1 110 0 0' || [ $i -gt 50 ]; do sleep 0.2; i=$((i+1)); done; "
                     "pointer | grep -q '^1 110 1 0'") == 0, "no click in the guest"
    serial.say("pointer | grep '^3 0 ' | tail -n 1; pointer | grep '^3 1 ' | tail -n 1")
    at = [int(serial.wait(rf"3 {axis} (\w+) 0").group(1), 16) for axis in (0, 1)]
    serial.wait("VIREO-STATUS")
    assert all(abs(v - 0x4000) < 0x400 for v in at), f"clicked at {at}, of 32768"


app = vireo.start()
vm = wizard(make_initrd())
ui.window_id(f"^{NAME}$")
ui.wait(lambda: vireo.state(vm) == "running", "the machine to run", 60)
serial = vireo.Serial(vm)
ui.wait(lambda: lit() > 0.4, "the kernel's lines in the window", 120)
vireo.shot("machine-boot")
serial.wait("VIREO-READY", 240)
pointer(serial)
machine.type_line(serial, 6)
vireo.shot("machine-typed")
machine.full_screen(NAME, serial)
serial = machine.back_in_time(NAME, vm, serial)

machine.close(NAME, vm)
assert serial.do("true") == 0
vireo.shot("machine-thumbnail")
vireo.stop(app)
assert serial.do("true") == 0, "it ended with the application"

# And again.
app = vireo.start()
machine.open_again(NAME)
machine.type_line(serial, 5)
machine.shut_down(vm)
vireo.shot("machine-off")
vireo.stop(app)
