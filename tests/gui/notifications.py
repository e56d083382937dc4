# SPDX-License-Identifier: GPL-3.0-or-later
"""The desktop's notifications for the GUI tests: writes "title|text" by the line. notifications.py LOG"""
import sys

from gi.repository import Gio, GLib

XML = """<node><interface name="org.freedesktop.Notifications">
<method name="Notify"><arg type="s" direction="in"/><arg type="u" direction="in"/><arg type="s" direction="in"/>
<arg type="s" direction="in"/><arg type="s" direction="in"/><arg type="as" direction="in"/>
<arg type="a{sv}" direction="in"/><arg type="i" direction="in"/><arg type="u" direction="out"/></method>
<method name="CloseNotification"><arg type="u" direction="in"/></method>
<method name="GetCapabilities"><arg type="as" direction="out"/></method>
<method name="GetServerInformation"><arg type="s" direction="out"/><arg type="s" direction="out"/>
<arg type="s" direction="out"/><arg type="s" direction="out"/></method>
</interface></node>"""
log = open(sys.argv[1], "w", buffering=1)
count = 0


def on_call(conn, sender, path, interface, method, args, call):
    global count
    if method == "Notify":
        count += 1
        log.write(f"{args[3]}|{args[4]}\n")
        call.return_value(GLib.Variant("(u)", (count,)))
    elif method == "GetCapabilities":
        call.return_value(GLib.Variant("(as)", (["body", "actions"],)))
    elif method == "GetServerInformation":
        call.return_value(GLib.Variant("(ssss)", ("tests", "vireo", "1", "1.2")))
    else:
        call.return_value(None)


bus = Gio.bus_get_sync(Gio.BusType.SESSION)
bus.register_object("/org/freedesktop/Notifications", Gio.DBusNodeInfo.new_for_xml(XML).interfaces[0], on_call, None, None)
loop = GLib.MainLoop()
Gio.bus_own_name_on_connection(bus, "org.freedesktop.Notifications", Gio.BusNameOwnerFlags.NONE,
                               lambda *a: print("ready", flush=True), lambda *a: loop.quit())
bus.connect("closed", lambda *a: loop.quit())
loop.run()
