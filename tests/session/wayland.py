#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clipboard of a Wayland session: a pretended guest (guest.py) with sway on no screen, and wl-copy and wl-paste.
No SPICE agent runs there: our own helper serves.  wayland.py BUILD [ext]
ext: by ext-data-control, which sway of today has by the older name (renamed.py)."""
import glob, json, os, subprocess, sys

import clipboard, guest
from clipboard import NAME, ctl, from_guest, to_guest
from guest import check, until
from renamed import Renamed

EXT = "ext" in sys.argv
if EXT:
    sys.argv.remove("ext")


if os.geteuid() == 0:
    print("skipped: sway does not run as root")
    sys.exit(77)


class Guest(guest.Guest):
    def begin(self):
        folder = self.folder
        self.env = dict(os.environ, HOME=folder, XDG_RUNTIME_DIR=folder, XDG_CONFIG_HOME=f"{folder}/config",
                        DBUS_SESSION_BUS_ADDRESS="disabled:", WLR_BACKENDS="headless", WLR_RENDERER="pixman",
                        WLR_LIBINPUT_NO_DEVICES="1")
        for unwanted in "WAYLAND_DISPLAY", "DISPLAY", "XAUTHORITY", "PULSE_SERVER":
            self.env.pop(unwanted, None)
        for d in "config", "Downloads":
            os.makedirs(f"{folder}/{d}", exist_ok=True)
        os.chmod(folder, 0o700)
        with open(f"{folder}/config/sway", "w") as f:
            f.write("xwayland disable\n")
        self.start_agent()
        assert until(lambda: os.path.exists(f"{folder}/session")), "no agent"
        if EXT:  # it looks there alone
            os.makedirs(f"{folder}/renamed", 0o700, exist_ok=True)
            self.env["XDG_RUNTIME_DIR"] = f"{folder}/renamed"
        self.start_clipboard()  # it waits for the desktop
        self.env["XDG_RUNTIME_DIR"] = folder
        self.start_compositor()

    def start_compositor(self):
        self.run("sway", "sway", "--config", f"{self.folder}/config/sway")
        sockets = until(lambda: [p for p in glob.glob(f"{self.folder}/wayland-*") if not p.endswith(".lock")])
        assert sockets, open(f"{self.folder}/sway.log").read()
        self.env["WAYLAND_DISPLAY"] = os.path.basename(sockets[0])
        if EXT:
            self.renamed = Renamed(f"{self.folder}/renamed/wayland-0", sockets[0])

    def copy(self, data, target=None, selection="clipboard"):
        command = ["wl-copy"] + (["--primary"] if selection == "primary" else []) + ["--type", target or "text/plain;charset=utf-8"]
        subprocess.run(command, input=data, env=self.env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def paste(self, target="UTF8_STRING", seconds=guest.PATIENCE, selection="clipboard"):
        command = ["wl-paste", "--no-newline", "--type", target if "/" in target else "text/plain;charset=utf-8"]
        try:
            r = subprocess.run(command + (["--primary"] if selection == "primary" else []), env=self.env, timeout=seconds,
                               capture_output=True)
        except subprocess.TimeoutExpired:
            return None
        return r.stdout if r.returncode == 0 else None


def again(g):
    g.stop("sway")
    check("the clipboard goes with the compositor", until(lambda: clipboard.services().get("clipboard") == "missing"),
          clipboard.services())
    g.start_compositor()
    check("and comes with another", until(lambda: clipboard.is_ready("clipboard")), clipboard.services())
    check("and goes on", to_guest(g, b"after") and from_guest(g, b"afterwards", "text/plain"))


def owners(g):
    clipboard.many_owners(g, 20)


def size(g):
    g.env["SWAYSOCK"] = glob.glob(f"{g.folder}/sway-ipc.*")[0]

    def now():
        r = subprocess.run(["swaymsg", "-t", "get_outputs", "-r"], env=g.env, capture_output=True)
        mode = json.loads(r.stdout)[0]["current_mode"]
        return [mode["width"], mode["height"]]
    for wanted in [1400, 900], [812, 633]:
        ctl("session", "size", NAME, "%dx%d" % tuple(wanted))
        check(f"the screen becomes {wanted[0]} x {wanted[1]}", until(lambda: now() == wanted), now())


def by_new_name(g):
    check("by ext-data-control", bool(g.renamed.told))


clipboard.NEEDS = ["clipboard"]
clipboard.Guest = Guest
if EXT:
    clipboard.main([by_new_name, clipboard.text, clipboard.html, owners, clipboard.copied_files])
else:
    clipboard.main([clipboard.text, clipboard.pictures, clipboard.html, owners, clipboard.policy_text, size, clipboard.files,
                    clipboard.copied_files, again])
