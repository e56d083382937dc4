/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * vireo-agent: what runs as root in a Linux guest. One thread, one poll loop. It connects to the
 * host (agent-control.c), joins streams that the host asks for with what serves them:
 * spice-vdagentd (agent-port.c), helpers in the sessions of users (agent-helper.c), the vhci_hcd
 * driver (agent-usb.c).
 */
#ifndef VIREO_GUEST_AGENT_H
#define VIREO_GUEST_AGENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "session/agent-wire.h"

/* ---- the loop (loop.c) ---- */

/* Calls fn(ctx, revents) when the descriptor is ready for `events` (of poll). The entry goes by
 * watch_remove, also from within fn. NULL: too many. */
struct watch;
struct watch *watch_add(int fd, short events, void (*fn)(void *ctx, short revents), void *ctx);
void watch_events(struct watch *w, short events);
void watch_remove(struct watch *w);
/* One call of fn at that time (CLOCK_MONOTONIC, ms); 0: never. A few timers, known by number. */
enum timer_id {
    TIMER_CONNECT,
    TIMER_SEATS,
    TIMER_AGENT, /* from here on vireo-agent-clipboard's */
    TIMER_DESKTOP,
    TIMER_LOOK,
    TIMERS,
};
void timer_set(enum timer_id t, uint64_t at, void (*fn)(void));
uint64_t now_ms(void);
void loop_run(void); /* until SIGTERM */

/* Two stream descriptors joined both ways (both taken) until either ends; done is called then. */
struct pump;
struct pump *pump_new(int a, int b, void (*done)(void *ctx), void *ctx);
void pump_free(struct pump *p); /* closes both; done is not called */

/* ---- to the host (agent-control.c) ---- */

extern const char *agent_socket; /* tests: a Unix socket in place of hv_sock */
void control_begin(void);
void control_changed(void); /* services or facts did */
void control_failed(uint32_t service, uint32_t id, enum agent_failure why);
/* A stream for a service, its header sent; blocks for two seconds at most. -1 on failure. */
int control_open(uint32_t service, uint32_t id);

/* ---- services: each says what it can, opens and closes ---- */

extern const char *port_path; /* where spice-vdagentd looks */
bool port_begin(void);
bool port_connected(void); /* spice-vdagentd is there */
void port_start(uint32_t id);
void port_stop(void);

extern const char *helper_path;
extern long helper_user; /* >= 0: who is at the seat, without asking logind */
bool helper_begin(void);
uint32_t helper_services(void); /* of the helpers of the user on the seat */
void helper_start(uint32_t service, uint32_t id);
void helper_stop(uint32_t service);

bool usb_there(void);
void usb_start(uint32_t id, uint32_t device, uint32_t speed);

void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
