# SPDX-License-Identifier: GPL-3.0-or-later
"""A console is opened and closed many times: nothing is lost each time, and the memory levels off.
By hand with a build with the address sanitizer, whose leak report at the end is then read too:
    tests/gui/run BUILD tests/gui/test_openings.py
VIREO_OPENINGS: how often (100)."""
import glob
import os
import re
import subprocess
import sys

import ui
import vireo

TIMES = int(os.environ.get("VIREO_OPENINGS", "100"))
REPORT = vireo.DIR + "/leaks"
os.environ["GTK_A11Y"] = "none"  # this test looks by windows alone; accessible objects have tests of their own
os.environ["G_SLICE"] = "always-malloc"  # the sanitizer does not see into GLib's own allocator
os.environ["ASAN_OPTIONS"] = f"detect_leaks=1:log_path={REPORT}:exitcode=0:fast_unwind_on_malloc=0:malloc_context_size=20"


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


def memory(pid):
    """Private memory without files', in KiB."""
    return int(re.search(r"RssAnon:\s+(\d+)", open(f"/proc/{pid}/status").read()).group(1))


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
app = subprocess.Popen([vireo.BUILD + "/app/vireo"], stdout=log, stderr=log)
need("^Virtual Machines$")
used = []
for i in range(TIMES):
    vireo.action("open", vm)
    need("^Opened$")
    close("^Opened$")
    if i == 0:  # it was said that the machine runs on
        ui.xdo("sleep", 1, "key", "Return")
    used.append(memory(app.pid))
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
# Half of the way is for caches to fill. Menus that each console made for itself (app/ui/menus.h) would take about 2600 KiB
# in the other half. The sanitizer keeps what is freed.
grown = used[-1] - used[TIMES // 2]
if TIMES >= 100 and not sanitized and grown > 2048:
    sys.exit(f"the last {TIMES // 2} openings took {grown} KiB more")
