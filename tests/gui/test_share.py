# SPDX-License-Identifier: GPL-3.0-or-later
"""The Share window with a real worker, the console window and two real clients at once: who is connected is
listed, may only look when so told, and is disconnected."""
import os
import socket
import subprocess
import sys

import ui
import vireo

NAME = "Shared"
if not os.path.exists("/usr/share/seabios/bios-256k.bin"):
    print("SeaBIOS is not there")
    sys.exit(77)


def free_port(start):
    for port in range(start, start + 200):
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)):
                return port
    raise ui.NotThere("a free port")


def rows():
    """The clients' rows, by their buttons."""
    share = ui.find("Share", "dialog") or ui.find("Share", "frame") or ui.app()
    return [n for n, _ in ui.walk(share) if n.get_name() == "Disconnect" and ui.showing(n)]



def main():
    vireo.ctl("create", NAME, "--generation", "1", "--memory", "64M", "--switch", "none", "processor.accel=soft")
    vireo.ctl("start", NAME)
    spice, vnc = free_port(5940), free_port(6200)
    vireo.ctl("remote", NAME, "spice", "on", "--port", str(spice), "--no-password")
    vireo.ctl("remote", NAME, "vnc", "on", "--port", str(vnc), "--no-password")
    app = vireo.start()
    ui.click(ui.need(NAME, "list item"), "Virtual Machines")
    ui.window_id(f"^{NAME}$")
    ui.need("Screen of the virtual machine")
    ui.press("Share", "push button")
    ui.need("Nobody is connected.", "label", seconds=60)
    vireo.shot("share-nobody")
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    # on a display of their own: they are somebody else's
    read, write = os.pipe()
    display = subprocess.Popen(["Xvfb", "-displayfd", str(write), "-screen", "0", "1024x768x24", "-nolisten", "tcp"],
                               pass_fds=[write], **quiet)
    env = dict(os.environ, DISPLAY=":" + os.read(read, 16).decode().strip())
    viewers = [subprocess.Popen(["remote-viewer", f"spice://127.0.0.1:{spice}"], env=env, **quiet),
               subprocess.Popen(["xtigervncviewer", "-SecurityTypes", "None", f"127.0.0.1::{vnc}"], env=env, **quiet)]
    try:
        ui.wait(lambda: len(rows()) == 2, "two clients in the window", 120)
        vireo.shot("share-two")
        ui.press("May only look", "toggle button" if ui.find("May only look", "toggle button") else None)
        ui.wait(lambda: "look" in vireo.ctl("remote", NAME) or "view" in vireo.ctl("remote", NAME), "one that may only look", 60)
        ui.press("Disconnect", "push button")
        ui.wait(lambda: len(rows()) == 1, "one client less", 60)
        ui.press("Disconnect", "push button")
        ui.need("Nobody is connected.", "label", seconds=60)
        vireo.shot("share-gone")
    finally:
        for p in viewers + [display]:
            p.kill()
            p.wait()
    vireo.stop(app)
    vireo.ctl("turn-off", NAME)


main()
