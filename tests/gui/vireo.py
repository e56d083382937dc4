# SPDX-License-Identifier: GPL-3.0-or-later
"""What the GUI tests share: the application, the store behind it, the fake worker's log."""
import glob
import json
import os
import re
import signal
import subprocess
import sys
import time

import ui

DIR = os.environ["VIREO_GUI_INSIDE"]
BUILD = os.environ["VIREO_BUILD"]
STORE = os.environ["XDG_DATA_HOME"] + "/vireo"
SHOTS = os.environ.get("VIREO_SHOTS")
_count = _shots = 0


def start(*args):
    """Starts the application and waits for its window."""
    global _count
    _count += 1
    log = open(f"{DIR}/app{_count}.log", "w")
    p = subprocess.Popen([BUILD + "/app/vireo", *args], stdout=log, stderr=log)
    ui.wait(ui.app, "the application on the accessibility bus", 30)
    return p


def stop(p, sig=signal.SIGTERM):
    p.send_signal(sig)
    p.wait(20)
    ui.wait(lambda: ui.app() is None, "the application to leave")


def ctl(*args):
    r = subprocess.run([BUILD + "/app/cli/vireoctl", *args], capture_output=True, text=True)
    if r.returncode:
        sys.exit(f"vireoctl {args}: {r.stderr}")
    return r.stdout.strip()


def action(name, target=None):
    """Activates an action of the application from outside, as the shell does."""
    args = [f"<'{target}'>"] if target else []
    subprocess.run(["gdbus", "call", "--session", "-d", "org.vireo.Vireo", "-o", "/org/vireo/Vireo",
                    "-m", "org.freedesktop.Application.ActivateAction", name,
                    "[" + ", ".join(args) + "]", "{}"], check=True, capture_output=True)


def log(vm):
    try:
        return open(f"{STORE}/{vm}/fake.log").read().split("\n")
    except OSError:
        return []


def logged(vm, line, seconds=20, count=1):
    """Waits until the fake worker of this machine has logged the line so often."""
    ui.wait(lambda: log(vm).count(line) >= count, f"“{line}” in the worker's log: {log(vm)[-12:]}",
            seconds)


def worker_pid(vm):
    return int([x for x in log(vm) if x.startswith("begin ")][-1].split()[1])


def alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().split(") ")[1][0] not in "ZX"
    except OSError:
        return False


def notified(title, seconds=40):
    """Waits for the desktop's notification of that title."""
    def look():
        return [n for n in open(DIR + "/notifications").read().split("\n") if n.split("|")[0] == title]
    return ui.wait(look, f"the notification “{title}”", seconds)


def machines():
    return sorted(os.path.basename(os.path.dirname(p)) for p in glob.glob(STORE + "/*/machine.ini"))


class Serial:
    """A real machine's first serial port, on which its guest takes commands by the line."""

    def __init__(self, vm):
        self.text = ""
        self.p = subprocess.Popen([BUILD + "/app/cli/vireoctl", "serial", vm],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        os.set_blocking(self.p.stdout.fileno(), False)

    def look(self, pattern, seconds=60):
        """Waits for the pattern; what came before it is forgotten. None: it did not come."""
        def look():
            self.text += (self.p.stdout.read() or b"").decode(errors="replace")
            return re.search(pattern, self.text)
        try:
            m = ui.wait(look, pattern, seconds)
        except ui.NotThere:
            return None
        self.text = self.text[m.end():]
        return m

    def wait(self, pattern, seconds=60):
        """The same, and it must come."""
        m = self.look(pattern, seconds)
        if not m:
            sys.exit(f"no “{pattern}” from the guest in {seconds} s: {self.text[-3000:]}")
        return m

    def say(self, line):
        self.p.stdin.write(line.encode() + b"\n")
        self.p.stdin.flush()

    def do(self, line, seconds=60):
        """Runs a line in the guest; its status."""
        self.say(line)
        return int(self.wait(r"VIREO-STATUS (\d+)", seconds).group(1))


def info(vm):
    r = subprocess.run([BUILD + "/app/cli/vireoctl", "info", vm, "--json"], capture_output=True,
                       text=True)
    return json.loads(r.stdout)[0] if r.returncode == 0 else {}


def state(vm):
    return info(vm).get("State", "off")


def worker(vm):
    """The process of a real machine."""
    return info(vm).get("ProcessId")


def _failed(kind, value, trace):
    try:
        shot("failed")
        for log in glob.glob(STORE + "/*/events.log"):
            print(f"{log}:", *open(log, errors="replace").readlines()[-20:], file=sys.stderr)
    finally:
        sys.__excepthook__(kind, value, trace)


sys.excepthook = _failed


def say(text):
    """For whoever reads along."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


def shot(name):
    """$VIREO_TOUR: for people who look at them in their order."""
    global _shots
    if SHOTS:
        os.makedirs(SHOTS, exist_ok=True)
        time.sleep(0.6)
        _shots += 1
        ui.shot(f"{SHOTS}/{f'{_shots:02}-' if os.environ.get('VIREO_TOUR') else ''}{name}.png")
