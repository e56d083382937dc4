# SPDX-License-Identifier: GPL-3.0-or-later
"""Between a Wayland client and a compositor: what the compositor offers as zwlr_data_control_manager_v1, version 2, the
client sees as ext_data_control_manager_v1, version 1, which is the same but for names. So that protocol is used, with
real programs on the other side, where no compositor has it yet."""
import os, select, socket, struct, threading

OLD, NEW = b"zwlr_data_control_manager_v1", b"ext_data_control_manager_v1"
DISPLAY, GET_REGISTRY = 1, 1
REGISTRY_BIND, REGISTRY_GLOBAL = 0, 0


def string(text):
    text += b"\0"
    return struct.pack("=I", len(text)) + text + b"\0" * (-len(text) % 4)


class Way:
    """One direction of a connection: messages that are whole, changed."""

    def __init__(self, source, target, change):
        self.source, self.target, self.change = source, target, change
        self.data, self.fds = b"", []

    def move(self):
        data, fds, _, _ = socket.recv_fds(self.source, 65536, 64)
        if not data:
            return False
        self.data += data
        self.fds += fds
        out = b""
        while len(self.data) >= 8:
            sender, word = struct.unpack_from("=II", self.data)
            size = word >> 16
            if len(self.data) < size or size < 8:
                break
            body = self.change(sender, word & 0xffff, self.data[8:size])
            out += struct.pack("=II", sender, len(body) + 8 << 16 | word & 0xffff) + body
            self.data = self.data[size:]
        while out:  # descriptors may come before their message
            n = socket.send_fds(self.target, [out], self.fds)
            for fd in self.fds:
                os.close(fd)
            self.fds, out = [], out[n:]
        return True


class Connection:
    def __init__(self, client, compositor, told):
        self.registries, self.told = set(), told
        server = socket.socket(socket.AF_UNIX)
        ways = {client: Way(client, server, self.request), server: Way(server, client, self.event)}
        try:
            server.connect(compositor)
            while all(ways[s].move() for s in select.select(list(ways), [], [])[0]):
                pass
        except OSError:
            pass
        client.close()
        server.close()

    def request(self, target, opcode, body):
        if target == DISPLAY and opcode == GET_REGISTRY:
            self.registries.add(struct.unpack("=I", body)[0])
        if target in self.registries and opcode == REGISTRY_BIND:
            name, size = struct.unpack_from("=II", body)
            if body[8:8 + size - 1] == NEW:
                rest = body[8 + (size + 3 & ~3):]
                self.told.append("bound")
                return struct.pack("=I", name) + string(OLD) + struct.pack("=I", 2) + rest[4:]
        return body

    def event(self, sender, opcode, body):
        if sender in self.registries and opcode == REGISTRY_GLOBAL:
            name, size = struct.unpack_from("=II", body)
            if body[8:8 + size - 1] == OLD:
                return struct.pack("=I", name) + string(NEW) + struct.pack("=I", 1)
        return body


class Renamed:
    """Listens at PATH for a compositor at another; `told` grows with each client that binds the new name."""

    def __init__(self, path, compositor):
        self.told = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen()
        threading.Thread(target=self.accept, args=(compositor,), daemon=True).start()

    def accept(self, compositor):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=Connection, args=(client, compositor, self.told), daemon=True).start()
