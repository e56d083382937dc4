# SPDX-License-Identifier: GPL-3.0-or-later
"""What comes out of this side's loudspeaker: the null sink `out` of a PulseAudio of the test's own."""
import array
import subprocess
import threading


class Listener:
    """Listens from the start until end()."""

    def __init__(self, env):
        self.heard = bytearray()
        self.p = subprocess.Popen(["parecord", "-d", "out.monitor", "--raw", "--format=s16le", "--channels=1", "--rate=48000"],
                                  stdout=subprocess.PIPE, env=env)
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while data := self.p.stdout.read1(65536):
            self.heard.extend(data)

    def tone(self, hertz=1000, seconds=1.0):
        """Was so much of this tone to hear? By the time between one zero crossing and the next: most of them."""
        a = array.array("h", bytes(self.heard[:len(self.heard) // 2 * 2]))
        if sum(abs(v) > 300 for v in a) < 48000 * seconds:
            return False
        ups = [i for i in range(1, len(a)) if a[i - 1] < 0 <= a[i]]
        spans = sorted(b - c for b, c in zip(ups[1:], ups))
        return bool(spans) and abs(spans[len(spans) // 2] - 48000 / hertz) <= 1

    def end(self):
        self.p.kill()
        self.p.wait()
