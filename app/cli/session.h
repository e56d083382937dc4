/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What the subcommands of the enhanced session share. */
#ifndef VIREO_CLI_SESSION_H
#define VIREO_CLI_SESSION_H

#include "app/cli/client.h"
#include "vireo-session1.h"

/* NULL with the message out. */
VireoSession1 *cli_session(struct client *c);
/* Makes the connection an enhanced console and waits until the service is on; false with the
 * message out. */
bool cli_session_connect(VireoSession1 *s, const char *service);

#endif
