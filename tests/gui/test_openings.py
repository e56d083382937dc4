# SPDX-License-Identifier: GPL-3.0-or-later
"""A console is opened and closed many times: nothing is lost each time, and the memory levels off.
By hand with a build with the address sanitizer, whose leak report at the end is then read too:
    tests/gui/run BUILD tests/gui/test_openings.py
VIREO_OPENINGS: how often (100)."""
import glob
import os
import re
import select
import subprocess
import sys

import ui
import vireo

TIMES = int(os.environ.get("VIREO_OPENINGS", "100"))
REPORT = vireo.DIR + "/leaks"
os.environ["GTK_A11Y"] = "none"  # this test looks by windows alone; accessible objects have tests of their own
os.environ["G_SLICE"] = "always-malloc"  # the sanitizer does not see into GLib's own allocator
os.environ["ASAN_OPTIONS"] = f"detect_leaks=1:log_path={REPORT}:exitcode=0:fast_unwind_on_malloc=0:malloc_context_size=20"
os.environ["ASAN_OPTIONS"] += ":verify_asan_link_order=0"  # heap-use.so comes first


def shown(title):
    return subprocess.run(["xdotool", "search", "--onlyvisible", "--name", title], capture_output=True, text=True).stdout.split()


def need(title):
    return ui.wait(lambda: shown(title), f"the window {title}", 120)[0]


def close(title):
    """A window that has just come may not have the keyboard yet."""
    for _ in range(10):
        ui.xdo("windowactivate", "--sync", need(title))
        ui.xdo("key", "alt+F4")
        try:
            return ui.wait(lambda: not shown(title), f"{title} to close", 10)
        except ui.NotThere:
            ui.xdo("key", "Return")  # what is said once
    sys.exit("the console does not close")


def memory():
    """What of the heap is in use, in KiB (heap-use.c); the sanitizer's allocator tells nothing."""
    os.write(ask, b"?")
    if not select.select([answer], [], [], 120)[0]:
        sys.exit("the application is gone")
    return int(os.read(answer, 64)) // 1024


def lost():
    """The sanitizer's records of what was lost in about every opening."""
    records = []
    for path in glob.glob(REPORT + ".*"):
        for r in re.split(r"\n\n", open(path, errors="replace").read()):
            m = re.match(r"\s*(?:Direct|Indirect) leak of \d+ byte\(s\) in (\d+) object", r)
            if m and int(m.group(1)) >= TIMES - 2 and not re.search("libfontconfig|libpango", r):  # theirs, once for ever
                records.append(r)
    return records


vm = vireo.ctl("create", "Opened")
vireo.ctl("start", "Opened")
log = open(vireo.DIR + "/app1.log", "w")
HEAP = vireo.DIR + "/heap"
os.mkfifo(HEAP + ".ask")
os.mkfifo(HEAP + ".answer")
ask, answer = os.open(HEAP + ".ask", os.O_RDWR), os.open(HEAP + ".answer", os.O_RDWR)
app = subprocess.Popen([vireo.BUILD + "/app/vireo"], stdout=log, stderr=log,
                       env=dict(os.environ, HEAP_USE=HEAP, LD_PRELOAD=vireo.BUILD + "/tests/gui/heap-use.so"))
need("^Virtual Machines$")
used = []
for i in range(TIMES):
    vireo.action("open", vm)
    need("^Opened$")
    close("^Opened$")
    if i == 0:  # it was said that the machine runs on
        ui.xdo("sleep", 1, "key", "Return")
    used.append(memory())
    if i % 10 == 9:
        print(f"after {i + 1} openings: {used[-1]} KiB", flush=True)
vireo.action("quit")
app.wait(300)
vireo.ctl("turn-off", "Opened")
sanitized = bool(glob.glob(REPORT + ".*"))
for r in lost():
    print("lost in each opening:", r, file=sys.stderr)
if lost():
    sys.exit(1)
# The sanitizer misses objects that ever had a signal's handler (GLib's table of handlers refers to them): the memory tells.
# Half of the way is for caches to fill. What a window holds goes a little after the window.
half = TIMES // 2
grown = min(used[-10:]) - min(used[half:half + 10])
print(f"grown by {grown} KiB from the {half}. opening to the last")
if TIMES >= 100 and not sanitized and grown > 1024:
    sys.exit("too much")
