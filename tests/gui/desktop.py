# SPDX-License-Identifier: GPL-3.0-or-later
"""Another program of the person's desktop: an entry to copy from and paste into, and files to be dragged.
desktop.py FILE...: answers on standard output what stands in the entry whenever it changes."""
import sys

import gi

gi.require_version("Gtk", "3.0")
gi.require_version("Gdk", "3.0")
from gi.repository import Gdk, Gio, Gtk  # noqa: E402

uris = [Gio.File.new_for_path(p).get_uri() for p in sys.argv[1:]]
window = Gtk.Window(title="Other Program")
box = Gtk.Box(orientation=Gtk.Orientation.VERTICAL)
entry = Gtk.Entry()
entry.connect("changed", lambda e: print(e.get_text(), flush=True))
file = Gtk.Button(label="File")
file.drag_source_set(Gdk.ModifierType.BUTTON1_MASK, [Gtk.TargetEntry.new("text/uri-list", 0, 0)], Gdk.DragAction.COPY)
file.connect("drag-data-get", lambda w, c, data, info, time: data.set_uris(uris))
box.pack_start(entry, False, False, 0)
box.pack_start(file, True, True, 0)
window.add(box)
window.set_default_size(300, 120)
window.connect("destroy", Gtk.main_quit)
window.show_all()
Gtk.main()
