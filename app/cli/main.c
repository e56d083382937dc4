/* SPDX-License-Identifier: GPL-3.0-or-later */
/* vireoctl: the command line. Each subcommand is a row of the table below. */
#include <locale.h>
#include <string.h>

#include "app/cli/cli.h"

static const struct cli_command commands[] = {
    {"run", cli_run, "run a kernel in a machine of the moment"},
    {"create", cli_create, "create a virtual machine"},
    {"gallery", cli_gallery, "systems that are built on the spot into a new machine"},
    {"list", cli_list, "list the virtual machines"},
    {"show", cli_show, "show a machine's settings"},
    {"set", cli_set, "change a machine's settings"},
    {"start", cli_start, "start a machine"},
    {"shutdown", cli_shutdown, "ask the guest to shut down, restart or hibernate"},
    {"stop", cli_stop, "shut down, save or turn off, and wait until it is done"},
    {"save", cli_save, "save a machine: its next start goes on from here"},
    {"checkpoint", cli_checkpoint, "create, list, apply, revert, delete ... checkpoints"},
    {"status", cli_status, "tell whether a machine runs"},
    {"turn-off", cli_turn_off, "turn a machine off as pulling the plug does"},
    {"pause", cli_pause, "pause a running machine"},
    {"resume", cli_resume, "let a paused machine go on"},
    {"reset", cli_reset, "restart a machine as the reset button does"},
    {"info", cli_info, "tell what a running machine does"},
    {"events", cli_events, "show a machine's event log, or what happens now"},
    {"media", cli_media, "put a disc image into a running machine's drive, or take it out"},
    {"screenshot", cli_screenshot, "write a machine's screen to a file"},
    {"type", cli_type, "type text into a machine"},
    {"key", cli_key, "press keys"},
    {"mouse", cli_mouse, "move the pointer and click"},
    {"nic", cli_nic, "add, change or remove a running machine's network adapters"},
    {"switch", cli_switch, "list the virtual switches, make and remove private ones"},
    {"memory", cli_memory, "change a running machine's memory"},
    {"vsock", cli_vsock, "speak with a program in the guest"},
    {"session", cli_session_command,
     "the enhanced session: what it offers, what is allowed, sound"},
    {"clipboard", cli_clipboard, "copy and paste between this computer and the guest"},
    {"send", cli_send, "put files into the guest"},
    {"remote", cli_remote, "a machine's console for SPICE and VNC clients"},
    {"usb", cli_usb, "lend USB devices to a guest"},
    {"serial", cli_serial, "show a running machine's serial port"},
    {"rename", cli_rename, "give a machine another name"},
    {"move", cli_move, "move a machine to another folder or disk"},
    {"export", cli_export, "write a machine to a file, compressed"},
    {"import", cli_import, "make a machine of an exported one or of a folder"},
    {"autostart", cli_autostart, "start the machines that start with the session"},
    {"delete", cli_delete, "delete a machine and the disks in its folder"},
    {"disk", cli_disk, "create, convert, check, merge ... virtual disks; add, remove"},
};

static int help(FILE *f)
{
    fputs(
        "Usage: vireoctl COMMAND [ARGUMENT...]\n\nCommands (vireoctl COMMAND --help tells more):\n",
        f);
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        fprintf(f, "  %-12s %s\n", commands[i].name, commands[i].help);
    fputs("  help         this text\n  --version    the version\n", f);
    return ferror(f) ? CLI_FAILED : CLI_OK;
}

int main(int argc, char **argv)
{
    setlocale(LC_CTYPE, "");
    if (argc < 2) {
        help(stderr);
        return CLI_USAGE;
    }
    if (!strcmp(argv[1], "help") || !strcmp(argv[1], "--help") || !strcmp(argv[1], "-h"))
        return help(stdout);
    if (!strcmp(argv[1], "--version"))
        return puts("vireoctl " VIREO_VERSION) < 0 ? CLI_FAILED : CLI_OK;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (!strcmp(argv[1], commands[i].name))
            return commands[i].fn(argc - 1, argv + 1);
    return cli_usage("there is no command \"%s\"", argv[1]);
}
