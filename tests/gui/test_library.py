# SPDX-License-Identifier: GPL-3.0-or-later
"""From an empty account through the wizard to a running machine, with the keyboard and by widgets."""
import json
import os
import subprocess
import time

import ui
import vireo

WIZARD = "New Virtual Machine"


def wizard_makes_a_machine():
    open(vireo.DIR + "/vmlinuz", "w").write("kernel")
    ui.press("Create a Virtual Machine", "push button")
    ui.click(ui.need("Linux kernel", "list item"), WIZARD)
    ui.next_page("Linux")
    n = ui.need("Next", "push button")
    ui.wait(lambda: not ui.enabled(n), "Next to be off without a kernel")
    ui.fill(WIZARD, "Kernel", vireo.DIR + "/vmlinuz")
    ui.next_page("Name and place")
    ui.fill(WIZARD, "Name", "First & <best>")
    ui.next_page("Hardware")
    ui.next_page("Ready to create")
    ui.need("First & <best>", "label")
    ui.press("Create", "push button")
    vm = ui.wait(lambda: vireo.machines()[0], "the machine in the store")
    assert vireo.ctl("show", vm, "machine.name") == "First & <best>"
    assert vireo.ctl("show", vm, "boot.kernel") == vireo.DIR + "/vmlinuz"
    assert vireo.ctl("show", vm, "adapter0.switch") == "nat"
    vireo.logged(vm, "configure files=1 fds=1")
    vireo.logged(vm, "state running")
    ui.window_id("First & <best>")
    return vm


def list_follows_the_store(vm):
    vireo.ctl("create", "Second")
    ui.need("Second", "list item")
    vireo.ctl("set", vm, "machine.name=Renamed")
    ui.need("Renamed", "list item")
    vireo.ctl("delete", "Second", "--yes")
    ui.gone("Second", "list item")
    bad = vireo.ctl("create", "Bad")
    open(f"{vireo.STORE}/{bad}/machine.ini", "w").write("junk")
    ui.need(bad, "list item")
    ui.need("Renamed", "list item")


def switches(vm):
    """A private switch is made in the manager, an adapter connected to it, and it stays while that is so."""
    vireo.action("switches")
    title = "Switch Manager"
    ui.need("Connected: Renamed", "label")
    ui.fill(title, "Name of a new private switch", "lab & <co>")
    ui.xdo("key", "Return")
    ui.need("Remove lab & <co>", "push button")
    ui.wait(lambda: json.loads(vireo.ctl("switch", "--json"))[1]["name"] == "lab & <co>", "the switch in the list")
    vireo.ctl("set", vm, "adapter0.switch=private", "adapter0.name=lab & <co>")
    ui.xdo("key", "Escape")
    ui.gone(title, "frame")
    vireo.action("switches")
    n = ui.need("Remove lab & <co>", "push button")
    assert not ui.enabled(n), "a switch in use can be removed"
    vireo.ctl("set", vm, "adapter0.switch=nat", "adapter0.name=")
    ui.focus(title)
    ui.xdo("key", "Escape")
    ui.gone(title, "frame")
    vireo.action("switches")
    ui.press("Remove lab & <co>", "push button")
    ui.gone("Remove lab & <co>", "push button")
    assert len(json.loads(vireo.ctl("switch", "--json"))) == 1
    ui.focus(title)
    ui.xdo("key", "Escape")
    ui.gone(title, "frame")


def choose_file(title, path):
    """In GTK's own dialog for files, by keyboard."""
    wid = ui.focus(title)
    for _ in range(5):
        ui.xdo("key", "ctrl+a")
        ui.xdo("type", "--delay", "20", path)
        ui.xdo("key", "Return")
        for _ in range(50):
            if subprocess.run(["xdotool", "getwindowname", wid], capture_output=True).returncode:
                return
            time.sleep(0.2)
        ui.focus(title)
    raise ui.NotThere(f"“{title}” to take {path}")


def goes_and_comes():
    """A machine is exported from its row's menu, and imported as another one."""
    vireo.ctl("create", "Traveller", "machine.notes=far away")
    ui.need("Traveller", "list item")
    ui.click(ui.need("Actions for Traveller"), "Virtual Machines")
    ui.need("Export…", "menu item")
    ui.xdo("key", "x")  # its mnemonic
    path = vireo.DIR + "/out.vireo"
    choose_file("Export Machine", path)
    ui.wait(lambda: os.path.exists(path), "the exported file", 60)
    ui.gone("Exporting “Traveller”", "label")
    vireo.ctl("delete", "Traveller", "--yes")
    ui.gone("Traveller", "list item")
    vireo.action("import")
    choose_file("Import Machine", path)
    ui.need("Traveller", "list item")
    vireo.notified("“Traveller” was imported")
    assert vireo.ctl("show", "Traveller", "machine.notes") == "far away"
    vireo.ctl("delete", "Traveller", "--yes")


def search_finds():
    ui.focus("Virtual Machines")
    ui.xdo("key", "ctrl+f")
    ui.xdo("type", "nothing like it")
    ui.need("Nothing Found", "label")
    ui.xdo("key", "ctrl+a")
    ui.xdo("type", "renam")
    ui.need("Renamed", "list item")
    ui.xdo("key", "Escape")


app = vireo.start()
ui.need("No Virtual Machines Yet", "label")
vireo.shot("empty")
first = wizard_makes_a_machine()
list_follows_the_store(first)
vireo.shot("list")
search_finds()
switches(first)
goes_and_comes()
vireo.stop(app)
assert vireo.alive(vireo.worker_pid(first)), "the machine ended with the application"
assert os.path.exists(vireo.STORE)
