/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * What the subcommands of vireoctl share. A subcommand gets its own arguments (argv[0] is its name)
 * and returns the exit status: 0 done, 1 failed, 2 wrong arguments (a line on standard error each).
 * It adds itself to the table in main.c and its prototype below.
 */
#ifndef VIREO_CLI_CLI_H
#define VIREO_CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "core/base/err.h"
#include "core/machine/store.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2 };

struct cli_command {
    const char *name;
    int (*fn)(int argc, char **argv);
    const char *help; /* one line, for `vireoctl help` */
};

/* "vireoctl: <text>" on standard error; returns CLI_FAILED or CLI_USAGE. */
int cli_fail(const err *e);
int cli_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/*
 * Options, in any order with the operands. One table row an option: a flag (`flag` set), one with
 * a value (`value` set; "--x V" and "--x=V"; the last one counts), or one that may come several
 * times
 * (`list` set). Operands are moved to the front of argv + 1 and
 * counted in *operands. "--" ends the options. On failure the message is out and false returned.
 * "--help" prints `help` and exits 0.
 */
enum { CLI_LIST = 16 };
struct cli_list {
    const char *v[CLI_LIST];
    unsigned n;
};
struct cli_option {
    const char *name; /* "--json" */
    bool *flag;
    const char **value;
    struct cli_list *list;
};
bool cli_parse(int argc, char **argv, const struct cli_option *options, size_t n, int *operands,
               const char *help);
/* "512M", "2G", "1T", bare bytes. */
bool cli_size(const char *text, uint64_t *bytes, err *e);

/* The store, or NULL with the message out. */
struct store *cli_store(void);
bool cli_find(const struct store *s, const char *name_or_id, struct guid *out);

/* ---- JSON, written as it comes; commas and escapes are taken care of ---- */

struct cli_json {
    FILE *f;
    unsigned depth;
    bool first[32], after_key;
};

void cli_json_open(struct cli_json *j, char bracket);  /* '{' or '[' */
void cli_json_close(struct cli_json *j, char bracket); /* '}' or ']'; a line's end at the top */
void cli_json_key(struct cli_json *j, const char *key);
void cli_json_string(struct cli_json *j, const char *s); /* NULL: null; bad UTF-8 is replaced */
void cli_json_number(struct cli_json *j, int64_t v);
void cli_json_real(struct cli_json *j, double v);
void cli_json_bool(struct cli_json *j, bool v);

/* ---- the subcommands ---- */

int cli_run(int argc, char **argv);
int cli_create(int argc, char **argv);
int cli_list(int argc, char **argv);
int cli_show(int argc, char **argv);
int cli_set(int argc, char **argv);
int cli_delete(int argc, char **argv);
int cli_disk(int argc, char **argv);
/* control.c */
int cli_start(int argc, char **argv);
int cli_shutdown(int argc, char **argv);
int cli_turn_off(int argc, char **argv);
int cli_pause(int argc, char **argv);
int cli_resume(int argc, char **argv);
int cli_reset(int argc, char **argv);
int cli_info(int argc, char **argv);
int cli_live_disk(int argc, char **argv); /* disk add, disk remove */
/* Resizes a disk that a running machine uses; false: none does. */
bool cli_resize_live(const char *path, uint64_t size, int *rc);
int cli_nic(int argc, char **argv);
int cli_serial(int argc, char **argv);
int cli_memory(int argc, char **argv);
int cli_vsock(int argc, char **argv);
/* session.c */
int cli_session_command(int argc, char **argv);
int cli_clipboard(int argc, char **argv);
int cli_send(int argc, char **argv);
/* remote.c */
int cli_remote(int argc, char **argv);
/* switch.c */
int cli_switch(int argc, char **argv);
/* usb.c */
int cli_usb(int argc, char **argv);
/* gallery.c, events.c */
int cli_gallery(int argc, char **argv);
int cli_events(int argc, char **argv);
int cli_media(int argc, char **argv);
/* checkpoint.c */
int cli_save(int argc, char **argv);
int cli_stop(int argc, char **argv);
int cli_status(int argc, char **argv);
int cli_checkpoint(int argc, char **argv);
/* transfer.c */
int cli_export(int argc, char **argv);
int cli_import(int argc, char **argv);
int cli_move(int argc, char **argv);
int cli_rename(int argc, char **argv);
int cli_autostart(int argc, char **argv);
/* screen.c */
int cli_screenshot(int argc, char **argv);
int cli_type(int argc, char **argv);
int cli_key(int argc, char **argv);
int cli_mouse(int argc, char **argv);

#endif
