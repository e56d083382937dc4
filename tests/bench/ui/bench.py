# SPDX-License-Identifier: GPL-3.0-or-later
"""What the application costs, in seconds of processor time: until its window is there with 50 machines in the
store, for each update of a console of 1280x800, and with a real machine that rests; and how long a key takes.
Tells, asserts nothing. Inside tests/gui/run, as an ordinary user; the real machine where the tests' guests are:
    VIREO_BENCH=1 VIREO_GUESTS=DIR tests/gui/run BUILD tests/bench/ui/bench.py
VIREO_BENCH="updates real start": only these."""
import ctypes
import json
import os
import select
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


def at_rest(app, worker, what):
    time.sleep(10)  # the beginnings
    before = cpu(app), cpu(worker)
    time.sleep(20)
    a, w = (cpu(app) - before[0]) / 200, (cpu(worker) - before[1]) / 200
    print(f"a machine at rest in its window, {what}: {a + w:.2f} % of a core (application {a:.2f}, worker {w:.2f})", flush=True)


class Processor:
    """The guest's only one: a thread that sleeps while the guest halts. It runs again when the guest has an
    interrupt, and that is how one is seen from outside."""

    def __init__(self, worker):
        task = [t for t in os.listdir(f"/proc/{worker}/task") if open(f"/proc/{worker}/task/{t}/comm").read() == "vireo-vp0\n"][0]
        self.stat = os.open(f"/proc/{worker}/task/{task}/schedstat", os.O_RDONLY)

    def runs(self):
        return os.pread(self.stat, 100, 0).split()[2]

    def next_run(self, before):
        while self.runs() == before:
            time.sleep(0.00005)  # a loop without would take a processor from those who work for the key
        return time.monotonic()


def keys(worker, answers):
    """The way of a key that is pressed on the display, to the guest's interrupt and to a program in the guest."""
    x11, xtst = ctypes.CDLL("libX11.so.6"), ctypes.CDLL("libXtst.so.6")
    x11.XOpenDisplay.restype = ctypes.c_void_p
    display = ctypes.c_void_p(x11.XOpenDisplay(None))
    code = x11.XKeysymToKeycode(display, ctypes.c_ulong(0x61))
    processor, interrupts, programs = Processor(worker), [], []

    def key(down):
        xtst.XTestFakeKeyEvent(display, code, down, ctypes.c_ulong(0))
        x11.XFlush(display)

    def quiet():
        while select.select([answers], [], [], 0.3)[0]:
            os.read(answers.fileno(), 4096)
    first = int(processor.runs())
    time.sleep(5)
    others = (int(processor.runs()) - first) / 5
    for _ in range(60):
        quiet()
        before = processor.runs()
        begin = time.monotonic()
        key(1)
        ran = processor.next_run(before)
        if select.select([answers], [], [], 10)[0]:
            interrupts.append((ran - begin) * 1000)
            programs.append((time.monotonic() - begin) * 1000)
        quiet()
        key(0)
    if not programs:
        sys.exit("no key came back from the guest")
    for what, taken in ("the guest's interrupt", interrupts), ("the answer of a program in the guest by its serial port", programs):
        taken.sort()
        print(f"key to the display, to {what}: median {taken[len(taken) // 2]:.2f} ms, 9 of 10 within "
              f"{taken[len(taken) * 9 // 10]:.2f} ms, of {len(taken)}", flush=True)
    print(f"(the guest's other interrupts: {others:.0f} a second)", flush=True)


def real():
    """A Debian kernel with a shell: at rest, and a key's way to a program in it that answers on the serial port."""
    guests, here = os.environ["VIREO_GUESTS"], os.path.dirname(os.path.abspath(__file__))
    initrd = DIR + "/initrd.gz"
    subprocess.run([here + "/../../guests/mkinitrd", "--guests", guests, "--out", initrd, "--kernel", "full", "--modules",
                    "hv_vmbus hyperv_keyboard hyperv_drm hv_utils evdev", "--script", here + "/../../gui/machine-guest.sh"], check=True)
    os.environ["VIREO_WORKER"] = BUILD + "/app/worker/vireo-vm"
    vm = ctl("create", "Real", "--memory", "512M", "--kernel", guests + "/kernels/full/vmlinuz", "--initrd", initrd,
             "--append", "console=tty0 console=ttyS0 do=script")
    ctl("start", "Real")
    worker = json.loads(ctl("info", vm, "--json"))[0]["ProcessId"]
    serial = subprocess.Popen([BUILD + "/app/cli/vireoctl", "serial", vm], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def answer(until):
        text = b""
        while until not in text:
            piece = os.read(serial.stdout.fileno(), 4096)
            if not piece:
                sys.exit(f"the machine ended: {text[-2000:]}")
            text += piece

    def say(line):
        serial.stdin.write(line + b"\n")
        serial.stdin.flush()
    answer(b"VIREO-READY")
    p = application(10)
    subprocess.run(["gdbus", "call", "--session", "-d", "org.vireo.Vireo", "-o", "/org/vireo/Vireo", "-m",
                    "org.freedesktop.Application.ActivateAction", "open", f"[<'{vm}'>]", "{}"], check=True,
                   capture_output=True)
    wait(lambda: shown("^Real$"), "the console")
    at_rest(p.pid, worker, "with a text cursor that blinks five times a second")
    say(b"echo 0 >/sys/class/graphics/fbcon/cursor_blink")
    at_rest(p.pid, worker, "with nothing that changes")
    # The keyboard's events come back on the serial port, as they are.
    say(b"for e in /sys/class/input/event*; do grep -qi keyboard $e/device/name && k=/dev/input/${e##*/}; done; cat $k >/dev/ttyS0")
    window = shown("^Real$").split()[0].decode()
    subprocess.run(["xdotool", "windowactivate", "--sync", window, "key", "Return"], check=True)
    keys(worker, serial.stdout)
    serial.kill()
    p.terminate()
    p.wait()
    ctl("turn-off", "Real")
    ctl("delete", "Real", "--yes")


parts = os.environ["VIREO_BENCH"] if os.environ.get("VIREO_BENCH", "1") != "1" else "updates real start"
if "updates" in parts:
    updates("64x64", "64x64")
    updates("1280x800", "1280x800")
    updates("still", None)
if "real" in parts and os.environ.get("VIREO_GUESTS"):
    real()
if "start" in parts:
    for i in range(50):
        ctl("create", f"Machine {i}")
    start()
