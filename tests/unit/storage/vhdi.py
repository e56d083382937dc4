# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads an image with libvhdi and compares it with a raw file: vhdi.py IMAGE RAW [parent].
Exit 0: equal, 1: not, 77: libvhdi is not there or cannot read this kind."""
import os
import sys

try:
    import pyvhdi
except ImportError:
    sys.exit(77)


KEEP = []  # libvhdi does not hold on to parents itself


def open_chain(path):
    f = pyvhdi.file()
    KEEP.append(f)
    f.open(path)
    if f.get_disk_type() == 4:
        name = f.get_parent_filename() or ""
        parent = os.path.join(os.path.dirname(path), name.replace("\\", "/").split("/")[-1])
        if not os.path.exists(parent):
            print("libvhdi: no parent", name)
            sys.exit(1)
        f.set_parent(open_chain(parent))
    return f


def main():
    image, raw = sys.argv[1], sys.argv[2]
    f = open_chain(image)
    size = os.path.getsize(raw)
    if f.get_media_size() != size:
        print("libvhdi: size", f.get_media_size(), "expected", size)
        return 1
    with open(raw, "rb") as want:
        pos = 0
        while pos < size:
            n = min(1 << 20, size - pos)
            got = f.read_buffer_at_offset(n, pos)
            exp = want.read(n)
            if got != exp:
                at = next(i for i in range(n) if got[i:i + 1] != exp[i:i + 1])
                print("libvhdi: differs at", pos + at, "of", image)
                return 1
            pos += n
    return 0


sys.exit(main())
