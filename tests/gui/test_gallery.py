# SPDX-License-Identifier: GPL-3.0-or-later
"""A system of the gallery, as a person makes it, which is also what ./run --tour shows: the wizard builds a Debian,
it boots in the window, its user types there, a checkpoint and back, the window is closed and opened again, and it
shuts down. VIREO_ENTRY: server or desktop; the desktop is clicked in, too, fills the screen, and copies, pastes
and sounds by the enhanced session."""
import os
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/../session")
import guest  # noqa: E402
import machine  # noqa: E402
import sounds  # noqa: E402
import ui  # noqa: E402
import vireo  # noqa: E402

ENTRY = os.environ.get("VIREO_ENTRY", "server")
GUESTS = os.environ["VIREO_GUESTS"]
WIZARD = "New Virtual Machine"
NAME = "Debian " + ENTRY
STEPS = ("Looking for packages", "Fetching packages", "Unpacking packages", "Setting up the system",
         "Writing the disk", "Packing the disk")

# The packages of former runs, the agent that a Vireo which is installed has beside its gallery, a loudspeaker.
os.environ.setdefault("VIREO_AGENT_DEB", vireo.BUILD + "/session/guest/vireo-agent.deb")
SOUND = os.environ["VIREO_GUI_INSIDE"] + "/sound"
os.environ["PULSE_SERVER"] = f"unix:{SOUND}/native"
os.makedirs(GUESTS + "/gallery", exist_ok=True)
os.makedirs(os.environ["XDG_CACHE_HOME"] + "/vireo")
os.symlink(GUESTS + "/gallery", os.environ["XDG_CACHE_HOME"] + "/vireo/gallery")


def told():
    """What the wizard says while it builds."""
    return [n.get_name() for n, _ in ui.walk(ui.find(WIZARD, "frame")) if n.get_role_name() == "label"]


def go_to_build():
    ui.press("Create a Virtual Machine", "push button")
    ui.need("What is in it?", "label")
    ui.next_page("Choose a system")
    ui.click(ui.need(NAME, "list item"), WIZARD)
    ui.fill(WIZARD, "User name", "tester")
    ui.fill(WIZARD, "Password", "secret")
    ui.type_into("Time zone", "Asia/Tokyo")
    ui.next_page("Name and place")
    ui.next_page("Hardware")
    ui.next_page("Ready to create")


def cancel_leaves_nothing():
    ui.press("Create", "push button")
    ui.need(f"Creating “{NAME}”", "label")
    ui.wait(lambda: len(vireo.machines()) == 1, "the machine's folder")
    ui.wait(lambda: len(set(told()) & set(STEPS)) > 0, "it to begin", 120)
    ui.press("Cancel", "push button")
    ui.need("Ready to create", "label", seconds=60)
    ui.wait(lambda: not vireo.machines(), "nothing to be left", 60)


def build():
    ui.press("Create", "push button")
    seen, end = set(), time.monotonic() + 2400
    while not ui.find(NAME, "frame"):
        if ui.find("The Machine Was Not Created", "label"):
            sys.exit(f"it was not built: {told()}")
        assert time.monotonic() < end, f"not built in time: {seen}"
        try:
            seen.update(told())
        except Exception:
            pass
        time.sleep(0.3)
    assert seen & set(STEPS[3:]), seen
    return vireo.machines()[0]


def log_in(serial):
    serial.wait("login: ", 1800)
    serial.say("tester")
    serial.wait("Password: ", 300)
    serial.say("secret")
    serial.wait(r"tester@debian", 600)
    serial.say("stty -echo; PS1=; date +zone-%Z; echo secret | sudo -S chmod 666 /dev/ttyS0 /dev/vcs1; echo open-$((1+1))")
    serial.wait("zone-JST", 120)
    serial.wait("open-2", 300)
    serial.say("test -e /etc/initramfs-tools/conf.d/vireo; dmesg 2>/dev/null | head -1 >/dev/null; "
               "grep -o BOOT_IMAGE=[^_]* /proc/cmdline")
    serial.wait("BOOT_IMAGE=/vmlinuz", 120)  # its own boot loader gave it that, not we


def until(serial, command, what):
    """Waits inside the guest, at its own pace."""
    serial.say(f"until {command}; do sleep 1; done; echo {what}-$((1+1))")
    serial.wait(f"{what}-2", 1800)


def terminal_on_desktop(serial, vm):
    """A terminal in the guest's session, which then has the keyboard."""
    until(serial, "pgrep -x lxqt-panel >/dev/null", "panel")
    serial.say("XAUTHORITY=$HOME/.Xauthority DISPLAY=:0 setsid qterminal >/dev/null 2>&1 &")
    until(serial, "pgrep -P $(pgrep -x qterminal | head -1) bash >/dev/null 2>&1", "terminal")
    for _ in range(10):  # its window comes some time after its shell
        machine.click_screen(NAME)
        machine.line("echo at-$((3*7)) >/dev/ttyS0")
        if serial.look("at-21", 30):
            break
    else:
        sys.exit("the terminal takes no keys")
    machine.painted(vm)
    machine.settled(vm, 600)
    vireo.shot("desktop")
    machine.click_screen(NAME)  # the desktop that came has taken the keyboard
    # xterm's mouse reports: a click is six bytes for the press and six for the release. What comes of further clicks
    # is read too, or the shell would have it as text.
    machine.line("printf '\\e[?1000h'; echo mouse-$((1+1)) >/dev/ttyS0; read -rsn12 k; printf '\\e[?1000l'; "
                 "while read -rsn1 -t2 x; do :; done; echo clicked-${#k} >/dev/ttyS0")
    serial.wait("mouse-2", 120)
    for _ in range(10):
        machine.click_screen(NAME)
        if serial.look("clicked-12", 30):
            return
    sys.exit("the terminal sees no click")


def type_on_screen(serial, vm):
    if ENTRY == "desktop":
        terminal_on_desktop(serial, vm)
    else:
        machine.click_screen(NAME)
        machine.line("tester")
        until(serial, "tr -d '\\0' </dev/vcs1 | grep -q Password:", "asked")
        machine.line("secret")
        until(serial, "tr -d '\\0' </dev/vcs1 | grep -q 'tester@debian:'", "shell")
    machine.type_line(serial, 6, 300)
    vireo.shot("typed")


def xclip(*args, data=None):
    return subprocess.run(["timeout", "20", "xclip", "-selection", "clipboard", *args], input=data, stderr=subprocess.DEVNULL,
                          stdout=subprocess.PIPE if data is None else subprocess.DEVNULL).stdout


def paste(serial):
    """Copied here, pasted into the guest's terminal by its keys."""
    xclip("-i", data=b"from here")
    for _ in range(10):
        machine.click_screen(NAME)
        machine.line("clear; read -rt 20 x; echo got-$x- >/dev/ttyS0")
        ui.xdo("sleep", 2, "key", "--delay", "60", "ctrl+shift+v", "sleep", 2, "key", "Return")
        if serial.wait(r"got-(.*)-", 120).group(1) == "from here":
            return
    sys.exit("what was copied here is not pasted in the guest")


def copy():
    """A word on the guest's terminal, marked by two clicks and copied by keys, is pasted here."""
    machine.click_screen(NAME)
    machine.line("clear; yes $(printf 'ofTheGuest%.0s' 1 2 3 4 5) | head -n 60")  # up to the middle, where is clicked
    for _ in range(10):
        ui.xdo("sleep", 2)
        machine.click_screen(NAME)
        ui.xdo("sleep", 1, "click", "--repeat", 2, "--delay", 80, 1, "sleep", 1, "key", "--delay", "60", "ctrl+shift+c")
        try:
            ui.wait(lambda: xclip("-o") == b"ofTheGuest" * 5, "the word", 15)
            vireo.shot("copied")
            return
        except ui.NotThere:
            pass
    sys.exit(f"what was copied in the guest is not pasted here: {xclip('-o')!r}")


TONE = ("import math,struct,wave;w=wave.open('/tmp/tone.wav','wb');w.setparams((1,2,48000,0,'NONE',''));"
        "w.writeframes(b''.join(struct.pack('<h',int(9000*math.sin(math.pi*i/24))) for i in range(480))*500)")


def enhanced(serial):
    need_enhanced()
    vireo.shot("enhanced")
    vireo.say("pasting there what was copied here, and here what was copied there")
    paste(serial)
    copy()
    vireo.say("a tone that the guest plays is heard here")
    serial.say(f'python3 -c "{TONE}"; echo made-$((1+1))')
    serial.wait("made-2", 300)
    listener = sounds.Listener(os.environ)
    for _ in range(6):
        serial.say("paplay -d vireo /tmp/tone.wav; echo played-$((1+1))")
        serial.wait("played-2", 300)
        if listener.tone():
            break
    else:
        sys.exit(f"the guest's tone is not heard: {len(listener.heard)} bytes")
    listener.end()


def need_enhanced():
    ui.wait(lambda: [n for n, _ in ui.walk(ui.app()) if n.get_role_name() == "label"
                     and n.get_name().startswith("Enhanced session")], "the enhanced session", 900)


pulse = guest.pulse(SOUND, "module-null-sink sink_name=out rate=48000")
try:
    vireo.say("opening the application")
    app = vireo.start()
    vireo.shot("empty")
    go_to_build()
    vireo.shot("summary")
    vireo.say("building is cancelled once, which leaves nothing")
    cancel_leaves_nothing()
    vireo.say(f"building {NAME}")
    vm = build()
    assert os.path.exists(f"{vireo.STORE}/{vm}/disk.vhdx") and not os.path.exists(f"{vireo.STORE}/{vm}/disk.raw")
    vireo.say("it starts")
    ui.wait(lambda: vireo.state(vm) == "running", "the machine to run", 60)
    serial = vireo.Serial(vm)
    vireo.shot("starts")
    log_in(serial)
    vireo.say("its user has logged in; typing on the screen")
    type_on_screen(serial, vm)
    if ENTRY == "desktop":
        vireo.say("the enhanced session")
        enhanced(serial)
    vireo.say("the full screen")
    machine.full_screen(NAME, serial, vm if ENTRY == "desktop" else None)
    vireo.say("a checkpoint, and back")
    serial = machine.back_in_time(NAME, vm, serial)
    if ENTRY == "desktop":
        need_enhanced()
    vireo.say("its window is closed, the application ends; the machine runs on")
    machine.close(NAME, vm)
    vireo.shot("library")
    vireo.stop(app)
    assert vireo.state(vm) == "running"
    vireo.say("and opens again")
    app = vireo.start()
    machine.open_again(NAME)
    machine.type_line(serial, 5, 300)
    vireo.shot("opened-again")
    vireo.say("shutting down")
    machine.shut_down(vm, 400)
    vireo.shot("off")
    vireo.stop(app)
    vireo.say("done")
finally:
    pulse.kill()
