#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a connected SPICE or VNC client costs the process that serves the console: CPU time as a share of one core, while
nothing changes and with 60 changes of 64x64 pixels a second. Medians of --runs turns; the clients' own time is not in it.
    run.py REMOTE-SERVER [--runs N]"""
import os, statistics, subprocess, sys, time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "unit", "session"))
runs = int(sys.argv[sys.argv.index("--runs") + 1]) if "--runs" in sys.argv else 3
from remotelib import Server, end_display, free_display_port, free_port, need_display, window

SECONDS = 10


def cpu(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def share(server, work):
    before, begin = cpu(server.process.pid), time.monotonic()
    work()
    return 100 * (cpu(server.process.pid) - before) / (time.monotonic() - begin)


def changes(server):
    begin = time.monotonic()
    for i in range(60 * SECONDS):
        server.ask(f"change {i * 7 % 700} {i * 5 % 500} 64 64 {i}")
        time.sleep(max(0, begin + (i + 1) / 60 - time.monotonic()))


def measure(kind):
    n = free_display_port()
    port = 5900 + n if kind == "vnc" else free_port()
    viewer = ["xtigervncviewer", "-SecurityTypes", "None", "-RemoteResize=0", f"127.0.0.1:{n}"] if kind == "vnc" else \
        ["remote-viewer", f"spice://127.0.0.1:{port}"]
    with Server(kind, f"tcp:{port}") as s:
        alone = share(s, lambda: changes(s))  # the machine that changes, without a viewer
        p = subprocess.Popen(viewer, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            s.wait_clients(1)
            window("A machine")
            time.sleep(3)
            idle = share(s, lambda: time.sleep(SECONDS))
            busy = share(s, lambda: changes(s))
        finally:
            p.kill()
            p.wait()
        s.wait_clients(0)
    return idle, busy - alone


need_display()
print(f"{'':6}{'idle':>10}{'60 a second':>14}   (% of a core; targets 1 and 6)")
try:
    for kind in "spice", "vnc":
        rows = [measure(kind) for _ in range(runs)]
        print(f"{kind:6}{statistics.median(r[0] for r in rows):10.2f}{statistics.median(r[1] for r in rows):14.2f}", flush=True)
finally:
    end_display()
