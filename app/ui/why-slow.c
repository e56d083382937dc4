/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "app/ui/why-slow.h"

#include <errno.h>
#include <fcntl.h>
#include <glib/gi18n.h>
#include <unistd.h>

typedef struct {
    const char *title, *text;
    gboolean fast;
} Finding;

static gboolean processor_can(void)
{
    g_autofree char *info = NULL;
    if (!g_file_get_contents("/proc/cpuinfo", &info, NULL, NULL))
        return FALSE;
    return g_regex_match_simple("^flags\\s*:.*\\b(vmx|svm)\\b", info, G_REGEX_MULTILINE, 0);
}

static Finding look(void)
{
    gboolean can = processor_can();
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC), why = errno;
    if (fd >= 0)
        close(fd);
    if (fd >= 0 && can)
        return (Finding){N_("Hardware Virtualisation Is Used"),
                         N_("Machines run at full speed. If one is slow all the same, look at its "
                            "memory and processors in the settings, and at what else this "
                            "computer is doing."),
                         TRUE};
    if (fd < 0 && why == EACCES)
        return (Finding){N_("You May Not Use Hardware Virtualisation"),
                         N_("This computer has it, but your account has no access to /dev/kvm. "
                            "Ask the administrator to add you to the group “kvm”, then log in "
                            "again."),
                         FALSE};
    if (can)
        return (Finding){N_("Hardware Virtualisation Is Switched Off"),
                         N_("The processor has it, but Linux does not offer it (/dev/kvm is "
                            "missing). Switch on “Virtualization”, “VT-x” or “SVM” in the "
                            "computer’s firmware settings, and load the module kvm_intel or "
                            "kvm_amd."),
                         FALSE};
    return (Finding){N_("There Is No Hardware Virtualisation Here"),
                     N_("The processor does not offer it, or it is switched off in the firmware "
                        "settings, or this computer is itself a virtual machine without nested "
                        "virtualisation. Machines run on Vireo’s own software processor: "
                        "everything works, many times slower. Small systems without a graphical "
                        "desktop are the most pleasant then."),
                     FALSE};
}

GtkWindow *vireo_why_slow_new(GtkWindow *parent)
{
    g_autoptr(GtkBuilder) b = gtk_builder_new_from_resource("/org/vireo/Vireo/ui/why-slow.ui");
    GtkWindow *w = GTK_WINDOW(gtk_builder_get_object(b, "window"));
    AdwStatusPage *page = ADW_STATUS_PAGE(gtk_builder_get_object(b, "page"));
    Finding f = look();
    adw_status_page_set_title(page, _(f.title));
    adw_status_page_set_description(page, _(f.text));
    adw_status_page_set_icon_name(page,
                                  f.fast ? "emblem-ok-symbolic" : "dialog-information-symbolic");
    gtk_window_set_transient_for(w, parent);
    return w;
}
