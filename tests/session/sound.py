#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sound of the enhanced session between two PulseAudios of null sinks, by vireoctl and a pretended guest
(guest.py): what is played in one is recorded from the other. Times are told, not judged: the host may be busy.
sound.py BUILD [--seconds N] [PART...]"""
import array, json, math, os, re, signal, subprocess, sys, threading, time

import clipboard
from clipboard import NAME, ctl
from guest import *
from hearing import drift, frequency, loud_part

SECONDS = 5
if "--seconds" in sys.argv:
    at = sys.argv.index("--seconds")
    SECONDS = int(sys.argv[at + 1])
    del sys.argv[at:at + 2]


def host_pulse():
    folder = f"{clipboard.top}/sound"
    p = pulse(folder, "module-null-sink sink_name=out rate=48000", "module-null-sink sink_name=micfeed rate=48000",
              "module-remap-source master=micfeed.monitor source_name=virtmic")
    for order in ("set-default-source", "virtmic"), ("set-default-sink", "out"):
        subprocess.run(["pactl", *order], check=True)
    return p


class Recording:
    """Mono at 48 kHz. Programs that ask for no latency get large pieces."""

    def __init__(self, device, env=None, latency=10):
        self.p = subprocess.Popen(["parecord", "-d", device, "--raw", "--format=s16le", "--channels=1", "--rate=48000",
                                   *([f"--latency-msec={latency}"] if latency else [])], stdout=subprocess.PIPE, env=env, stderr=subprocess.DEVNULL)
        self.data, self.begun = b"", threading.Event()
        self.times = []  # (when, bytes there then)
        self.thread = threading.Thread(target=self.read)
        self.thread.start()
        assert self.begun.wait(PATIENCE), f"nothing is recorded from {device}"

    def read(self):
        while got := self.p.stdout.read1(65536):
            self.data += got
            self.times.append((time.monotonic(), len(self.data)))
            self.begun.set()

    def samples(self):
        self.p.terminate()
        self.p.wait()
        self.thread.join()
        a = array.array("h")
        a.frombytes(self.data[:len(self.data) // 2 * 2])
        return a

    def onsets(self, level=300):
        """When it became loud after a tenth of a second of silence, as near as pieces come."""
        a = array.array("h")
        a.frombytes(self.data[:len(self.data) // 2 * 2])
        quiet, found = 4800, []
        for i, v in enumerate(a):
            if abs(v) <= level:
                quiet += 1
                continue
            if quiet >= 4800:
                when, there = next(t for t in self.times if t[1] > 2 * i)
                found.append(when - (there - 2 * i) / 96000)
            quiet = 0
        return found

    def loud(self, seconds):
        """Whether so much sound has come."""
        return sum(1 for i in range(0, len(self.data) - 1, 96) if self.data[i] or self.data[i + 1]) > seconds * 900


def hear(g, what, seconds, make, device="out.monitor", env=None, player_env=None, sink="vireo", latency=10):
    """Plays a file made by sox on one side, records on the other; what is long is recorded where it is played, too."""
    path = f"{clipboard.top}/play.wav"
    subprocess.run(make(path), check=True)
    source = Recording(sink + ".monitor", player_env or g.env) if seconds >= 30 else None
    rec = Recording(device, env, latency)
    subprocess.run(["paplay", "-d", sink, path], env=player_env or g.env, check=True, timeout=seconds * 6 + PATIENCE)
    until(lambda: rec.loud(seconds * 0.95), 10)
    time.sleep(0.5)
    samples = rec.samples()
    part, gaps = loud_part(samples)
    print(f"     {what}: {len(part) / 48000:.2f} s of {seconds}, {frequency(part):.1f} Hz, gaps over 20 ms: {gaps} "
          f"(load {os.getloadavg()[0]:.0f})", flush=True)
    wandered = drift((source.samples(), source.times), (samples, rec.times)) if source else None
    if wandered:
        print("     it comes later by %+.2f ms a minute after the first 15 s, within %.2f ms" % wandered, flush=True)
    return part


def tone(g, what, seconds, hertz=1000, **where):
    def make(path):
        return ["sox", "-n", "-r", "48000", "-c", "2", path, "synth", str(seconds), "sine", str(hertz)]
    part = hear(g, what, seconds, make, **where)
    check(f"{what}: {hertz} Hz are heard", abs(frequency(part) - hertz) < hertz / 50 and len(part) > seconds * 48000 * 0.8,
          (frequency(part), len(part) / 48000))


class Player:
    def __init__(self):
        self.p = subprocess.Popen([f"{clipboard.build}/app/cli/vireoctl", "session", "audio", NAME, "--record", "--json"],
                                  stdout=subprocess.PIPE)

    def end(self):
        self.p.send_signal(signal.SIGTERM)
        return json.loads(self.p.communicate()[0])


def is_on():
    return all(clipboard.services().get(n) == "on" for n in ("sound", "microphone"))


def playback(g):
    tone(g, "a tone", SECONDS)
    def speak(path):
        return ["espeak-ng", "-w", path, "This is a spoken sentence of the guest, which the host shall hear."]
    part = hear(g, "a spoken sentence", 3, speak)
    check("a spoken sentence is heard", len(part) > 2 * 48000, len(part))


def recording():
    return json.loads(ctl("session", "status", NAME, "--json").stdout)["recording"]


def microphone(g):
    check("the microphone is not heard while nobody records", not recording())
    rec = Recording("vireo_mic", g.env)
    check("the session tells that the microphone is heard", until(recording))
    rec.samples()
    check("and that it is heard no more", until(lambda: not recording()))
    for what, latency in ("the microphone", 10), ("the microphone, recorded in large pieces", None):
        tone(g, what, SECONDS, 440, device="vireo_mic", env=g.env, player_env=dict(os.environ), sink="micfeed", latency=latency)


def latency(g):
    """From the guest's sink to the host's, of short tones: told, with what recording itself adds on both sides."""
    path = f"{clipboard.top}/click.wav"
    subprocess.run(["sox", "-n", "-r", "48000", "-c", "2", path, "synth", "0.4", "sine", "1000", "pad", "0", "0.8", "repeat", "7"],
                   check=True)
    here, there = Recording("out.monitor"), Recording("vireo.monitor", g.env)
    subprocess.run(["paplay", "-d", "vireo", path], env=g.env, check=True)
    until(lambda: here.loud(8 * 0.38), 10)
    here.samples()
    there.samples()
    pairs = list(zip(here.onsets(), there.onsets()))
    took = sorted(round((a - b) * 1000) for a, b in pairs)
    if check("the way of sound is measured", len(took) >= 4, len(took)):
        print(f"     from the guest's sink to the host's in {took[len(took) // 2]} ms (each: {took})", flush=True)


def servers(g):
    global server
    g.stop("pulse")
    check("without the guest's sound server there is no sound", until(lambda: clipboard.services().get("sound") == "missing"),
          clipboard.services())
    g.start_pulse()
    check("the guest's sound server is there again", until(is_on), clipboard.services())
    tone(g, "and it plays on", 2)
    server.kill()
    server.wait()
    server = host_pulse()
    def again():
        r = subprocess.run(["pactl", "list", "short", "sink-inputs"], capture_output=True)
        return r.stdout.strip()
    check("the viewer comes back to the host's sound server", until(again))
    tone(g, "the host's sound server killed and started again", 2)


def whole(g):
    global server
    ctl("session", "policy", NAME, "microphone=yes")
    server = host_pulse()
    player = Player()
    try:
        if check("sound and microphone come up", until(is_on), clipboard.services()):
            for part in playback, latency, microphone, servers:
                part(g)
    finally:
        stats = player.end()
        server.kill()
        server.wait()
    print("     " + json.dumps(stats))
    check("the latency is measured", 0 < stats["latency-ms"] < 500, stats)


if __name__ == "__main__":
    clipboard.main([whole])
