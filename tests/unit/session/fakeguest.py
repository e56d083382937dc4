# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest's agent, as the session sees one (session/agent-proto.h): clipboard by the SPICE agent's protocol, a tone, a
microphone, and USB/IP as vhci_hcd speaks it."""
import math, socket, struct, threading, time

CONTROL, VDAGENT, CLIPBOARD, PLAYBACK, RECORD, USB = range(6)
HELLO, WELCOME, START, STOP = 1, 32, 34, 35
CAPS, GRAB, REQUEST, CONTENT, RELEASE, MONITORS = 6, 7, 8, 4, 9, 2
FILE_START, FILE_STATUS, FILE_DATA = 10, 11, 12
TEXT, PNG = 1, 2
RATE = 48000


class Wire:
    """vd_agent.h on a stream."""

    def __init__(self, sock):
        self.sock, self.message = sock, b""

    def exactly(self, n):
        data = b""
        while len(data) < n:
            piece = self.sock.recv(n - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    def read(self):
        while True:
            if len(self.message) >= 20:
                size = struct.unpack_from("<I", self.message, 16)[0]
                if len(self.message) >= 20 + size:
                    message, self.message = self.message[:20 + size], self.message[20 + size:]
                    return struct.unpack_from("<I", message, 4)[0], message[20:]
            _, size = struct.unpack("<II", self.exactly(8))
            self.message += self.exactly(size)

    def write(self, kind, data):
        message = struct.pack("<IIQI", 1, kind, 0, len(data)) + data
        for at in range(0, len(message), 2048):
            piece = message[at:at + 2048]
            self.sock.sendall(struct.pack("<II", 1, len(piece)) + piece)


class Guest:
    def __init__(self, path, services=1 << VDAGENT | 1 << PLAYBACK | 1 << RECORD | 1 << USB):
        self.path = path
        self.lock = threading.Condition()
        self.clipboard = {}  # type: bytes that a program of the guest copied
        self.offered = None  # types that somebody else did
        self.answers, self.size, self.files, self.heard = {}, None, {}, b""
        self.devices = []
        self.tone, self.records = None, False
        self.vdagent = None
        self.control = self.connect(CONTROL, 0, bytes(16))
        now = struct.pack("<II", services, 7)
        self.send(HELLO, now + b"test".ljust(32, b"\0") + b"kernel".ljust(64, b"\0") + b"system".ljust(96, b"\0"))
        threading.Thread(target=self.serve, daemon=True).start()

    def connect(self, service, number, token):
        s = socket.socket(socket.AF_UNIX)
        s.connect(self.path)
        s.sendall(b"VIREOAGT" + struct.pack("<HHII", 1, 0, service, number) + token + bytes(4))
        return s

    def send(self, kind, data):
        self.control.sendall(struct.pack("<II", kind, len(data)) + data)

    def serve(self):
        wire = Wire(self.control)
        try:
            while True:
                kind, size = struct.unpack("<II", wire.exactly(8))
                data = wire.exactly(size)
                if kind == WELCOME:
                    self.token = data[4:20]
                if kind == START:
                    service, number, a, b = struct.unpack("<IIII", data)
                    s = self.connect(service, number, self.token)
                    serve = {VDAGENT: self.serve_vdagent, PLAYBACK: self.serve_playback, RECORD: self.serve_record,
                             USB: self.serve_usb}[service]
                    threading.Thread(target=self.guard, args=(serve, s, a), daemon=True).start()
        except (EOFError, OSError):
            pass

    def guard(self, serve, sock, arg):
        try:
            serve(sock, arg)
        except (EOFError, OSError):
            pass
        finally:
            sock.close()

    def changed(self):
        with self.lock:
            self.lock.notify_all()

    def wait(self, what, condition, seconds=60):
        with self.lock:
            assert self.lock.wait_for(condition, seconds), f"the guest waited in vain for {what}"

    # ---- clipboard ----

    def serve_vdagent(self, sock, _):
        w = self.vdagent = Wire(sock)
        caps = 1 << 1 | 1 << 5 | 1 << 6 | 1 << 7
        while True:
            kind, data = w.read()
            if kind == CAPS:
                if struct.unpack_from("<I", data)[0]:
                    w.write(CAPS, struct.pack("<II", 0, caps))
            elif kind == GRAB:
                self.offered = list(struct.unpack(f"<{len(data) // 4 - 1}I", data[4:]))
            elif kind == RELEASE:
                self.offered = None
            elif kind == REQUEST:
                selection, what = struct.unpack("<II", data)
                content = self.clipboard.get(what)
                w.write(CONTENT, struct.pack("<II", selection, what if content is not None else 0) + (content or b""))
            elif kind == CONTENT:
                self.answers[struct.unpack_from("<I", data, 4)[0]] = data[8:]
            elif kind == MONITORS:
                height, width = struct.unpack_from("<II", data, 8)
                self.size = (width, height)
            elif kind == FILE_START:
                number = struct.unpack_from("<I", data)[0]
                self.files[number] = [data[4:].decode(errors="replace"), b""]
                w.write(FILE_STATUS, struct.pack("<II", number, 0))
            elif kind == FILE_DATA:
                number, size = struct.unpack_from("<IQ", data)
                self.files[number][1] += data[12:]
                want = int(self.files[number][0].split("size=")[1].split("\n")[0].rstrip("\0"))
                if len(self.files[number][1]) == want:
                    w.write(FILE_STATUS, struct.pack("<II", number, 3))
            self.changed()

    def copy(self, **content):
        self.clipboard = {{"text": TEXT, "png": PNG}[k]: v for k, v in content.items()}
        self.vdagent.write(GRAB, struct.pack("<I", 0) + b"".join(struct.pack("<I", t) for t in self.clipboard))

    def paste(self, what=TEXT):
        self.wait(f"an offer of type {what}", lambda: self.offered and what in self.offered)
        self.answers.pop(what, None)
        self.vdagent.write(REQUEST, struct.pack("<II", 0, what))
        self.wait("what was copied", lambda: what in self.answers)
        return self.answers[what]

    # ---- sound ----

    @staticmethod
    def audio(sock, kind, data=b"", at=0):
        sock.sendall(struct.pack("<IIQQ", kind, len(data), at, time.monotonic_ns() // 1000) + data)

    def serve_playback(self, sock, _):
        self.audio(sock, 1, struct.pack("<IBBH", RATE, 1, 2, 0))
        at, playing, begin = 0, False, 0
        while True:
            if bool(self.tone) != playing:
                playing = bool(self.tone)
                begin = time.monotonic() - at / RATE
                self.audio(sock, 3, struct.pack("<I", playing))
            if playing:
                n = RATE // 100
                data = b"".join(struct.pack("<hh", v, v) for v in (
                    int(12000 * math.sin(2 * math.pi * self.tone * (at + i) / RATE)) for i in range(n)))
                self.audio(sock, 2, data, at)
                at += n
            time.sleep(max(0, begin + at / RATE - time.monotonic()) if playing else 0.05)

    def serve_record(self, sock, _):
        wire, told = Wire(sock), False
        self.audio(sock, 1, struct.pack("<IBBH", RATE, 1, 1, 0))
        sock.settimeout(0.1)
        while True:
            if told != self.records:
                told = self.records
                self.audio(sock, 3, struct.pack("<I", told))
            try:
                kind, size, _, _ = struct.unpack("<IIQQ", wire.exactly(24))
            except TimeoutError:
                continue
            sock.settimeout(10)
            data = wire.exactly(size)
            sock.settimeout(0.1)
            if kind == 2:
                self.heard += data
                self.changed()

    # ---- USB ----

    def serve_usb(self, sock, devid):
        with self.lock:
            device = Device(sock, devid)
            self.devices.append(device)
            self.lock.notify_all()
        while not device.ended:
            time.sleep(0.1)


class Device:
    """A device behind USB/IP; one request at a time."""

    def __init__(self, sock, devid):
        self.wire, self.devid, self.number, self.ended = Wire(sock), devid, 0, False

    def urb(self, endpoint, data_in=0, out=b"", setup=bytes(8)):
        self.number += 1
        self.wire.sock.settimeout(60)
        self.wire.sock.sendall(struct.pack(">IIIIIIiiIi8s", 1, self.number, self.devid, 1 if data_in else 0, endpoint, 0,
                                           data_in or len(out), 0, 0xffffffff, 0, setup) + out)
        command, number, _, _, _, status, actual = struct.unpack(">IIIIIii", self.wire.exactly(48)[:28])
        assert (command, number) == (3, self.number)
        data = self.wire.exactly(actual) if data_in and actual > 0 else b""
        if status:
            raise OSError(-status, "USB")
        return data

    def descriptor(self, kind, size):
        return self.urb(0, size, setup=struct.pack("<BBHHH", 0x80, 6, kind << 8, 0, size))

    def configure(self):
        d = self.descriptor(2, 255)
        at, self.ends = 0, {}
        while at < len(d):
            if d[at + 1] == 5 and d[at + 3] & 3 == 2:
                self.ends["in" if d[at + 2] & 0x80 else "out"] = d[at + 2] & 15
            at += d[at]
        self.urb(0, setup=struct.pack("<BBHHH", 0, 9, d[5], 0, 0))

    def scsi(self, command, size):
        """A command of the bulk-only transport that reads."""
        self.urb(self.ends["out"], out=struct.pack("<4sIIBBB", b"USBC", 7, size, 0x80, 0, len(command)) + command.ljust(16, b"\0"))
        data = self.urb(self.ends["in"], size) if size else b""
        status = self.urb(self.ends["in"], 13)
        assert status[:8] == b"USBS" + struct.pack("<I", 7), status
        return status[12], data
