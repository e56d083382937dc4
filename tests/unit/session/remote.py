#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The remote console with real clients: what gvnccapture, vncsnapshot and spicy-screenshot get is the machine's picture,
pixel for pixel; keys and clicks of xtigervncviewer and remote-viewer arrive; passwords, TLS and the limits hold.
remote.py REMOTE-SERVER [TEST...]"""
import os, shutil, signal, socket, struct, subprocess, sys, time

from remotelib import (PATIENCE, Server, end_display, free_display_port, free_port, geometry, need_display, run, same_picture, until,
                       window, work, xdotool)


def click_and_type(name):
    w = window(name)
    xdotool("windowfocus", w)
    g = geometry(w)
    xdotool("mousemove", str(g["X"] + g["WIDTH"] // 2), str(g["Y"] + g["HEIGHT"] // 2))
    time.sleep(0.3)
    xdotool("click", "1")
    time.sleep(0.3)
    xdotool("key", "a")
    xdotool("key", "Up")


def check_input(server, name):
    """Clicks and types in the window, again while a viewer that has only begun takes none of it."""
    def arrived():
        moves = [list(map(int, e.split()[1:])) for e in server.events if e.startswith("pointer")]
        return (server.saw("key 30 1") and server.saw("key 30 0") and server.saw("key 200 1")  # the grey arrow, E0 48
                and any(m[2] & 1 for m in moves) and any(8000 < m[0] < 24000 and 8000 < m[1] < 24000 for m in moves))
    for _ in range(10):
        click_and_type(name)
        if until(arrived, 6):
            return
    raise AssertionError(server.events[-40:])


def vnc_picture():
    n = free_display_port()
    with Server("vnc", f"tcp:{5900 + n}") as s:
        for size in "picture 800 600 7", "picture 1280 768 8", "change 100 100 50 70 9":
            s.ask(size)
            run("gvnccapture", f"127.0.0.1:{n}", f"{work}/vnc.png")
            same_picture(s, f"{work}/vnc.png")
        s.wait_clients(0)


def vnc_snapshot():
    n = free_display_port()
    with Server("vnc", f"tcp:{5900 + n}") as s:
        run("vncsnapshot", "-quality", "100", "-quiet", f"127.0.0.1:{n}", f"{work}/snapshot.jpg")
        assert run("identify", "-format", "%wx%h", f"{work}/snapshot.jpg").stdout == "800x600"


def vnc_input():
    need_display()
    n = free_display_port()
    with Server("vnc", f"tcp:{5900 + n}") as s:
        viewer = subprocess.Popen(["xtigervncviewer", "-SecurityTypes", "None", "-RemoteResize=0", f"127.0.0.1:{n}"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            s.wait_clients(1)
            check_input(s, "A machine")
            s.ask("picture 1024 700 3")
            time.sleep(1)
            assert viewer.poll() is None, "the viewer did not live through another size"
            s.ask("disconnect")
            s.wait_clients(0)
        finally:
            viewer.kill()
            viewer.wait()


def vnc_view_only():
    need_display()
    n = free_display_port()
    with Server("vnc", f"tcp:{5900 + n}", "view-only") as s:
        viewer = subprocess.Popen(["xtigervncviewer", "-SecurityTypes", "None", "-RemoteResize=0", f"127.0.0.1:{n}"],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            s.wait_clients(1)
            click_and_type("A machine")
            time.sleep(1)
            assert not s.events, s.events
        finally:
            viewer.kill()
            viewer.wait()


def vnc_auth(port, password):
    """Whether the VNC password is accepted; by hand, to see refusals and their pace."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as s:
        s.settimeout(PATIENCE)
        f = s.makefile("rwb")
        assert f.read(12).startswith(b"RFB 003.")
        f.write(b"RFB 003.008\n")
        f.flush()
        types = f.read(f.read(1)[0])
        assert types == b"\x02", types
        f.write(b"\x02")
        f.flush()
        challenge = f.read(16)
        key = bytes(int(f"{b:08b}"[::-1], 2) for b in password.encode()[:8].ljust(8, b"\0"))
        p = subprocess.run(["openssl", "enc", "-des-ecb", "-nopad", "-K", key.hex(), "-provider", "legacy", "-provider",
                            "default"], input=challenge, stdout=subprocess.PIPE, check=True)
        f.write(p.stdout)
        f.flush()
        return struct.unpack(">I", f.read(4))[0] == 0


def vnc_password():
    port = free_port()
    with Server("vnc", f"tcp:{port}", "password=sesame") as s:
        assert vnc_auth(port, "sesame")
        start = time.monotonic()
        for _ in range(7):
            assert not vnc_auth(port, "wrong")
        assert time.monotonic() - start > 1.9, "seven wrong passwords in less than two seconds"
        assert vnc_auth(port, "sesame")
        s.wait_clients(0)


def vnc_limits():
    """Garbage, half a handshake, readers that stop, and 200 connections at once: a good client still gets its picture."""
    n = free_display_port()
    port = 5900 + n
    with Server("vnc", f"tcp:{port}") as s:
        for rubbish in b"\xff" * 5000, b"GET / HTTP/1.1\r\n\r\n", b"RFB 003.008\n\x01\x01\xff\xff\xff\xff", b"RFB 009.999\n" + b"\x01" * 100:
            with socket.create_connection(("127.0.0.1", port)) as c:
                try:
                    c.sendall(rubbish)
                except OSError:
                    pass
        crowd = []
        for _ in range(200):
            c = socket.create_connection(("127.0.0.1", port))
            crowd.append(c)
        time.sleep(1)
        held = int(s.ask("clients").split()[1])
        assert held <= 16, held
        status = dict(l.split(":", 1) for l in open(f"/proc/{s.process.pid}/status").read().splitlines())
        assert int(status["VmRSS"].split()[0]) < 300 << 10, status["VmRSS"]
        for c in crowd:
            c.close()
        s.wait_clients(0)
        # Asks for pictures and reads none.
        lazy = socket.create_connection(("127.0.0.1", port))
        lazy.sendall(b"RFB 003.008\n\x01\x01")
        for _ in range(3000):
            try:
                lazy.sendall(struct.pack(">BBHHHH", 3, 0, 0, 0, 800, 600))
            except OSError:
                break
        run("gvnccapture", f"127.0.0.1:{n}", f"{work}/vnc.png")
        same_picture(s, f"{work}/vnc.png")
        lazy.close()


def resident(s):
    status = dict(l.split(":", 1) for l in open(f"/proc/{s.process.pid}/status").read().splitlines())
    return int(status["VmRSS"].split()[0])


def spice_limits():
    """Garbage, half a greeting, and 200 connections at once, which do not keep a good client out for long."""
    port = free_port()
    with Server("spice", f"tcp:{port}") as s:
        run("spicy-screenshot", "-h", "127.0.0.1", "-p", str(port), "-o", f"{work}/spice.ppm")
        before = resident(s)
        for rubbish in b"\xff" * 5000, b"GET / HTTP/1.1\r\n\r\n", b"REDQ\2\0\0\0\2\0\0\0\xff\xff\xff\xff":
            with socket.create_connection(("127.0.0.1", port)) as c:
                try:
                    c.sendall(rubbish)
                except OSError:
                    pass
        crowd = []
        for _ in range(200):
            c = socket.create_connection(("127.0.0.1", port))
            c.sendall(b"REDQ\2\0\0\0")
            crowd.append(c)

        def closed(c):
            try:
                return c.recv(1, socket.MSG_DONTWAIT) == b""
            except BlockingIOError:
                return False
            except OSError:
                return True
        assert until(lambda: sum(map(closed, crowd)) >= 100), "200 connections are held"
        assert resident(s) < before + (64 << 10), (before, resident(s))
        assert until(lambda: all(map(closed, crowd)), 2 * PATIENCE), "half a greeting is held for ever"
        for c in crowd:
            c.close()
        s.wait_clients(0)
        run("spicy-screenshot", "-h", "127.0.0.1", "-p", str(port), "-o", f"{work}/spice.ppm")
        same_picture(s, f"{work}/spice.ppm")


def spice_picture():
    port = free_port()
    with Server("spice", f"tcp:{port}") as s:
        for size in "picture 800 600 7", "picture 1280 768 8", "change 100 100 50 70 9":
            s.ask(size)
            run("spicy-screenshot", "-h", "127.0.0.1", "-p", str(port), "-o", f"{work}/spice.ppm")
            same_picture(s, f"{work}/spice.ppm")
        s.wait_clients(0)


def spice_unix():
    with Server("spice", f"{work}/spice.sock", "password=sesame") as s:
        run("spicy-screenshot", f"--uri=spice+unix://{work}/spice.sock", "-w", "sesame", "-o", f"{work}/spice.ppm")
        same_picture(s, f"{work}/spice.ppm")


def spice_password():
    port = free_port()
    with Server("spice", f"tcp:{port}", "password=sesame") as s:
        good = ["spicy-screenshot", "-h", "127.0.0.1", "-p", str(port), "-o", f"{work}/spice.ppm", "-w"]
        run(*good, "sesame")
        os.unlink(f"{work}/spice.ppm")
        p = run(*good, "wrong", check=False)
        assert p.returncode != 0 or not os.path.exists(f"{work}/spice.ppm"), p.stdout
        run(*good, "sesame")
        same_picture(s, f"{work}/spice.ppm")


def make_certificate(folder):
    os.mkdir(folder)
    subject = "/CN=127.0.0.1"
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", subject, "-keyout",
        f"{folder}/server-key.pem", "-out", f"{folder}/server-cert.pem")
    shutil.copy(f"{folder}/server-cert.pem", f"{folder}/ca-cert.pem")


def spice_tls():
    """By a connection file; a client without TLS gets nothing."""
    need_display()
    port, folder = free_port(), f"{work}/tls"
    make_certificate(folder)
    with Server("spice", f"tcp:{port}", f"tls={folder}", "password=sesame") as s:
        assert not os.path.exists(f"{folder}/spice"), "the inner socket kept its name"
        run("spicy-screenshot", "-h", "127.0.0.1", "-p", str(port), "-w", "sesame", "-o", f"{work}/plain.ppm", check=False)
        assert not os.path.exists(f"{work}/plain.ppm"), "a plain connection was served"
        ca = open(f"{folder}/ca-cert.pem").read().replace("\n", "\\n")
        with open(f"{work}/machine.vv", "w") as f:
            f.write(f"[virt-viewer]\ntype=spice\nhost=127.0.0.1\ntls-port={port}\npassword=sesame\nca={ca}\n"
                    "host-subject=CN=127.0.0.1\n")
        viewer = subprocess.Popen(["remote-viewer", f"{work}/machine.vv"], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        try:
            s.wait_clients(1)
            check_input(s, "A machine")
        finally:
            viewer.kill()
            viewer.wait()
        s.wait_clients(0)


def spice_input():
    need_display()
    port = free_port()
    with Server("spice", f"tcp:{port}") as s:
        viewer = subprocess.Popen(["remote-viewer", f"spice://127.0.0.1:{port}"], stdout=subprocess.DEVNULL,
                                  stderr=subprocess.DEVNULL)
        try:
            s.wait_clients(1)
            check_input(s, "A machine")
            s.ask("picture 1024 700 3")
            s.ask("change 10 10 500 500 4")
            time.sleep(1)
            assert viewer.poll() is None
            s.ask("disconnect")
            s.wait_clients(0)
        finally:
            viewer.kill()
            viewer.wait()


TESTS = [vnc_picture, vnc_snapshot, vnc_input, vnc_view_only, vnc_password, vnc_limits, spice_picture, spice_unix,
         spice_password, spice_tls, spice_input, spice_limits]
signal.alarm(580)
failed = 0
try:
    for test in TESTS:
        if len(sys.argv) > 2 and test.__name__ not in sys.argv[2:]:
            continue
        try:
            test()
            print(f"ok   {test.__name__}", flush=True)
        except Exception as problem:
            failed += 1
            print(f"FAIL {test.__name__}: {type(problem).__name__}: {problem}", flush=True)
finally:
    end_display()
    shutil.rmtree(work, ignore_errors=True)
sys.exit(failed != 0)
