# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that is no machine: the agent, Debian's own spice-vdagentd and spice-vdagent, an X server and a
PulseAudio, as ordinary processes of this host, joined to tests/gui/fake-worker by a Unix socket in place of
hv_sock. What a guest's programs do at the speed of this host: tests/e2e/session.py has the same in a machine."""
import os, subprocess, time

failures = []
PATIENCE = 60


def check(what, ok, detail=""):
    print(("ok   " if ok else "FAIL ") + what + ("" if ok else f": {detail}"), flush=True)
    if not ok:
        failures.append(what)
    return ok


def until(condition, seconds=PATIENCE, pause=0.1):
    end = time.monotonic() + seconds
    while not (got := condition()):
        if time.monotonic() > end:
            return got
        time.sleep(pause)
    return got


def x_server(size="1600x1200"):
    """(process, display)"""
    read, write = os.pipe()
    p = subprocess.Popen(["Xvfb", "-displayfd", str(write), "-screen", "0", f"{size}x24", "-nolisten", "tcp"],
                         pass_fds=[write], stderr=subprocess.DEVNULL)
    os.close(write)
    with os.fdopen(read) as f:
        return p, ":" + f.readline().strip()


def pulse(folder, *modules):
    """A PulseAudio of its own, at FOLDER/native."""
    os.makedirs(folder, exist_ok=True)
    command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--realtime=no", "--use-pid-file=no"]
    for m in (f"module-native-protocol-unix auth-anonymous=1 socket={folder}/native",) + modules:
        command += ["-L", m]
    env = dict(os.environ, HOME=folder, XDG_RUNTIME_DIR=folder)
    for other in "DISPLAY", "PULSE_SERVER":  # where it would find another one, and end
        env.pop(other, None)
    env["DBUS_SESSION_BUS_ADDRESS"] = "disabled:"
    p = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    env["PULSE_SERVER"] = f"unix:{folder}/native"
    assert until(lambda: subprocess.run(["pactl", "info"], env=env, capture_output=True).returncode == 0), "no PulseAudio"
    return p


class Guest:
    """Runs from the start; end() ends it."""

    def __init__(self, folder, build, socket):
        self.folder, self.build, self.socket = folder, build, socket
        os.makedirs(folder, exist_ok=True)
        self.processes = {}
        try:
            self.begin()
        except BaseException:
            self.end()
            raise

    def begin(self):
        folder = self.folder
        self.processes["x"], self.display = x_server()
        self.env = dict(os.environ, DISPLAY=self.display, HOME=folder, XDG_RUNTIME_DIR=folder,
                        PULSE_SERVER=f"unix:{folder}/native", GDK_BACKEND="x11", XDG_CONFIG_HOME=f"{folder}/config")
        for unwanted in "WAYLAND_DISPLAY", "XAUTHORITY":
            self.env.pop(unwanted, None)
        self.env["DBUS_SESSION_BUS_ADDRESS"] = "disabled:"
        for d in "Downloads", "Desktop", "config":
            os.makedirs(f"{folder}/{d}", exist_ok=True)
        with open(f"{folder}/config/user-dirs.dirs", "w") as f:
            f.write('XDG_DESKTOP_DIR="$HOME/Desktop"\nXDG_DOWNLOAD_DIR="$HOME/Downloads"\n')
        self.start_pulse()
        self.start_agent()
        open(f"{folder}/uinput", "w").close()
        assert until(lambda: os.path.exists(f"{folder}/port")), "no agent"
        self.start_vdagentd()
        self.start_vdagent()
        self.run("helper", f"{self.build}/session/guest/vireo-agent-session", "--agent", f"{folder}/session")
        self.start_clipboard()

    def run(self, name, *command):
        log = open(f"{self.folder}/{name}.log", "ab")
        self.processes[name] = subprocess.Popen(command, env=self.env, stdout=log, stderr=log)

    def start_pulse(self):
        self.processes["pulse"] = pulse(self.folder)

    def start_vdagentd(self):
        folder = self.folder
        self.run("vdagentd", "/usr/sbin/spice-vdagentd", "-x", "-X", "-d", "-f", "-u", f"{folder}/uinput", "-S", f"{folder}/vdagentd",
                 "-s", f"{folder}/port")
        assert until(lambda: os.path.exists(f"{folder}/vdagentd")), "no vdagentd"

    def start_vdagent(self):
        self.run("vdagent", "/usr/bin/spice-vdagent", "-x", "-d", "-S", f"{self.folder}/vdagentd", "-s", f"{self.folder}/port")

    def start_clipboard(self):
        self.run("clipboard", f"{self.build}/session/guest/vireo-agent-clipboard", "--agent", f"{self.folder}/session")

    def restart_agent(self):
        """The daemon ends with it and is started again, as its units have it, and with it spice-vdagent."""
        until(lambda: self.processes["vdagentd"].poll() is not None, 10)
        self.stop("vdagentd")
        self.start_agent()
        assert until(lambda: os.path.exists(f"{self.folder}/port")), "no agent"
        self.start_vdagentd()
        self.stop("vdagent")
        self.start_vdagent()

    def start_agent(self):
        self.run("agent", f"{self.build}/session/guest/vireo-agent", "--socket", self.socket, "--port", f"{self.folder}/port",
                 "--session", f"{self.folder}/session", "--user", str(os.getuid()))

    def stop(self, name):
        p = self.processes.pop(name)
        if p.poll() is None:
            p.terminate()
        try:
            p.wait(20)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()

    def end(self):
        for name in list(self.processes)[::-1]:
            self.stop(name)

    # ---- programs of its user ----

    def copy(self, data, target=None, selection="clipboard"):
        command = ["xclip", "-selection", selection, "-i"] + (["-t", target] if target else [])
        subprocess.run(command, input=data, env=self.env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def paste(self, target="UTF8_STRING", seconds=PATIENCE, selection="clipboard"):
        """None: nothing there, or no answer."""
        try:
            r = subprocess.run(["xclip", "-selection", selection, "-o", "-t", target], env=self.env, timeout=seconds,
                               capture_output=True)
        except subprocess.TimeoutExpired:
            return None
        return r.stdout if r.returncode == 0 else None
