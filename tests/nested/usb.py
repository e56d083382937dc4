#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""USB devices through session/usb, nested: QEMU's devices in L1 are lent by tests/nested/usb-loop to L1's own
vhci_hcd. usb.py --guests DIR --loop PROGRAM PART... (parts: functions of usb-user.sh). What the guest plays and
sends is looked at outside: the sound that L1's card played, the bytes that its serial line carried.
usb.py --guests DIR --worker VIREO-VM --agent VIREO-AGENT --vireoctl V PART...: they are handed to a machine's guest
instead (parts: functions of usb-guest.sh)."""
import argparse, math, os, shutil, signal, socket, struct, subprocess, sys, tempfile, threading, time, wave

RATE, SECONDS, TONE = 48000, 2, 1000


def make_tone(path):
    with wave.open(path, "wb") as w:
        w.setparams((2, 2, RATE, 0, "NONE", ""))
        w.writeframes(b"".join(struct.pack("<hh", *[int(12000 * math.sin(2 * math.pi * TONE * i / RATE))] * 2)
                               for i in range(RATE * SECONDS)))


def check_tone(path):
    """QEMU writes no final header when it is ended: the samples are all that follows the first 44 bytes."""
    data = open(path, "rb").read()[44:]
    samples = [s[0] for s in struct.iter_unpack("<hh", data[:len(data) // 4 * 4])]
    loud = [i for i, s in enumerate(samples) if abs(s) > 1000]
    assert loud, "the card played nothing"
    sound = samples[loud[0]:loud[-1]]
    rises = sum(1 for a, b in zip(sound, sound[1:]) if a < 0 <= b)
    played = sum(1 for s in sound if s) / 44100
    frequency = rises * 44100 / max(1, sum(1 for s in sound if abs(s) > 0))
    print(f"sound: {played:.2f} s, {frequency:.0f} Hz", flush=True)
    assert played > SECONDS * 0.9, "sound was lost"
    assert abs(frequency - TONE) < 40, "another tone"


def qemu_arguments(work):
    return ["-device", "qemu-xhci,id=x",
            "-drive", f"if=none,id=d,file={work}/disk.img,format=raw",
            "-drive", f"if=none,id=again,file={work}/again.img,format=raw",
            "-device", "usb-storage,bus=x.0,drive=d,id=thedisk",
            "-device", "usb-tablet,bus=x.0", "-device", "usb-kbd,bus=x.0",
            "-chardev", f"socket,id=c,path={work}/serial,server=on,wait=off", "-device", "usb-serial,bus=x.0,chardev=c",
            "-audiodev", f"wav,id=a,path={work}/sound.wav", "-device", "usb-audio,bus=x.0,audiodev=a",
            "-monitor", f"unix:{work}/monitor,server=on,wait=off"]


def guest_arguments(o, work):
    """A machine's kernel and initrd in L1, and L1 without the drivers that only the other parts need. L1 has one
    processor: with two, QEMU's emulation of them now and then ends the machine with a triple fault."""
    here = os.path.dirname(os.path.abspath(__file__))
    subprocess.run([f"{here}/../guests/mkinitrd", "--guests", o.guests, "--out", f"{work}/l2.cpio.gz", "--kernel", "full",
                    "--modules", "hv_vmbus hv_sock vhci-hcd usb-storage sd_mod ext4 usbhid hid-generic evdev ftdi_sio "
                    "snd-usb-audio", "--binary", o.agent, "--script", f"{here}/usb-l2.sh"] + sound_files(o, work), check=True)
    return ["--timeout", "2000", "--binary", o.worker, "--file", f"{work}/l2.cpio.gz=l2.cpio.gz",
            "--file", f"{o.guests}/kernels/full/vmlinuz=vmlinuz", "--modules", "xhci-pci usb-storage sd_mod ext4"]


def sound_files(o, work):
    """Of whoever plays the tone: L1 or the machine."""
    if "audio" not in o.parts:
        return []
    aplay = shutil.which("aplay")
    if not aplay:
        sys.exit("aplay is missing (Debian package alsa-utils)")
    return ["--binary", aplay, "--file", f"{work}/tone.wav=tone.wav",
            "--file", "/usr/share/alsa/alsa.conf=usr/share/alsa/alsa.conf"]


def answer_serial(work):
    """The other end of the serial adapter's line: what it sends comes back in capitals."""
    with socket.socket(socket.AF_UNIX) as s:
        while s.connect_ex(f"{work}/serial"):
            time.sleep(0.2)
        while data := s.recv(4096):
            s.sendall(data.upper())


def monitor(work, command):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(f"{work}/monitor")
        s.settimeout(60)
        s.recv(4096)
        s.sendall(command.encode() + b"\n")
        time.sleep(0.5)
        s.recv(4096)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--guests", required=True)
    p.add_argument("--loop")
    p.add_argument("--worker")
    p.add_argument("--agent")
    p.add_argument("--vireoctl", required=True)
    p.add_argument("parts", nargs="+")
    o = p.parse_args()
    here = os.path.dirname(os.path.abspath(__file__))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    work = tempfile.mkdtemp(prefix="vireo-usb.")
    try:
        for image in "disk", "again":
            with open(f"{work}/{image}.img", "wb") as f:
                f.truncate(64 << 20)
        make_tone(f"{work}/tone.wav")
        script = "usb-guest.sh" if o.worker else "usb-user.sh"
        command = [f"{here}/run", "--guests", o.guests, "--kernel", "full", "--binary", o.vireoctl,
                   "--setup", f"{here}/usb-root.sh", "--file", f"{here}/usb-common.sh=usb-common.sh",
                   "--file", f"{here}/{script}={script}", "--qemu", " ".join(qemu_arguments(work))]
        if o.worker:
            command += guest_arguments(o, work)
        else:
            command += ["--timeout", "500", "--binary", o.loop, "--modules",
                        "xhci-pci usb-storage sd_mod vhci-hcd ext4 usbhid hid-generic evdev ftdi_sio snd-usb-audio"]
            command += sound_files(o, work)
        threading.Thread(target=answer_serial, args=(work,), daemon=True).start()
        run = subprocess.Popen(command + ["sh", f"/{script}"] + o.parts, stdout=subprocess.PIPE, text=True)
        for line in run.stdout:
            print(line, end="", flush=True)
            if line.startswith("QEMU: "):
                monitor(work, line[6:].strip())
        if run.wait():
            sys.exit(run.returncode)
        if "audio" in o.parts:
            check_tone(f"{work}/sound.wav")
    finally:
        shutil.rmtree(work)


main()
