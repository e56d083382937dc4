# SPDX-License-Identifier: GPL-3.0-or-later
"""A stand-in for the user's systemd on the test's own bus: starts what StartTransientUnit is asked for as
its own child, and writes the unit's name and properties to a file by the line (JSON)."""
import json
import subprocess
import sys

import gi

gi.require_version("Gio", "2.0")
from gi.repository import Gio, GLib  # noqa: E402

XML = """<node><interface name="org.freedesktop.systemd1.Manager">
<method name="StartTransientUnit"><arg type="s" direction="in"/><arg type="s" direction="in"/>
<arg type="a(sv)" direction="in"/><arg type="a(sa(sv))" direction="in"/><arg type="o" direction="out"/></method>
</interface></node>"""


def on_call(conn, sender, path, interface, method, parameters, invocation):
    name, mode, properties, _aux = parameters.unpack()
    properties = dict(properties)
    with open(sys.argv[1], "a") as f:
        f.write(json.dumps({"name": name, "mode": mode, **properties}) + "\n")
    path, argv, _ignore = properties["ExecStart"][0]
    subprocess.Popen(argv, executable=path, start_new_session=True, stdin=subprocess.DEVNULL,
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    invocation.return_value(GLib.Variant("(o)", ("/org/freedesktop/systemd1/job/1",)))


bus = Gio.bus_get_sync(Gio.BusType.SESSION)
node = Gio.DBusNodeInfo.new_for_xml(XML)
bus.register_object("/org/freedesktop/systemd1", node.interfaces[0], on_call, None, None)
Gio.bus_own_name_on_connection(bus, "org.freedesktop.systemd1", Gio.BusNameOwnerFlags.NONE,
                               lambda *a: print("ready", flush=True), lambda *a: sys.exit(1))
GLib.MainLoop().run()
