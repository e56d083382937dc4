#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Generation 1: SeaBIOS starts GRUB of a disk (raw, or a VHD that qemu-img wrote), GRUB starts one of two
kernels, and the guest finds its disk where it belongs: on VMBus with Hyper-V's drivers, on the emulated
controller without them. In the midst of the kernel's boot the machine is saved and goes on in another process; in some
cases devices and processors are saved, reset and restored again and again on the way, too.
realmode: tests/e2e/realmode.S from a floppy. debian-i386: a whole Debian for i386 boots from its disk by GRUB, and
again from a VHD that qemu-img made of that disk; then without Hyper-V's drivers.
    bios.py --guests DIR --vireoctl FILE --worker FILE [--nested RUN] [--case CASE]...
Exit status 77: what it needs is not there."""
import argparse
import os
import re
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
GUESTS = os.path.join(HERE, '..', 'guests')
SCRIPT = '''
mkdir -p /m; mount -t ext2 /dev/sda1 /m && echo GUEST-MOUNTED
echo "boot $(uname -r)" >>/m/marker; sync; umount /m
for d in /sys/block/sd?; do case $(readlink -f $d/device) in */ata*) w=ata;; *) w=vmbus;; esac; echo "GUEST-DISK ${d##*/} $w"; done
[ -e /dev/sr0 ] && dd if=/dev/sr0 bs=2048 count=64 2>/dev/null | md5sum | sed 's/^/GUEST-DVD /'
dmesg | grep -E 'failed command|exception Emask|I/O error' && echo GUEST-BAD
echo GUEST-DONE
'''
MIDDLE = 'Switched to clocksource'
ELSEWHERE = 'the machine goes on in another process'
EMULATED = '''
for m in $(cat /etc/modules); do case $m in *ata_piix*) insmod $m prefer_ms_hyperv=0 ;; *) insmod $m ;; esac; done
sleep 2
'''
CFG = '''serial --unit=0 --speed=115200
terminal_output serial console
echo GRUB-CONFIG
set timeout=1
menuentry one {{
 linux /boot/{kernel} console=ttyS0 {args}
 initrd /boot/initrd
}}
'''
HYPERV = 'hv_vmbus hv_storvsc sd_mod ata_piix sr_mod ext4'
PLAIN = 'sd_mod ata_piix sr_mod ext4'
# name: kernel, architecture, modules, own loading, format, DVD, seconds between restores
CASES = {
    'cloud': ('cloud', 'amd64', HYPERV, False, 'raw', False, 0),
    'restore': ('cloud', 'amd64', HYPERV, False, 'raw', True, 3),
    'upgraded': ('full', 'amd64', HYPERV, False, 'raw', False, 0),
    'emulated': ('full', 'amd64', PLAIN, True, 'vpc', True, 5),
    'i386': ('i386', 'i386', HYPERV, False, 'raw', False, 0),
}


def make(a, case, tmp):
    kernel, arch, modules, own, form, _, _ = CASES[case]
    script, initrd, cfg, disk = (os.path.join(tmp, n) for n in ('script', 'initrd', 'grub.cfg', 'disk.img'))
    with open(script, 'w') as f:
        f.write((EMULATED if own else '') + SCRIPT)
    with open(cfg, 'w') as f:
        f.write(CFG.format(kernel=kernel, args='do=script,poweroff' + (',modules' if own else '')))
    subprocess.run([f'{GUESTS}/mkinitrd', '--guests', a.guests, '--out', initrd, '--arch', arch, '--kernel', kernel,
                    '--modules', modules, '--script', script], check=True)
    subprocess.run([f'{GUESTS}/mkbootdisk', disk, '48', cfg, f'{a.guests}/kernels/{kernel}/vmlinuz=boot/{kernel}',
                    f'{initrd}=boot/initrd'], check=True)
    if form == 'raw':
        return disk
    vhd = os.path.join(tmp, 'disk.vhd')
    subprocess.run(['qemu-img', 'convert', '-f', 'raw', '-O', 'vpc', disk, vhd], check=True)
    return vhd


def firmware():
    files = [f'/usr/share/seabios/{n}' for n in ('bios-256k.bin', 'vgabios-stdvga.bin')]
    return sum((['--file', f'{f}={f}'] for f in files), [])


def goes_on_elsewhere(a, case):
    """QEMU's TCG takes a restored 32-bit task state segment, which is busy, for an invalid one and aborts."""
    return not (a.nested and case == 'i386')


def disk_is_large(disk):
    return os.path.getsize(disk) >= 1 << 30


def run_from_device(a, inner, disk):
    """What is too large for L1's memory is a disk of L1."""
    with tempfile.NamedTemporaryFile('w', suffix='.sh') as setup:
        setup.write('until [ -b /dev/vda ]; do sleep 0.2; done\nchmod 666 /dev/vda\n')
        setup.flush()
        cmd = [a.nested, '--guests', a.guests, '--binary', a.vireoctl, '--binary', a.worker, '--timeout', str(a.timeout),
               '--modules', 'virtio_pci virtio_blk', '--setup', setup.name, '--qemu', f'-drive file={disk},if=virtio,format=raw',
               *firmware(), 'export VIREO_WORKER=/bin/vireo-vm HOME=/tmp XDG_RUNTIME_DIR=/tmp; until [ -w /dev/vda ]; do sleep 0.2; done;',
               inner.replace('/disk.img', '/dev/vda')]
        return subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=a.timeout + 60).stdout.decode(errors='replace')


def run(a, case, disk, iso):
    _, _, _, _, _, dvd, restore = CASES[case]
    own = [a.vireoctl, 'run', '--machine', 'bios', '--accel', 'kvm' if a.nested else 'soft', '--memory', '256M']
    if goes_on_elsewhere(a, case):
        own += ['--restore-when', f'"{MIDDLE}"' if a.nested else MIDDLE]
    own += ['--self-restore', str(restore)] if restore else []
    if not a.nested:
        env = dict(os.environ, VIREO_WORKER=a.worker)
        cmd = own + ['--disk', disk] + (['--iso', iso] if dvd else [])
        return subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=env, timeout=a.timeout).stdout.decode(errors='replace')
    inner = ' '.join(['/bin/vireoctl'] + own[1:] + ['--disk', '/disk.img'])
    if disk_is_large(disk):
        return run_from_device(a, inner, disk)
    cmd = [a.nested, '--guests', a.guests, '--binary', a.vireoctl, '--binary', a.worker, '--timeout', str(a.timeout),
           '--file', f'{disk}=/tmp-disk.img', *firmware(),
           'cp /tmp-disk.img /tmp/disk.img; export VIREO_WORKER=/bin/vireo-vm HOME=/tmp XDG_RUNTIME_DIR=/tmp;',
           inner.replace('/disk.img', '/tmp/disk.img')]
    return subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=a.timeout + 60).stdout.decode(errors='replace')


def check(a, case, text):
    kernel, _, _, own, _, dvd, _ = CASES[case]
    wants = [ELSEWHERE] if goes_on_elsewhere(a, case) else []
    wants += ['GRUB-CONFIG', 'GUEST-MOUNTED', f'GUEST-DISK sda {"ata" if own else "vmbus"}', 'GUEST-DONE', 'VIREO-SCRIPT 0']
    wants += ['GUEST-DVD'] if dvd else []
    missing = [w for w in wants if w not in text]
    if 'GUEST-BAD' in text:
        missing.append('no I/O errors')
    return missing


# Goes on by a byte where the guest waits for one, until it has shown all.
REALMODE = '''mkfifo {tmp}/in; exec 3<>{tmp}/in; : >{tmp}/log
{run} --memory 32M --net none --floppy {tmp}/real.img <{tmp}/in >{tmp}/log 2>&1 &
p=$!
tail -f {tmp}/log & t=$!
until_said() {{ until grep -q "$1" {tmp}/log || ! kill -0 $p; do sleep 1; done; }}
for w in REAL-FLOPPY REAL-VBE REAL-13H REAL-12H; do until_said $w; printf x >&3; done
until_said REAL-TEXT; sleep 2; kill $p $t; wait'''


def realmode(a):
    wants = [f'REAL-{w}' for w in ('FLOPPY', 'WRITTEN', 'RESETS', 'A20', 'PAM', 'UNREAL', 'VBE', '13H', '12H', 'TEXT')]
    wants += [] if a.nested else ['REAL-LIMIT']  # QEMU's TCG checks no limits, nor does what it runs nested
    with tempfile.TemporaryDirectory() as tmp:
        image = os.path.join(tmp, 'real.img')
        subprocess.run(['as', '--32', '-o', f'{tmp}/o', f'{HERE}/realmode.S'], check=True)
        subprocess.run(['ld', '-m', 'elf_i386', '-Ttext=0x7c00', '--oformat=binary', '-o', image, f'{tmp}/o'], check=True)
        os.truncate(image, 1440 << 10)
        with open(image, 'r+b') as f:  # cylinder 40, head 1, sectors 5 and 6
            f.seek((81 * 18 + 4) * 512)
            f.write(b'FLOP' + bytes(508) + b'GLOP')
        if a.nested:
            script = REALMODE.format(tmp='/tmp', run='/bin/vireoctl run --machine bios --accel kvm')
            cmd = [a.nested, '--guests', a.guests, '--binary', a.vireoctl, '--binary', a.worker, '--timeout', str(a.timeout),
                   '--file', f'{image}=/real.img', *firmware(),
                   'cp /real.img /tmp/; export VIREO_WORKER=/bin/vireo-vm HOME=/tmp XDG_RUNTIME_DIR=/tmp\n' + script]
        else:
            cmd = ['sh', '-c', REALMODE.format(tmp=tmp, run=f'{a.vireoctl} run --machine bios --accel soft')]
        text = subprocess.run(cmd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              env=dict(os.environ, VIREO_WORKER=os.path.abspath(a.worker)),
                              timeout=a.timeout + 60).stdout.decode(errors='replace')
    missing = [w for w in wants if w not in text]
    print(f'realmode: {"missing " + ", ".join(missing) if missing else "ok"}', flush=True)
    if missing:
        print(text[-3000:])
    return bool(missing)


def debian_i386(a):
    subprocess.run([f'{GUESTS}/mki386', a.guests], check=True)
    with tempfile.TemporaryDirectory(dir='/var/tmp') as tmp:
        disk, vhd = os.path.join(tmp, 'disk.img'), os.path.join(tmp, 'disk.vhd')
        subprocess.run(['cp', '--sparse=always', f'{a.guests}/i386/disk.img', disk], check=True)
        for n, image, where in (1, disk, 'vmbus'), (2, vhd, 'vmbus'), (3, vhd, 'ata'):
            if n == 2:
                kind = ['-o', 'subformat=fixed'] if a.nested else []  # a disk of L1 does not grow
                subprocess.run(['qemu-img', 'convert', '-f', 'raw', '-O', 'vpc', *kind, disk, vhd], check=True)
            text = run(a, 'i386', image, None)
            boots = 'I386-GRUB', fr'I386-BOOT i686 i386 \S+ {where} {n}'
            missing = [w for w in boots if not re.search(w, text)]
            print(f'debian-i386 {image[-3:]} {where}: {"missing " + ", ".join(missing) if missing else "ok"}', flush=True)
            if missing:
                print(text[-6000:])
                return 1
    return 0


OWN = {'debian-i386': debian_i386, 'realmode': realmode}


def main():
    p = argparse.ArgumentParser()
    p.add_argument('--guests', required=True)
    p.add_argument('--vireoctl', required=True)
    p.add_argument('--worker', required=True)
    p.add_argument('--nested', help='tests/nested/run: on KVM')
    p.add_argument('--case', action='append', choices=[*CASES, *OWN])
    p.add_argument('--timeout', type=int, default=600)
    a = p.parse_args()
    iso = '/usr/lib/grub-rescue/grub-rescue-cdrom.iso'
    for need in ('/usr/share/seabios/bios-256k.bin', '/usr/lib/grub/i386-pc/boot.img', iso,
                 f'{a.guests}/kernels/cloud/vmlinuz'):
        if not os.path.exists(need):
            print(f'skipped: no {need}')
            return 77
    for case in a.case or ['restore', 'emulated']:
        if case in OWN:
            if OWN[case](a):
                return 1
            continue
        with tempfile.TemporaryDirectory() as tmp:
            text = run(a, case, make(a, case, tmp), iso)
        missing = check(a, case, text)
        print(f'{case}: {"missing " + ", ".join(missing) if missing else "ok"}')
        if missing:
            print(text[-6000:])
            return 1
    return 0


if __name__ == '__main__':
    sys.exit(main())
