# SPDX-License-Identifier: GPL-3.0-or-later
"""What people do in a real machine's window. The guest has a shell on its screen (or a terminal with one)
that may write to the serial port."""
import ui
import vireo


def screen():
    return ui.need("Screen of the virtual machine")


def type_line(serial, n):
    """A line typed by keys arrives at the guest's shell on the screen."""
    ui.xdo("type", "--delay", "30", f"clear; echo typed-$(({n}*7)) >/dev/ttyS0")
    ui.xdo("key", "Return")
    serial.wait(f"typed-{n * 7}")


def back_in_time(name, vm, serial):
    """A checkpoint from the toolbar, and back: the shell on the screen knows nothing of what came after."""
    ui.click(screen(), f"^{name}$")
    ui.xdo("type", "--delay", "30", "then=1\n")
    type_line(serial, 2)
    ui.press("Checkpoint", "push button")
    ui.wait(lambda: ui.enabled(ui.find("Revert", "push button")), "a checkpoint to go back to", 120)
    ui.click(screen(), f"^{name}$")
    ui.xdo("type", "--delay", "30", "then=2\n")
    type_line(serial, 4)
    worker = vireo.worker(vm)
    ui.press("Revert", "push button")
    ui.press("Go Back", "push button")
    ui.wait(lambda: vireo.worker(vm) not in (None, worker) and vireo.state(vm) == "running",
            "the machine to run as it was", 120)
    serial = vireo.Serial(vm)
    ui.need("Running", "label", seconds=120)
    for attempt in range(4):
        ui.click(screen(), f"^{name}$")
        ui.need("Keyboard captured: press and release Ctrl+Alt to free it", "label")
        ui.xdo("type", "--delay", "30", "echo then-$then >/dev/ttyS0\n")
        then = serial.look(r"then-(\d)", 25)
        if then:
            break
        # A window that is laid out anew just then takes the focus from the screen: a person clicks again.
        print("typed into nothing after the revert", flush=True)
    assert then and then.group(1) == "1", f"what came after the checkpoint is still there, or nothing came: {then}"
    vireo.shot("reverted")
    return serial
