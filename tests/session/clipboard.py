#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clipboard and files of the enhanced session, by vireoctl and a pretended guest (guest.py) with the real
spice-vdagent.  clipboard.py BUILD [PART...]"""
import hashlib, os, random, shutil, subprocess, sys, tempfile, time

from guest import *

build = os.path.abspath(sys.argv[1])
NAME = "guest"
NEEDS = ["clipboard", "sound", "microphone"]


def ctl(*args, ok=True, data=None):
    r = subprocess.run([f"{build}/app/cli/vireoctl", *args], input=data, capture_output=True, timeout=600)
    if ok and r.returncode:
        raise SystemExit(f"vireoctl {' '.join(args)}: {r.stderr.decode()}")
    return r


def services():
    import json
    r = ctl("session", "status", NAME, "--json", ok=False)
    return json.loads(r.stdout)["services"] if r.returncode == 0 else {}


def is_ready(*names):
    return all(services().get(n) in ("ready", "on", "denied") for n in names)


def to_guest(g, data, mime=None, target="UTF8_STRING", *flags):
    """The guest hears of what was copied here a little later."""
    ctl("clipboard", "set", NAME, *flags, *(["--type", mime] if mime else []), data=data)
    selection = "primary" if "--primary" in flags else "clipboard"
    return until(lambda: g.paste(target, selection=selection) == data)


def from_guest(g, data, mime=None, target=None, *flags):
    def look():
        r = ctl("clipboard", "get", NAME, *flags, *(["--type", mime] if mime else []), ok=False)
        return r.returncode == 0 and r.stdout == data
    g.copy(data, target, selection="primary" if "--primary" in flags else "clipboard")
    return until(look)


def texts():
    planes = "".join(chr(p * 0x10000 + c) for p in range(17) for c in (0x41, 0xe9, 0x20ac, 0x4e2d))
    big = "".join(random.choices("abcdefghijklmnopqrstuvwxyz \n", k=1 << 16)).encode() * 160
    return {"5 bytes": b"hello", "every plane": planes.encode(), "CRLF": b"one\r\ntwo\r\n", "LF": b"one\ntwo\n", "10 MiB": big}


def text(g):
    for name, data in texts().items():
        check(f"text, {name}: host to guest", to_guest(g, data))
        check(f"text, {name}: guest to host", from_guest(g, b"back: " + data))
    check("no text at all: host to guest", to_guest(g, b""))
    check("the primary selection: host to guest", to_guest(g, b"selected", None, "UTF8_STRING", "--primary"))
    check("the primary selection: guest to host", from_guest(g, b"there", None, None, "--primary"))


def picture():
    """Another one each time."""
    return subprocess.run(["convert", "-size", "320x200", "plasma:red-blue", "png:-"], stdout=subprocess.PIPE).stdout


def pictures(g):
    check("a picture: host to guest", to_guest(g, picture(), "image/png", "image/png"))
    check("a picture: guest to host", from_guest(g, picture(), "image/png", "image/png"))


def html(g):
    page = "<p>one <b>two</b> \u20ac \U0001f600</p>\n".encode()
    check("HTML: host to guest", to_guest(g, page, "text/html", "text/html"))
    check("HTML: guest to host", from_guest(g, b"<i>back</i>" + page, "text/html", "text/html"))
    big = b"<p>" + b"large " * 400000 + b"</p>"
    check("HTML of 2.4 MB: host to guest", to_guest(g, big, "text/html", "text/html"))
    check("HTML of 2.4 MB: guest to host", from_guest(g, big + b"<p>back", "text/html", "text/html"))


def spice_alone(g):
    """Without our own helper SPICE's agent serves, but for HTML; and back."""
    g.stop("clipboard")
    check("SPICE's agent alone: host to guest", to_guest(g, b"by SPICE"))
    check("SPICE's agent alone: guest to host", from_guest(g, b"back by SPICE"))
    check("SPICE's agent alone: a picture", to_guest(g, picture(), "image/png", "image/png"))
    path = f"{top}/by-spice"
    with open(path, "wb") as f:
        f.write(b"a file by SPICE")
    check("SPICE's agent alone: a file", until(lambda: ctl("send", NAME, path, ok=False).returncode == 0))
    g.start_clipboard()
    check("our own again: HTML, host to guest", to_guest(g, b"<i>a</i>", "text/html", "text/html"))
    check("our own again: HTML, guest to host", from_guest(g, b"<i>b</i>", "text/html", "text/html"))


def many_owners(g, turns=100):
    """Copies on both sides at random times; afterwards both have the same, and the next copy counts on both."""
    for n in range(turns):
        ctl("clipboard", "set", NAME, data=b"host %d" % n)
        if random.random() < 0.5:
            time.sleep(random.random() * 0.15)
        g.copy(b"guest %d" % n)
        if random.random() < 0.5:
            time.sleep(random.random() * 0.15)
    begin = time.monotonic()
    check(f"after {2 * turns} changes of owner the host's text is in the guest", to_guest(g, b"the last"))
    check("and then the guest's on the host", from_guest(g, b"the very last"))
    check("and the host's again", to_guest(g, b"really"))
    print(f"     in {time.monotonic() - begin:.1f} s")
    seen = g.paste()
    time.sleep(1)
    check("without echo: who owns it keeps it", seen == b"really" == g.paste() and ctl("clipboard", "get", NAME).stdout == b"really")


def policy(g):
    path = f"{top}/refused"
    with open(path, "wb") as f:
        f.write(b"no")
    ctl("session", "policy", NAME, "files=no")
    r = ctl("send", NAME, path, ok=False)
    check("no file is sent when that is not allowed", r.returncode != 0, r.stderr)
    ctl("session", "policy", NAME, "files=yes")
    policy_text(g)


def policy_text(g):
    ctl("session", "policy", NAME, "clipboard-to-guest=no")
    r = ctl("clipboard", "set", NAME, data=b"secret", ok=False)
    got = g.paste(seconds=5)
    check("nothing is pasted in the guest when that is not allowed", r.returncode != 0 and b"secret" not in (got or b""), got)
    ctl("session", "policy", NAME, "clipboard-to-guest=yes", "clipboard-from-guest=no")
    g.copy(b"hidden")
    time.sleep(2)
    r = ctl("clipboard", "get", NAME, ok=False)
    check("nothing of the guest is pasted here when that is not allowed", r.returncode != 0 and b"hidden" not in r.stdout, r.stdout)
    ctl("session", "policy", NAME, "clipboard-from-guest=yes")
    check("and when it is allowed again both ways go on", to_guest(g, b"to") and from_guest(g, b"fro"))


def files(g):
    for name, size in ("a file.txt", 5), ("empty", 0), ("fifty.bin", 50 << 20):
        data = os.urandom(size)
        with open(f"{top}/{name}", "wb") as f:
            f.write(data)
        begin = time.monotonic()
        ctl("send", NAME, f"{top}/{name}")
        took = time.monotonic() - begin
        places = [f"{g.folder}/{d}/{name}" for d in ("Downloads", "Desktop")]
        there = until(lambda: any(os.path.exists(p) and open(p, "rb").read() == data for p in places))
        check(f"a file of {size} bytes is sent", there, os.listdir(f"{g.folder}/Downloads"))
    print(f"     the last in {took:.1f} s")


def copied_files(g):
    """Files that a program of the guest's copied, put here."""
    data = {"a file.txt": b"copied", "fifty.bin": os.urandom(50 << 20)}
    for name, content in data.items():
        with open(f"{g.folder}/{name}", "wb") as f:
            f.write(content)
    uris = "".join(f"file://{g.folder}/{name}\r\n" for name in data).replace(" ", "%20").encode()
    put = f"{top}/put"
    os.makedirs(put)

    def get():
        r = ctl("clipboard", "get", NAME, "--files", put, ok=False)
        return r.stdout.decode().splitlines() if r.returncode == 0 else None
    g.copy(uris, "text/uri-list")
    begin = time.monotonic()
    paths = until(get)
    took = time.monotonic() - begin
    check("files that were copied in the guest, one of 50 MiB: guest to host", bool(paths) and
          {os.path.basename(p): open(p, "rb").read() for p in paths} == data, paths)
    print(f"     in {took:.1f} s")
    paths = get()
    check("and again, without touching the first", sorted(os.listdir(put)) == ["a file (1).txt", "a file.txt", "fifty (1).bin", "fifty.bin"],
          os.listdir(put))
    ctl("session", "policy", NAME, "files=no")
    check("not where files are not allowed", get() is None and len(os.listdir(put)) == 4)
    ctl("session", "policy", NAME, "files=yes")
    g.copy(f"file://{g.folder}/missing\n".encode(), "text/uri-list")
    check("what is not there is not given", until(lambda: b"did not give" in ctl("clipboard", "get", NAME, "--files", put, ok=False).stderr))
    shutil.rmtree(put)


def again(g):
    g.stop("agent")
    check("the session ends with the agent", until(lambda: services().get("clipboard") == "missing"), services())
    begin = time.monotonic()
    g.restart_agent()
    check("and is back with it", until(lambda: is_ready("clipboard", "sound", "microphone"), pause=0.02), services())
    print(f"     in {time.monotonic() - begin:.1f} s")
    check("and the clipboard goes on", to_guest(g, b"after") and from_guest(g, b"afterwards"))
    os.kill(worker(), 9)
    until(lambda: ctl("status", NAME, ok=False).stdout.strip() != b"running")
    ctl("start", NAME)
    begin = time.monotonic()
    check("with another worker, as after save or revert, the session is back",
          until(lambda: is_ready("clipboard", "sound", "microphone"), pause=0.02), services())
    print(f"     in {time.monotonic() - begin:.1f} s")
    check("and the clipboard goes on", to_guest(g, b"before") and from_guest(g, b"beforehand"))


def worker():
    import glob
    lines = open(glob.glob(f"{top}/data/vireo/*/fake.log")[0]).read().split("\n")
    return int([l for l in lines if l.startswith("begin ")][-1].split()[1])


def begin(folder):
    """A worker that pretends, and a guest."""
    os.environ.update(XDG_RUNTIME_DIR=f"{folder}/run", XDG_DATA_HOME=f"{folder}/data", VIREO_NO_SYSTEMD="1", HOME=folder,
                      VIREO_WORKER=f"{build}/tests/gui/fake-worker", VIREO_FAKE_AGENT=f"{folder}/agent.sock", VIREO_FAKE_STILL="1",
                      PULSE_SERVER=f"unix:{folder}/sound/native")
    os.makedirs(f"{folder}/run", 0o700, exist_ok=True)
    ctl("create", NAME)
    ctl("start", NAME)
    g = Guest(f"{folder}/guest", build, f"{folder}/agent.sock")
    if not check("the agent offers an enhanced session", until(lambda: is_ready(*NEEDS)), services()):
        for log in "agent", "vdagentd", "vdagent", "helper", "clipboard", "sway":
            if os.path.exists(f"{g.folder}/{log}.log"):
                print(f"---- {log}\n" + open(f"{g.folder}/{log}.log").read()[-2000:])
        end(g)
        sys.exit(1)
    return g


def end(g):
    ctl("turn-off", NAME, ok=False)
    g.end()


def main(parts):
    global top
    top = tempfile.mkdtemp(prefix="vireo-session.")
    g = None
    try:
        g = begin(top)
        for part in parts:
            if len(sys.argv) < 3 or part.__name__ in sys.argv[2:]:
                started = time.monotonic()
                part(g)
                print(f"     ({part.__name__}: {time.monotonic() - started:.0f} s)", flush=True)
    finally:
        if g:
            end(g)
        else:
            ctl("turn-off", NAME, ok=False)
        if os.environ.get("VIREO_KEEP"):
            print(top)
        else:
            shutil.rmtree(top, ignore_errors=True)
    print(f"{len(failures)} failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main([text, pictures, html, spice_alone, many_owners, policy, files, copied_files, again])
