#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine of two processors saved on the software processor goes on, on KVM, and back: saved and exported here,
imported in a Debian under QEMU's TCG where KVM is real (moved.sh). Both processors work all the while, and their
sums stay right.

    moved.py --vireoctl V --worker W --guests DIR
"""
import argparse, os, shutil, subprocess, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, f"{HERE}/../e2e")
from worker import Machine

# In the guest: counts its rounds, and notes those whose sum is wrong.
WORK = ("work() { n=0; while :; do [ \"$(md5sum </tmp/data)\" = \"$(cat /tmp/sum)\" ] || echo wrong >>/tmp/wrong; n=$((n + 1)); "
        "echo $n >/tmp/new$1; mv /tmp/new$1 /tmp/n$1; sleep 0.2; done; }; dd if=/dev/urandom of=/tmp/data bs=64k count=4 2>/dev/null; "
        "md5sum </tmp/data >/tmp/sum; work 0 & work 1 &")
MODULES = "hv_vmbus hv_storvsc sd_mod hv_utils"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--vireoctl", required=True)
    p.add_argument("--worker", required=True)
    p.add_argument("--guests", required=True)
    p.add_argument("--timeout", type=int, default=800)
    o = p.parse_args()
    o.accel = "soft"
    o.vireoctl, o.worker = os.path.abspath(o.vireoctl), os.path.abspath(o.worker)
    if not os.path.exists(f"{o.guests}/kernels/full/vmlinuz"):
        print("the tests' kernels are not there (tests/guests/prepare)")
        return 77
    o.top = tempfile.mkdtemp(prefix="vm-", dir="/tmp")
    os.environ.update(XDG_RUNTIME_DIR=f"{o.top}/run", XDG_DATA_HOME=f"{o.top}/data", VIREO_WORKER=o.worker,
                      VIREO_NO_SYSTEMD="1")
    os.mkdir(f"{o.top}/run", 0o700)
    o.initrd = f"{o.top}/i.cpio.gz"
    subprocess.run([f"{HERE}/../guests/mkinitrd", "--guests", o.guests, "--out", o.initrd, "--kernel", "full",
                    "--modules", MODULES, "--script", f"{HERE}/../e2e/worker-guest.sh"], check=True)
    m = Machine(o, "moved")
    try:
        subprocess.run([o.vireoctl, "disk", "create", f"{o.top}/d.vhdx", "--size", "16M"], check=True)
        m.ctl("set", "moved", f"disk0.path={o.top}/d.vhdx", "adapter0.switch=none", "processor.vendor=amd",
              "processor.count=2")
        m.start()
        m.wait("VIREO-READY", 300)
        m.do("yes moved | head -c 4194304 | dd of=/dev/sda bs=1M conv=fsync; echo known >/tmp/word")
        m.do(WORK)
        said = m.do('echo "$(cat /tmp/word) $(md5sum </dev/sda | cut -c1-32)"')[1].strip().splitlines()[-1]
        m.ctl("save", "moved")
        m.ctl("export", "moved", f"{o.top}/moved.vireo")
        with open(f"{o.top}/expected", "w") as f:
            f.write(said + "\n")
        done = subprocess.run([f"{HERE}/run", "--guests", o.guests, "--smp", "2", "--memory", "2048", "--timeout",
                               str(o.timeout), "--binary", o.vireoctl, "--binary", o.worker, "--file",
                               f"{o.top}/moved.vireo=/moved.vireo", "--file", f"{o.top}/expected=/expected", "--file",
                               f"{HERE}/moved.sh=/moved.sh", "sh /moved.sh"], capture_output=True, text=True)
        print(done.stdout[-6000:], done.stderr[-4000:])
        return 0 if done.returncode == 0 and "PASSED" in done.stdout else 1
    finally:
        m.ctl("turn-off", "moved", ok=False)
        shutil.rmtree(o.top, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
