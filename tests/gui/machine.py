# SPDX-License-Identifier: GPL-3.0-or-later
"""What people do in a real machine's window. The guest has a shell on its screen (or a terminal with one)
that may write to the serial port."""
import os
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


def type_line(serial, n, seconds=120, also=""):
    """A line typed by keys, with also before it, arrives at the guest's shell on the screen. A guest that is slow and
    has much to paint loses some of what is typed, and gets it again."""
    for _ in range(4):
        line(f"clear; {also}echo typed-$(({n}*7)) >/dev/ttyS0")
        if serial.look(f"typed-{n * 7}", seconds / 2):
            return
        ui.xdo("key", "ctrl+c", "sleep", 1)
    sys.exit(f"what is typed does not arrive: {serial.text[-3000:]}")


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


def settled(vm, seconds=120):
    """Waits until the guest has painted: nothing but a cursor changes any more, three times."""
    new, old, stills = vireo.DIR + "/new.png", vireo.DIR + "/old.png", 0

    def still():
        nonlocal stills
        os.replace(new, old)
        ui.xdo("sleep", 3)
        vireo.ctl("screenshot", vm, new)
        r = subprocess.run(["compare", "-metric", "AE", old, new, "null:"], capture_output=True, text=True)
        stills = stills + 1 if r.returncode < 2 and float(r.stderr.split()[0]) < 2000 else 0
        return stills == 3
    vireo.ctl("screenshot", vm, new)
    ui.wait(still, "the guest's screen to be painted", seconds)


def painted(vm, seconds=600):
    """Waits for a desktop that covers the most of the screen: until then it is black."""
    path = vireo.DIR + "/new.png"

    def light():
        ui.xdo("sleep", 3)
        vireo.ctl("screenshot", vm, path)
        return float(subprocess.run(["convert", path, "-colorspace", "gray", "-threshold", "2%", "-format", "%[fx:mean]",
                                     "info:"], check=True, capture_output=True, text=True).stdout)
    ui.wait(lambda: light() > 0.5, "the desktop on the screen", seconds)


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
    if vm:
        settled(vm)
    vireo.shot("full-screen")
    free_keyboard()
    ui.xdo("key", "F11")
    ui.wait(lambda: ui.geometry(wid)[2:] != DISPLAY, "the window")
    if vm:
        ui.wait(lambda: size(vm) != DISPLAY, "the guest's screen to follow back", 120)
        settled(vm)


def close(name, vm):
    """Closing leaves it running and says so once."""
    ui.focus(f"^{name}$")
    ui.xdo("key", "alt+F4")
    ui.press("Understood", "push button")
    ui.wait(lambda: not shown(name), "the console to close")
    assert vireo.state(vm) == "running"


def shut_down(vm, seconds=120):
    """From the toolbar; then it may be started again."""
    ui.press("Shut Down", "push button")
    ui.need("Off", "label", seconds=seconds)
    ui.wait(lambda: vireo.state(vm) == "off", "the worker to end")
    ui.wait(lambda: ui.enabled(ui.find("Start", "push button")), "the offer to start it again")


def open_again(name):
    ui.click(ui.need(name, "list item"), "Virtual Machines")
    ui.window_id(f"^{name}$")
    click_screen(name)


def back_in_time(name, vm, serial):
    """A checkpoint from the toolbar, and back: the shell on the screen knows nothing of what came after."""
    click_screen(name)
    type_line(serial, 2, also="then=1; ")
    ui.press("Checkpoint", "push button")
    ui.wait(lambda: ui.enabled(ui.find("Revert", "push button")), "a checkpoint to go back to", 120)
    click_screen(name)
    type_line(serial, 4, also="then=2; ")
    worker = vireo.worker(vm)
    ui.press("Revert", "push button")
    ui.press("Go Back", "push button")
    ui.wait(lambda: vireo.worker(vm) not in (None, worker) and vireo.state(vm) == "running",
            "the machine to run as it was", 120)
    serial = vireo.Serial(vm)
    ui.need("Running", "label", seconds=120)
    click_screen(name)
    for _ in range(4):
        line("echo then-$then- >/dev/ttyS0")
        then = serial.look(r"then-(\d?)-", 60)
        if then:
            break
    assert then and then.group(1) == "1", "what came after the checkpoint is still there"
    vireo.shot("reverted")
    free_keyboard()
    return serial
