# SPDX-License-Identifier: GPL-3.0-or-later
"""From an empty account through the wizard to a running machine, with the keyboard and by widgets."""
import os

import ui
import vireo

WIZARD = "New Virtual Machine"


def wizard_makes_a_machine():
    open(vireo.DIR + "/vmlinuz", "w").write("kernel")
    ui.press("Create a Virtual Machine", "push button")
    ui.click(ui.need("Linux kernel", "list item"), WIZARD)
    ui.next_page()
    n = ui.need("Next", "push button")
    ui.wait(lambda: not ui.enabled(n), "Next to be off without a kernel")
    ui.fill(WIZARD, "Kernel", vireo.DIR + "/vmlinuz")
    ui.next_page()
    ui.fill(WIZARD, "Name", "First & <best>")
    ui.next_page()
    ui.need("Processors", "spin button")
    ui.next_page()
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
vireo.stop(app)
assert vireo.alive(vireo.worker_pid(first)), "the machine ended with the application"
assert os.path.exists(vireo.STORE)
