#!/bin/sh
# SPDX-License-Identifier: GPL-3.0-or-later
# build.sh CC SOURCE-DIR OUTPUT BITS TEST.c...: one bare-metal image, as a 32-bit ELF that multiboot
# loaders take. Meson's own flags do not fit freestanding code.
set -e
cc=$1 src=$2 out=$3 bits=$4
shift 4
tmp=$out.d
mkdir -p "$tmp"
common="-std=gnu17 -O2 -g -Wall -Wextra -Werror -Wno-unused-parameter -ffreestanding -fno-pic -fno-pie
 -mgeneral-regs-only -fno-stack-protector -fno-asynchronous-unwind-tables
 -fno-strict-aliasing -fno-omit-frame-pointer -fcf-protection=none -I$src"
if [ "$bits" = 32 ]; then
    flags="-m32 -march=i686 $common" boot=boot32.S lib=lib32.c
else
    flags="-m64 -mno-red-zone -mcmodel=small $common" boot=boot.S lib=lib.c
fi
n=0 objects=
for f in "$src/$boot" "$src/$lib" "$src/common.c" "$@"; do
    n=$((n + 1))
    $cc $flags -c "$f" -o "$tmp/$n.o"
    objects="$objects $tmp/$n.o"
done
$cc -m$bits -static -nostdlib -no-pie -Wl,--build-id=none -Wl,-z,max-page-size=4096 -Wl,-z,noexecstack \
    -Wl,--no-warn-rwx-segments -T "$src/test.ld" $objects -o "$out.64"
objcopy -O elf32-i386 "$out.64" "$out"
