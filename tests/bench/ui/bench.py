# SPDX-License-Identifier: GPL-3.0-or-later
"""What the application costs, in seconds of processor time: until its window is there with 50 machines in the
store, and for each update of a console of 1280x800. Tells, asserts nothing. Inside tests/gui/run:
    VIREO_BENCH=1 tests/gui/run BUILD tests/bench/ui/bench.py"""
import os
import subprocess
import sys
import time

sys.path.insert(0, os.environ.get("VIREO_GUI_TESTS", os.path.dirname(os.path.abspath(__file__)) + "/../../gui"))
os.environ["GTK_A11Y"] = "none"  # nobody reads the screen: no work for that
DIR, BUILD = os.environ["VIREO_GUI_INSIDE"], os.environ["VIREO_BUILD"]
STORE = os.environ["XDG_DATA_HOME"] + "/vireo"
TICK = os.sysconf("SC_CLK_TCK")


def ctl(*args):
    return subprocess.run([BUILD + "/app/cli/vireoctl", *args], check=True, capture_output=True, text=True).stdout.strip()


def cpu(pid):
    """Nanoseconds that its threads have run (schedstat counts finer than ticks)."""
    total = 0
    for t in os.listdir(f"/proc/{pid}/task"):
        try:
            total += int(open(f"/proc/{pid}/task/{t}/schedstat").read().split()[0])
        except OSError:
            pass
    return total / 1e6


def wait(fn, what, seconds=120):
    end = time.monotonic() + seconds
    while not fn():
        if time.monotonic() > end:
            sys.exit(f"not there in {seconds} s: {what}")
        time.sleep(0.02)


def shown(title):
    return subprocess.run(["xdotool", "search", "--onlyvisible", "--name", title], capture_output=True).stdout.strip()


def application(count):
    log = open(f"{DIR}/app{count}.log", "w")
    p = subprocess.Popen([BUILD + "/app/vireo"], stdout=log, stderr=log)
    wait(lambda: shown("^Virtual Machines$"), "the window")
    return p


def settle(pid):
    """Until it rests."""
    before = cpu(pid)
    while True:
        time.sleep(0.5)
        now = cpu(pid)
        if now - before < 5:
            return now
        before = now


def start():
    runs = []
    for i in range(5):
        p = application(i)
        ready = cpu(p.pid)
        runs.append((ready, settle(p.pid)))
        p.terminate()
        p.wait()
    runs.sort()
    print(f"window there with 50 machines: {runs[2][0]:.0f} ms of CPU; at rest: {runs[2][1]:.0f} ms", flush=True)


def painted(vm):
    try:
        return int([x for x in open(f"{STORE}/{vm}/fake.log").read().split("\n") if x.startswith("painted")][-1].split()[1])
    except (OSError, IndexError):
        return 0


def updates(name, shape):
    os.environ.pop("VIREO_FAKE_STILL", None)
    os.environ["VIREO_FAKE_BENCH"] = "1280x800:" + (shape or "0x0")
    if not shape:
        os.environ["VIREO_FAKE_STILL"] = "1"
    vm = ctl("create", name)
    ctl("start", name)
    p = application(9)
    subprocess.run(["gdbus", "call", "--session", "-d", "org.vireo.Vireo", "-o", "/org/vireo/Vireo", "-m",
                    "org.freedesktop.Application.ActivateAction", "open", f"[<'{vm}'>]", "{}"], check=True,
                   capture_output=True)
    wait(lambda: shown(f"^{name}$"), "the console")
    if not shape:
        settle(p.pid)
        before = cpu(p.pid)
        time.sleep(10)
        print(f"console at rest: {(cpu(p.pid) - before) / 100:.2f} % of a core", flush=True)
    else:
        wait(lambda: painted(vm) >= 100, "frames")
        first, before = painted(vm), cpu(p.pid)
        wait(lambda: painted(vm) >= first + 200, "200 frames", 300)
        print(f"{name}: {(cpu(p.pid) - before) / (painted(vm) - first):.2f} ms of CPU a frame", flush=True)
    p.terminate()
    p.wait()
    ctl("turn-off", name)


updates("64x64", "64x64")
updates("1280x800", "1280x800")
updates("still", None)
for i in range(50):
    ctl("create", f"Machine {i}")
start()
