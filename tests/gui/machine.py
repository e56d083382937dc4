# SPDX-License-Identifier: GPL-3.0-or-later
"""What people do in a real machine's window. The guest has a shell on its screen (or a terminal with one)
that may write to the serial port."""
import subprocess
import sys

import ui
import vireo

CAPTURED = "Keyboard captured: press and release Ctrl+Alt to free it"


DISPLAY = (1440, 1000)


def screen():
    return ui.need("Screen of the virtual machine")


def line(text):
    """Keys for the screen that has the keyboard; xdotool's own line end is no key of a keyboard."""
    ui.xdo("type", "--delay", "30", text)
    ui.xdo("key", "Return")


def type_line(serial, n, seconds=120):
    """A line typed by keys arrives at the guest's shell on the screen."""
    line(f"clear; echo typed-$(({n}*7)) >/dev/ttyS0")
    serial.wait(f"typed-{n * 7}", seconds)


def click_screen(name):
    """The screen has the keyboard then."""
    ui.click(screen(), f"^{name}$")
    ui.need(CAPTURED, "label")


def free_keyboard():
    ui.xdo("key", "--delay", "60", "Control_L+Alt_L")
    ui.gone(CAPTURED, "label")


def shown(name):
    return subprocess.run(["xdotool", "search", "--onlyvisible", "--name", f"^{name}$"], capture_output=True).stdout


def size(vm):
    """The picture's, in the guest's pixels."""
    path = vireo.DIR + "/size.png"
    vireo.ctl("screenshot", vm, path)
    return tuple(int(n) for n in subprocess.run(["identify", "-format", "%w %h", path], check=True,
                                                capture_output=True, text=True).stdout.split())


def full_screen(name, serial, vm=None):
    """There and back, and keys arrive there. With vm: its screen follows."""
    wid = ui.focus(f"^{name}$")
    free_keyboard()
    before = size(vm) if vm else None
    ui.xdo("key", "F11")
    ui.wait(lambda: ui.geometry(wid)[2:] == DISPLAY, "the full screen")
    if vm:
        ui.wait(lambda: size(vm) == DISPLAY, f"the guest's screen to follow: {before}", 120)
    for _ in range(6):
        ui.xdo("key", "Return")  # into the screen, once the window is laid out
        ui.xdo("sleep", 1)
        line("clear; echo typed-$((3*7)) >/dev/ttyS0")
        if serial.look("typed-21", 30):
            break
    else:
        sys.exit("the screen takes no keys in full screen")
    vireo.shot("full-screen")
    free_keyboard()
    ui.xdo("key", "F11")
    ui.wait(lambda: ui.geometry(wid)[2:] != DISPLAY, "the window")


def close(name, vm):
    """Closing leaves it running and says so once."""
    ui.focus(f"^{name}$")
    ui.xdo("key", "alt+F4")
    ui.press("Understood", "push button")
    ui.wait(lambda: not shown(name), "the console to close")
    assert vireo.state(vm) == "running"


def open_again(name):
    ui.click(ui.need(name, "list item"), "Virtual Machines")
    ui.window_id(f"^{name}$")
    click_screen(name)


def back_in_time(name, vm, serial):
    """A checkpoint from the toolbar, and back: the shell on the screen knows nothing of what came after."""
    click_screen(name)
    line("then=1")
    type_line(serial, 2)
    ui.press("Checkpoint", "push button")
    ui.wait(lambda: ui.enabled(ui.find("Revert", "push button")), "a checkpoint to go back to", 120)
    click_screen(name)
    line("then=2")
    type_line(serial, 4)
    worker = vireo.worker(vm)
    ui.press("Revert", "push button")
    ui.press("Go Back", "push button")
    ui.wait(lambda: vireo.worker(vm) not in (None, worker) and vireo.state(vm) == "running",
            "the machine to run as it was", 120)
    serial = vireo.Serial(vm)
    ui.need("Running", "label", seconds=120)
    click_screen(name)
    line("echo then-$then >/dev/ttyS0")
    assert serial.wait(r"then-(\d)", 120).group(1) == "1", "what came after the checkpoint is still there"
    vireo.shot("reverted")
    free_keyboard()
    return serial
