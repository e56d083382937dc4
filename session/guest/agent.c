/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * vireo-agent [--socket PATH] [--port PATH] [--session PATH] [--user UID]
 * Runs until SIGTERM. The options are for tests: a Unix socket in place of hv_sock, other places
 * for its own sockets, and who sits at the seat.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>

#include "session/guest/agent.h"

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"socket", required_argument, NULL, 's'},  {"port", required_argument, NULL, 'p'},
        {"session", required_argument, NULL, 'h'}, {"user", required_argument, NULL, 'u'},
        {"version", no_argument, NULL, 'v'},       {NULL}};
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) >= 0;)
        switch (o) {
        case 's': agent_socket = optarg; break;
        case 'p': port_path = optarg; break;
        case 'h': helper_path = optarg; break;
        case 'u': helper_user = strtol(optarg, NULL, 10); break;
        case 'v': puts("vireo-agent " VIREO_VERSION); return 0;
        default: return 2;
        }
    port_begin();
    helper_begin();
    sd_notify(0, "READY=1");
    control_begin();
    loop_run();
    return 0;
}
