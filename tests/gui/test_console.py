# SPDX-License-Identifier: GPL-3.0-or-later
"""The console: keys, pointer, toolbar, a killed application and a killed worker."""
import os
import signal

import ui
import vireo

vm = vireo.ctl("create", "Console")
app = vireo.start()
ui.press("Start Console", "push button")
vireo.logged(vm, "state running")
ui.click(ui.need("Console", "list item"), "Virtual Machines")
ui.window_id("^Console$")
screen = ui.need("Screen of the virtual machine")
vireo.shot("console")

# Pointer and capture.
ui.click(screen, "^Console$")
vireo.logged(vm, "button 0 down")
vireo.logged(vm, "button 0 up")
moves = [x for x in vireo.log(vm) if x.startswith("move ")]
x, y = map(int, moves[-1].split()[1:])
assert abs(x - 512) < 12 and abs(y - 384) < 12, moves[-1]
ui.xdo("click", 4)
vireo.logged(vm, "button 3 down")
ui.xdo("click", 5)
vireo.logged(vm, "button 4 down")
ui.xdo("click", 3)
vireo.logged(vm, "button 2 down")

# Keys as hardware codes, the application's own shortcuts too.
for key, code in [("a", 30), ("Return", 28), ("F1", 59), ("F11", 87), ("Up", 200), ("Delete", 211),
                  ("KP_Enter", 156), ("Tab", 15), ("ctrl+q", 16), ("ctrl+w", 17), ("Pause", 198),
                  ("Print", 183), ("super", 219), ("Control_R", 157), ("Alt_R", 184)]:
    n = vireo.log(vm).count(f"release {code}")
    ui.xdo("key", key)
    vireo.logged(vm, f"release {code}", count=n + 1)
    assert app.poll() is None

# The way out by keyboard, and in again.
ui.need("Keyboard captured: press and release Ctrl+Alt to free it", "label")
ui.xdo("keydown", "Control_L", "keydown", "Alt_L", "keyup", "Alt_L", "keyup", "Control_L")
ui.need("Click the screen or press Enter in it to type", "label")
n = len(vireo.log(vm))
ui.xdo("key", "b")
assert not [x for x in vireo.log(vm)[n:] if x.startswith("press")]
ui.xdo("key", "Return")
ui.need("Keyboard captured: press and release Ctrl+Alt to free it", "label")
ui.xdo("key", "b")
vireo.logged(vm, "press 48")
# Ctrl+Alt+T is the guest's and does not free it.
ui.xdo("key", "ctrl+alt+t")
vireo.logged(vm, "press 20")
ui.need("Keyboard captured: press and release Ctrl+Alt to free it", "label")

# A dialog from the menu leaves the keyboard where it was in use.
ui.xdo("keydown", "Control_L", "keydown", "Alt_L", "keyup", "Alt_L", "keyup", "Control_L")
ui.need("Click the screen or press Enter in it to type", "label")
ui.click(ui.need("Menu"), "^Console$")
ui.press("View", "menu item")
ui.press("Share…", "menu item")
ui.need("VNC", "label")
ui.xdo("key", "Escape")
ui.gone("VNC", "label")
wid = ui.focus("^Console$")
before = ui.geometry(wid)[2:]
ui.xdo("key", "F11")
ui.wait(lambda: ui.geometry(wid)[2:] != before, "the full screen")
ui.xdo("key", "F11")
ui.wait(lambda: ui.geometry(wid)[2:] == before, "the window")

# Toolbar.
ui.press("Send Ctrl+Alt+Del", "push button")
vireo.logged(vm, "press 211", count=2)
ui.press("Pause", "push button")
vireo.logged(vm, "state paused")
ui.press("Start", "push button")
vireo.logged(vm, "call Resume")
ui.press("Checkpoint", "push button")
ui.wait(lambda: [x for x in vireo.log(vm) if x.startswith("call CreateCheckpoint")], "a checkpoint")

# kill -9 of the application: the machine runs on, and is there again.
worker = vireo.worker_pid(vm)
vireo.stop(app, signal.SIGKILL)
assert vireo.alive(worker)
n = vireo.log(vm).count("connection")
app = vireo.start()
vireo.logged(vm, "connection", count=n + 1)
ui.click(ui.need("Console", "list item"), "Virtual Machines")
wid = ui.window_id("^Console$")

# A console that opens onto a running machine is as large as its screen, and Enter is enough to type.


def large():
    e = ui.need("Screen of the virtual machine").get_extents(ui.Atspi.CoordType.WINDOW)
    return (e.width, e.height) == (1024, 768)


ui.wait(large, "the window as large as the screen")
ui.focus("^Console$")
ui.xdo("key", "Return")
ui.need("Keyboard captured: press and release Ctrl+Alt to free it", "label")

# kill -9 of the worker: the window says so and offers Start.
os.kill(worker, signal.SIGKILL)
ui.need("Crashed", "label")
vireo.shot("crashed")
ui.press("Start", "push button")
vireo.logged(vm, "state running", count=3)
ui.press("Shut Down", "push button")
vireo.logged(vm, "call Shutdown shutdown")
ui.need("Off", "label")
vireo.stop(app)
