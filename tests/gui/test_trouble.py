# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong outside: the application is killed while three machines run, sockets without anyone
behind, full and read-only places, a second instance; and units of the user's systemd."""
import json
import os
import shutil
import signal
import socket
import subprocess
import sys

import ui
import vireo

LIBRARY = "Virtual Machines"


def start_machine(name):
    ui.press(f"Start {name}", "push button")


def failure(*words):
    """A dialog whose text has all of the words; closes it."""
    def look():
        for n, _ in ui.walk(ui.app()):
            if n.get_role_name() == "label" and all(w in n.get_name() for w in words):
                return n
        return None
    dialog = ui.wait(look, f"a message with {words}")
    while dialog.get_role_name() not in ("dialog", "alert", "frame", "window"):
        dialog = dialog.get_parent()
    ui.press("Close", "push button", dialog)
    ui.wait(lambda: look() is None, "the message to close")


def three_run_on():
    vms = [vireo.ctl("create", f"Number {i}") for i in (1, 2, 3)]
    app = vireo.start()
    for i, vm in enumerate(vms):
        start_machine(f"Number {i + 1}")
        vireo.logged(vm, "state running")
    workers = [vireo.worker_pid(vm) for vm in vms]
    counts = [vireo.log(vm).count("connection") for vm in vms]
    vireo.stop(app, signal.SIGKILL)
    assert all(map(vireo.alive, workers)), "a machine ended with the application"
    app = vireo.start()
    for vm, n in zip(vms, counts):
        vireo.logged(vm, "connection", count=n + 1)
    ui.wait(lambda: len([n for n, _ in ui.walk(ui.app()) if n.get_role_name() == "label"
                         and n.get_name().startswith("Running")]) >= 3, "three running machines in the list")
    vireo.shot("three")
    # A second instance hands over to the first and ends well.
    second = subprocess.run([vireo.BUILD + "/app/vireo"], timeout=30)
    assert second.returncode == 0 and app.poll() is None
    return app, vms


def crash_is_told(vms):
    """A machine's end, while nobody has its window open."""
    os.kill(vireo.worker_pid(vms[2]), signal.SIGKILL)
    vireo.notified("“Number 3” ended unexpectedly")


def stale_socket():
    vm = vireo.ctl("create", "Stale")
    folder = os.environ["XDG_RUNTIME_DIR"] + "/vireo/" + vm
    os.makedirs(folder, 0o700)
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(folder + "/bus")
    ui.need("Stale", "list item")
    start_machine("Stale")
    vireo.logged(vm, "state running")


def search():
    """The desktop's search finds a machine and opens it."""
    def call(method, *args):
        return subprocess.run(["gdbus", "call", "--session", "-d", "org.vireo.Vireo", "-o",
                               "/org/vireo/Vireo/SearchProvider", "-m",
                               "org.gnome.Shell.SearchProvider2." + method, *args],
                              check=True, capture_output=True, text=True).stdout
    found = call("GetInitialResultSet", "['number', '2']")
    assert found.count("'") == 2, found
    vm = found.split("'")[1]
    assert "Number 2" in call("GetResultMetas", f"['{vm}']")
    call("ActivateResult", vm, "['number']", "0")
    ui.window_id("^Number 2$")


def desktop_opens_image():
    """As the desktop opens a disc image: the wizard starts with it."""
    path = vireo.DIR + "/some.iso"
    open(path, "wb").write(bytes(1 << 16))
    subprocess.run([vireo.BUILD + "/app/vireo", path], timeout=30, check=True)
    ui.need("New Virtual Machine", "frame")
    ui.need("Installer image", "label")
    for page in ("Name and place", "Generation", "Hardware", "Ready to create"):
        ui.next_page(page)
    ui.press("Create", "push button")
    failure("not a disc image")
    ui.focus("New Virtual Machine")
    subprocess.run(["xdotool", "key", "--repeat", "6", "Escape"])
    assert len(vireo.machines()) == 4, "a refused image left a machine behind"


def places(app):
    """A place that cannot be written, by the folder's mode (the tests may run as root: then by a file)."""
    vm = vireo.ctl("create", "Read only")
    folder = f"{vireo.STORE}/{vm}"
    ui.need("Read only", "list item")
    if os.geteuid():
        os.chmod(folder, 0o500)
        start_machine("Read only")
        failure("cannot be written", folder)
        os.chmod(folder, 0o700)
    runtime = os.environ["XDG_RUNTIME_DIR"] + "/vireo/" + vm
    shutil.rmtree(runtime, ignore_errors=True)  # of the start that failed
    open(runtime, "w").close()
    start_machine("Read only")
    failure("running machines", runtime)
    os.unlink(runtime)
    start_machine("Read only")
    vireo.logged(vm, "state running")


def units():
    """With a user's systemd a machine is a unit of its own."""
    log = vireo.DIR + "/units"
    manager = subprocess.Popen([sys.executable, "fake_systemd.py", log], stdout=subprocess.PIPE, text=True)
    assert manager.stdout.readline() == "ready\n"
    del os.environ["VIREO_NO_SYSTEMD"]
    vm, other = vireo.ctl("create", "Unit"), vireo.ctl("create", "Unit by vireoctl")
    app = vireo.start()
    start_machine("Unit")
    vireo.logged(vm, "state running")
    vireo.ctl("start", "Unit by vireoctl")
    vireo.logged(other, "state running")
    made = [json.loads(line) for line in open(log)]
    assert [u["name"] for u in made] == [f"app-vireo-vm-{i}.service" for i in (vm, other)], made
    assert made[0]["KillMode"] == "mixed" and made[0]["CollectMode"] == "inactive-or-failed", made
    vireo.stop(app, signal.SIGKILL)
    assert vireo.alive(vireo.worker_pid(vm))
    manager.kill()
    manager.wait()


app, vms = three_run_on()
crash_is_told(vms)
stale_socket()
search()
desktop_opens_image()
places(app)
vireo.stop(app)
units()
