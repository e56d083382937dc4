# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of the remote console share: remote-server, displays, windows."""
import os, queue, subprocess, sys, tempfile, threading, time, socket

SERVER = sys.argv[1]
work = tempfile.mkdtemp(prefix="vireo-remote.")
os.environ["HOME"] = work
os.environ["XDG_RUNTIME_DIR"] = work
display = None
PATIENCE = 60  # seconds for one thing to happen on a busy machine


def until(condition, seconds=PATIENCE):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


class Server:
    """One remote-server; its lines by answer() and events."""

    def __init__(self, kind, where, *options, refused=False):
        self.process = subprocess.Popen([SERVER, kind, where, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, bufsize=1)
        self.answers, self.events = queue.Queue(), []
        threading.Thread(target=self.read, daemon=True).start()
        first = self.answers.get(timeout=PATIENCE)
        assert first.startswith("refused" if refused else "listening"), first
        self.first = first

    def read(self):
        for line in self.process.stdout:
            line = line.strip()
            if line.startswith(("key ", "pointer ")):
                self.events.append(line)
            else:
                self.answers.put(line)

    def ask(self, order):
        self.process.stdin.write(order + "\n")
        return self.answers.get(timeout=PATIENCE)

    def wait_clients(self, n):
        assert until(lambda: self.ask("clients") == f"clients {n}"), f"never {n} clients"

    def saw(self, event):
        return any(e.startswith(event) for e in self.events)

    def end(self):
        self.process.stdin.close()
        assert self.answers.get(timeout=PATIENCE) == "ended"
        assert self.process.wait(PATIENCE) == 0

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        if kind is None:
            self.end()
        else:
            self.process.kill()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def free_display_port():
    """VNC clients count displays from 5900 on."""
    for n in range(40, 99):
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", 5900 + n))
                return n
            except OSError:
                pass
    raise AssertionError("no free port")


def run(*command, timeout=2 * PATIENCE, check=True, **more):
    p = subprocess.run(command, timeout=timeout, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    assert not check or p.returncode == 0, f"{command}: {p.returncode}\n{p.stdout}"
    return p


def ppm(path):
    data = open(path, "rb").read()
    head = data.split(maxsplit=4)
    return int(head[1]), int(head[2]), data[len(data) - int(head[1]) * int(head[2]) * 3:]


def same_picture(server, got):
    want = f"{work}/want.ppm"
    assert server.ask(f"write {want}") == "written"
    if not got.endswith(".ppm"):
        run("convert", got, "-depth", "8", f"{work}/got.ppm")
        got = f"{work}/got.ppm"
    w, g = ppm(want), ppm(got)
    assert w[:2] == g[:2], f"{g[:2]} instead of {w[:2]}"
    different = sum(1 for i in range(0, len(w[2]), 3) if w[2][i:i + 3] != g[2][i:i + 3]) if w[2] != g[2] else 0
    assert different == 0, f"{different} of {len(w[2]) // 3} pixels differ"


def need_display():
    global display
    if display:
        return
    read, write = os.pipe()
    display = subprocess.Popen(["Xvfb", "-displayfd", str(write), "-screen", "0", "1280x1024x24", "-nolisten", "tcp"],
                               pass_fds=[write], stderr=subprocess.DEVNULL)
    os.environ["DISPLAY"] = ":" + os.read(read, 16).decode().strip()


def xdotool(*args):
    return run("xdotool", *args).stdout.strip()


def geometry(w):
    p = run("xdotool", "getwindowgeometry", "--shell", w, check=False)
    return {k: int(v) for k, v in (l.split("=") for l in p.stdout.split() if "=" in l)} if p.returncode == 0 else None


def window(name):
    """The largest one of that name, once it stands still."""
    before = None
    for _ in range(PATIENCE * 3):
        found = run("xdotool", "search", "--onlyvisible", "--name", name, check=False).stdout.split()
        sizes = [(g["WIDTH"] * g["HEIGHT"], w) for w in found if w.isdigit() and (g := geometry(w))]
        if sizes and max(sizes) == before and before[0] > 100000:
            return before[1]
        before = max(sizes) if sizes else None
        time.sleep(0.3)
    raise AssertionError(f"no window {name}")


def end_display():
    if display:
        display.kill()
