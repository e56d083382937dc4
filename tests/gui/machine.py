# SPDX-License-Identifier: GPL-3.0-or-later
"""What people do in a real machine's window. The guest has a shell on its screen (or a terminal with one)
that may write to the serial port."""
import ui
import vireo

CAPTURED = "Keyboard captured: press and release Ctrl+Alt to free it"


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


def back_in_time(name, vm, serial):
    """A checkpoint from the toolbar, and back: the shell on the screen knows nothing of what came after."""
    ui.click(screen(), f"^{name}$")
    line("then=1")
    type_line(serial, 2)
    ui.press("Checkpoint", "push button")
    ui.wait(lambda: ui.enabled(ui.find("Revert", "push button")), "a checkpoint to go back to", 120)
    ui.click(screen(), f"^{name}$")
    line("then=2")
    type_line(serial, 4)
    worker = vireo.worker(vm)
    ui.press("Revert", "push button")
    ui.press("Go Back", "push button")
    ui.wait(lambda: vireo.worker(vm) not in (None, worker) and vireo.state(vm) == "running",
            "the machine to run as it was", 120)
    serial = vireo.Serial(vm)
    ui.need("Running", "label", seconds=120)
    ui.click(screen(), f"^{name}$")
    ui.need(CAPTURED, "label")
    line("echo then-$then >/dev/ttyS0")
    assert serial.wait(r"then-(\d)", 120).group(1) == "1", "what came after the checkpoint is still there"
    vireo.shot("reverted")
    ui.xdo("key", "--delay", "60", "Control_L+Alt_L")
    ui.gone(CAPTURED, "label")
    return serial
