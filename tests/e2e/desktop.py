# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian desktop (tests/guests/mkdesktop) with vireo-agent on the software processor, for tests of the
enhanced session. It is booted once and saved, under the folder of the guests; each test resumes a copy.

    desktop.py --vireoctl V --worker W --guests DIR --build BUILD [--top RUNNING]

by itself: leaves the machine running in TOP, for a person who looks into something."""
import argparse, fcntl, glob, hashlib, json, os, re, shutil, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
NAME = "session"
failures = []


def check(what, ok, detail=""):
    print(("ok   " if ok else "FAIL ") + what + ("" if ok else f": {detail}"), flush=True)
    if not ok:
        failures.append(what)
    return ok


def until(condition, seconds, pause=0.2):
    end = time.monotonic() + seconds
    while not (got := condition()):
        if time.monotonic() > end:
            return got
        time.sleep(pause)
    return got


def options(parser=None):
    p = parser or argparse.ArgumentParser()
    p.add_argument("--vireoctl", required=True)
    p.add_argument("--worker", required=True)
    p.add_argument("--guests", required=True)
    p.add_argument("--build", required=True)
    p.add_argument("--top", help="a folder where such a machine runs already, or (by itself) shall run")
    p.add_argument("parts", nargs="*")
    o = p.parse_args()
    for name in ("vireoctl", "worker", "guests", "build"):
        setattr(o, name, os.path.abspath(getattr(o, name)))
    return o


def environment(o, top):
    """Of everything that speaks with machines in TOP."""
    os.makedirs(f"{top}/run", 0o700, exist_ok=True)
    os.environ.update(XDG_RUNTIME_DIR=f"{top}/run", XDG_DATA_HOME=f"{top}/data", VIREO_WORKER=o.worker,
                      VIREO_NO_SYSTEMD="1", PULSE_SERVER=f"unix:{top}/native", HOME=top)


class Guest:
    name = NAME

    def __init__(self, o):
        self.o = o
        self.text = ""
        self.serial = None

    def ctl(self, *args, ok=True, timeout=600, data=None):
        r = subprocess.run([self.o.vireoctl, *args], capture_output=True, input=data, timeout=timeout)
        if ok and r.returncode:
            raise SystemExit(f"vireoctl {' '.join(args)}: {r.stderr.decode()}")
        return r

    def open_serial(self):
        self.close()
        self.serial = subprocess.Popen([self.o.vireoctl, "serial", self.name], stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE)
        os.set_blocking(self.serial.stdout.fileno(), False)

    def close(self):
        if self.serial:
            self.serial.kill()
            self.serial.wait()
        self.serial = None

    def send(self, line):
        self.serial.stdin.write(line.encode() + b"\n")
        self.serial.stdin.flush()

    def wait(self, what, seconds):
        def look():
            self.text += (self.serial.stdout.read() or b"").decode(errors="replace")
            return re.search(what, self.text)
        m = until(look, seconds, 0.03)
        if not m:
            raise SystemExit(f"no {what} in {seconds} s:\n{self.text[-3000:]}")
        return m

    def do(self, command, seconds=300):
        """Runs a line as root in the guest: its output."""
        self.text = ""
        self.send(f"{{ {command}\n}} 2>&1; echo VIREO''-STATUS $?")
        self.status_code = int(self.wait(r"VIREO-STATUS (\d+)", seconds)[1])
        return self.text.split("VIREO-STATUS")[0].replace("\r", "")

    def user(self, command, seconds=300):
        return self.do(f"su user -c 'export DISPLAY=:0 XDG_RUNTIME_DIR=/run/user/1000; {command}'", seconds)

    def status(self):
        return json.loads(self.ctl("session", "status", self.name, "--json").stdout)

    def wait_services(self, seconds, **wanted):
        return until(lambda: all(self.status()["services"].get(k) in v for k, v in wanted.items()), seconds)

    def ready(self, seconds=120):
        return self.wait_services(seconds, clipboard=["ready", "on"], sound=["ready", "on"])


# ---- the saved one ----

def key_of(o):
    """Of what the saved state is made of, but not the worker: states outlive those."""
    h = hashlib.sha256(open(__file__, "rb").read())
    for path in ("vireo-agent", "vireo-agent-session", "vireo-agent-clipboard"):
        with open(f"{o.build}/session/guest/{path}", "rb") as f:
            h.update(f.read())
    for path in ("root.ext4", "initrd", "vmlinuz"):
        s = os.stat(f"{o.guests}/desktop/{path}")
        h.update(f"{s.st_size} {s.st_mtime_ns}".encode())
    return h.hexdigest()[:16]


def make_saved(o, folder):
    """Boots the desktop and saves it: FOLDER/base.vhdx and what goes into a home's data folder."""
    making = folder + ".making"
    shutil.rmtree(making, ignore_errors=True)
    os.makedirs(making)
    image = f"{making}/root.ext4"
    subprocess.run(["cp", "--sparse=always", f"{o.guests}/desktop/root.ext4", image], check=True)
    subprocess.run([f"{HERE}/../guests/put-agent", image, o.build], check=True)
    for f in "vmlinuz", "initrd":
        shutil.copy(f"{o.guests}/desktop/{f}", making)
    environment(o, making)
    g = Guest(o)
    g.ctl("disk", "convert", image, f"{making}/base.vhdx")
    os.unlink(image)
    os.chmod(f"{making}/base.vhdx", 0o444)
    g.ctl("disk", "create", f"{making}/leaf.vhdx", "--type", "differencing", "--parent", f"{making}/base.vhdx")
    g.ctl("create", NAME, "--memory", "640M", "--kernel", f"{making}/vmlinuz", "--initrd", f"{making}/initrd",
          "--append", "console=tty0 console=ttyS0 quiet", "--disk", f"{making}/leaf.vhdx", "--switch", "none",
          "processor.accel=soft")
    begin = time.monotonic()
    g.ctl("start", NAME)
    try:
        g.open_serial()
        g.wait("root@desktop:~#", 1800)
        g.send("stty -echo; PS1=; export TERM=dumb")
        g.do("true")
        if not g.ready(900):
            raise SystemExit(f"the agent offers no session: {g.status()}\n{g.do('systemctl --no-pager status vireo-agent')}")
        g.do("until su user -c 'DISPLAY=:0 xdotool search --class xterm' | grep -q .; do sleep 0.3; done; "
             "until systemctl is-system-running --wait; do break; done; sync; echo 3 >/proc/sys/vm/drop_caches", 900)
        g.close()
        g.ctl("save", NAME)
    finally:
        g.close()
        g.ctl("turn-off", NAME, ok=False)
    print(f"     a desktop was booted and saved in {time.monotonic() - begin:.0f} s", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    os.rename(making, folder)


def copy_saved(o, folder, top):
    """A saved machine in TOP; the base disk stays where it is."""
    old = folder + ".making"
    subprocess.run(["cp", "-a", "--sparse=always", f"{folder}/data", f"{folder}/leaf.vhdx", f"{folder}/vmlinuz",
                    f"{folder}/initrd", top], check=True)
    for path in glob.glob(f"{top}/data/vireo/**/*.ini", recursive=True):
        with open(path) as f:
            text = f.read()
        with open(path, "w") as f:
            f.write(text.replace(old, top))
    g = Guest(o)
    g.ctl("disk", "reparent", f"{top}/leaf.vhdx", f"{folder}/base.vhdx")


def resume(o, top):
    """A Guest that runs, resumed in TOP."""
    subprocess.run([f"{HERE}/../guests/mkdesktop", o.guests], check=True)
    os.makedirs(f"{o.guests}/session", exist_ok=True)
    folder = f"{os.path.realpath(o.guests)}/session/{key_of(o)}"
    g = Guest(o)
    with open(f"{o.guests}/session.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for attempt in range(2):
            if not os.path.exists(folder):
                for other in glob.glob(f"{o.guests}/session/*"):
                    shutil.rmtree(other, ignore_errors=True)
                make_saved(o, folder)
            environment(o, top)
            copy_saved(o, folder, top)
            r = g.ctl("start", NAME, ok=False)
            if r.returncode == 0:
                break
            # a state of a worker that this one does not understand
            if attempt:
                raise SystemExit(f"the saved desktop does not start: {r.stderr.decode()}")
            for path in ("data", "leaf.vhdx"):
                subprocess.run(["rm", "-rf", f"{top}/{path}"], check=True)
            shutil.rmtree(folder)
    g.open_serial()
    g.do("true")
    return g


def end(g, top):
    g.close()
    g.ctl("turn-off", g.name, ok=False)
    until(lambda: g.ctl("status", g.name, ok=False).stdout.strip() in (b"off", b""), 30)
    shutil.rmtree(top, ignore_errors=True)


def run(o, parts):
    """Runs parts (functions of a Guest) and ends the program."""
    running = o.top
    top = o.top = o.top or tempfile.mkdtemp(prefix="vs-", dir="/var/tmp")
    g = None
    try:
        if running:
            environment(o, top)
            g = Guest(o)
            g.open_serial()
            g.do("true")
        else:
            g = resume(o, top)
        if check("the agent offers an enhanced session", g.ready(), g.status()):
            for f in parts:
                if not o.parts or f.__name__ in o.parts:
                    begin = time.monotonic()
                    f(g)
                    print(f"     ({f.__name__}: {time.monotonic() - begin:.0f} s)", flush=True)
    finally:
        if g and running:
            g.close()
        elif g:
            end(g, top)
        else:
            shutil.rmtree(top, ignore_errors=True)
    print(f"{len(failures)} failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    o = options()
    os.makedirs(o.top)
    resume(o, o.top).close()
    print(f"XDG_RUNTIME_DIR={o.top}/run XDG_DATA_HOME={o.top}/data VIREO_WORKER={o.worker} VIREO_NO_SYSTEMD=1 "
          f"{o.vireoctl} serial {NAME}")
