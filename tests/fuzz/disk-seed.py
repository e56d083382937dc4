#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""disk-seed.py IMAGE SEED [LIMIT]: an image as an input of fuzz-vhd and fuzz-vhdx (see put_whole in
disk-fuzz.h), with the first LIMIT bytes (65536) that are not zeroes."""
import struct
import sys

SECTOR = 512


def runs(data, limit):
    """Runs of sectors that hold something; at most 255 of at most 255 sectors."""
    out, left = [], limit // SECTOR
    for i in range(len(data) // SECTOR):
        sector = data[i * SECTOR:(i + 1) * SECTOR]
        if not any(sector) or not left:
            continue
        left -= 1
        if out and out[-1][0] + len(out[-1][1]) == i and len(out[-1][1]) < 255:
            out[-1][1].append(sector)
        elif len(out) < 255:
            out.append((i, [sector]))
    return out


def main():
    with open(sys.argv[1], "rb") as f:
        f.seek(0, 2)
        size = f.tell()
        f.seek(0)
        head = f.read(64 << 20)
        tail = b""
        if size > len(head):
            f.seek(size - SECTOR)
            tail = f.read()
    found = runs(head, int(sys.argv[3]) if len(sys.argv) > 3 else 65536)
    if any(tail):
        found = found[:254] + [(size // SECTOR - 1, [tail])]
    with open(sys.argv[2], "wb") as f:
        f.write(struct.pack(">BIB", 7, size // SECTOR, len(found)))
        for first, sectors in found:
            f.write(struct.pack(">IB", first, len(sectors)) + b"".join(sectors))
        # requests: reads and writes here and there, a TRIM, a flush
        for op, at, n in ((0, 0, 15), (3, 8, 3), (128, 0, 7), (4, 2048, 15), (7, 0, 0), (5, 0, 4), (6, 64, 9), (7, 0, 0)):
            f.write(struct.pack(">BIB", op, at, n))


main()
