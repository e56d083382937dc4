# SPDX-License-Identifier: GPL-3.0-or-later
"""A picture of what is shown, and that whatever takes the keyboard in it has a name."""
import os

import ui
import vireo

LANG = os.environ.get("LANGUAGE", "en")
NAMELESS_OK = {"panel", "filler", "scroll pane", "viewport", "list", "scroll bar", "page tab list", "window", "form"}
problems = []
_ = __import__("gettext").translation("vireo", os.environ["VIREO_LOCALEDIR"], fallback=True).gettext


def said_by_label(n):
    """A list item is read out by the labels within (GtkListView gives its rows no name of their own)."""
    return n.get_role_name() == "list item" and any(m.get_name() for m, _depth in ui.walk(n) if m != n)


def check_names(where):
    for n, _depth in ui.walk(ui.wait(ui.app, "the application")):
        try:
            s = n.get_state_set()
            role = n.get_role_name()
            if (s.contains(ui.Atspi.StateType.FOCUSABLE) and ui.showing(n) and not n.get_name()
                    and role not in NAMELESS_OK and not said_by_label(n)):
                parent = n.get_parent()
                problems.append(f"{where}: a {role} without a name in "
                                f"{parent.get_role_name()} “{parent.get_name()}”")
        except Exception:
            continue


def look(name):
    vireo.shot(f"{name}-{LANG}{os.environ.get('VIREO_SHOT_TAG', '')}")
    if not os.environ.get("VIREO_LOOK_ALONE"):
        check_names(name)
