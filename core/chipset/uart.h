/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * A 16550A serial port with FIFOs. What the guest sends is queued and handed to the sink on the I/O
 * thread; while the queue is full the transmitter reads as busy, so a slow sink loses nothing. What
 * comes in waits in a queue in front of the receive FIFO, so nothing is overrun but in loopback.
 * Source: National Semiconductor PC16550D data sheet.
 */
#ifndef VIREO_CHIPSET_UART_H
#define VIREO_CHIPSET_UART_H

#include <stddef.h>

#include "core/chipset/chip.h"

struct uart;

struct uart_sink {
    /* Takes up to len bytes and returns how many; fewer: uart_sink_ready will be called. I/O
     * thread. */
    size_t (*write)(void *ctx, const uint8_t *data, size_t len);
    void *ctx;
};

struct uart_params {
    const struct chip_env *env; /* borrowed */
    uint16_t port;
    unsigned instance; /* 0: COM1; names the saved section */
    struct chip_line irq;
    struct uart_sink sink; /* without `write`: nothing is connected, output is dropped */
};

struct uart *uart_new(const struct uart_params *p, err *e);
struct device uart_device(struct uart *u);
/* Queues input; returns how many bytes were taken (the queue holds 1024). Any thread. */
size_t uart_input(struct uart *u, const uint8_t *data, size_t len);
/* A break condition from the other side. Any thread. */
void uart_break(struct uart *u);
void uart_sink_ready(struct uart *u); /* I/O thread */
/* Hands what is queued to the sink now. I/O thread. */
void uart_flush(struct uart *u);

#endif
