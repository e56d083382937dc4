#!/usr/bin/python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Holds the include arrows of docs/ARCHITECTURE.md ("Layers"): a source file may include only what lies in its
own folder or below it. Also holds what each layer may know of the outside: core/ no GLib but where libslirp
is driven, GDK and GTK in app/ alone. Usage: arrows.py [TOP]; lists each offence, status 1 if any."""
import os
import re
import sys

# Folder: the folders whose headers it may include besides its own. The longest prefix decides.
LAYERS = {
    'core/base': [],
    'core/hv/soft': ['core/hv', 'core/base'],
    'core/hv/kvm': ['core/hv', 'core/base'],
    'core/hv': ['core/base'],
    'core/storage': ['core/base'],
    'core/net': ['core/base'],
    'core/vmbus': ['core/hv', 'core/base'],
    'core/chipset': ['core/vsp', 'core/storage', 'core/net', 'core/hv', 'core/base'],
    'core/vsp': ['core/vmbus', 'core/storage', 'core/net', 'core/hv', 'core/base'],
    'core/machine': ['core/vsp', 'core/chipset', 'core/vmbus', 'core/storage', 'core/net', 'core/hv', 'core/base'],
    'session': ['core'],
    'app': ['session', 'core'],
}
# The inside of a module, which others do not include.
PRIVATE = re.compile(r'-int\.h$')
# Outside headers that only these folders may include.
OUTSIDE = [
    (re.compile(r'^(glib|gio|gobject)[/.]|^glib-|^gio/'), re.compile(r'^(app|session|core/net)/')),
    (re.compile(r'^(gtk|gdk|adwaita)'), re.compile(r'^app/(?!(cli|worker)/)')),
    (re.compile(r'^linux/kvm\.h$'), re.compile(r'^core/hv/kvm/')),
    (re.compile(r'^slirp/|^libslirp'), re.compile(r'^core/net/')),
]
INCLUDE = re.compile(r'^\s*#\s*include\s+(?:"([^"]+)"|<([^>]+)>)', re.M)


def layer_of(path):
    folders = [f for f in LAYERS if path.startswith(f + '/')]
    return max(folders, key=len) if folders else None


def offences(path, text):
    here = layer_of(path)
    for quoted, angled in INCLUDE.findall(text):
        name = quoted or angled
        for outside, allowed in OUTSIDE:
            if outside.match(name) and not allowed.match(path):
                yield f'{path}: <{name}> does not belong here'
        there = layer_of(name)
        if quoted and '/' in quoted and quoted.startswith('.'):
            yield f'{path}: "{quoted}" is relative; includes start at the top'
        if not quoted or not there:
            continue
        if there != here and not any(there == a or there.startswith(a + '/') for a in LAYERS[here]):
            yield f'{path}: "{quoted}" goes against the arrow ({here} may not know {there})'
        elif there != here and PRIVATE.search(quoted):
            yield f'{path}: "{quoted}" is the inside of {there}'


def self_test():
    bad = {
        'core/base/x.c': '#include "core/hv/memory.h"',
        'core/hv/x.c': '# include <glib.h>',
        'core/vsp/x.c': '#include "core/chipset/pic.h"',
        'core/machine/x.c': '#include "core/hv/partition-int.h"',
        'session/x.c': '#include <gtk/gtk.h>',
        'app/cli/x.c': '#include "../ui/window.h"',
    }
    for path, text in bad.items():
        if len(list(offences(path, text))) != 1:
            sys.exit(f'arrows: the check itself is broken: {path} passes')
    if list(offences('app/ui/x.c', '#include <gtk/gtk.h>\n#include "core/hv/partition.h"')):
        sys.exit('arrows: the check itself is broken: it finds too much')


def main():
    self_test()
    top = sys.argv[1] if len(sys.argv) > 1 else '.'
    found = checked = 0
    for root in ('core', 'session', 'app'):
        for folder, _, files in os.walk(os.path.join(top, root)):
            for name in sorted(files):
                path = os.path.relpath(os.path.join(folder, name), top)
                if name.endswith(('.c', '.h', '.S')) and layer_of(path):
                    checked += 1
                    with open(os.path.join(top, path), encoding='utf-8') as f:
                        text = f.read()
                    for line in offences(path, text):
                        print(line)
                        found += 1
    print(f'{checked} files, {found} offences')
    if checked < 20:
        print('too few files: is this the source tree?')
        return 1
    return 1 if found else 0


sys.exit(main())
