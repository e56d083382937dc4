/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/uart.h"

#include <stdlib.h>
#include <string.h>

#include "core/base/bytes.h"
#include "core/base/log.h"

enum { FIFO = 16, QUEUE_IN = 1024, QUEUE_OUT = 4096, PORTS = 8, BASE_HZ = 115200 };

enum reg { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };

enum { IER_RX = 1, IER_TX = 2, IER_LINE = 4, IER_MODEM = 8 };
enum { IIR_NONE = 1, IIR_MODEM = 0, IIR_TX = 2, IIR_RX = 4, IIR_LINE = 6, IIR_TIMEOUT = 12 };
enum { IIR_FIFO = 0xc0 };
enum { FCR_ENABLE = 1, FCR_CLEAR_RX = 2, FCR_CLEAR_TX = 4 };
enum { LCR_DLAB = 0x80, LCR_BREAK = 0x40 };
enum { MCR_DTR = 1, MCR_RTS = 2, MCR_OUT1 = 4, MCR_OUT2 = 8, MCR_LOOP = 0x10 };
enum { LSR_DR = 1, LSR_OE = 2, LSR_BI = 0x10, LSR_THRE = 0x20, LSR_TEMT = 0x40, LSR_FIFO = 0x80 };
enum { LSR_ERRORS = 0x1e };
enum { MSR_DCTS = 1, MSR_DDSR = 2, MSR_TERI = 4, MSR_DDCD = 8 };
enum { MSR_CTS = 0x10, MSR_DSR = 0x20, MSR_RI = 0x40, MSR_DCD = 0x80 };

struct uart {
    const struct chip_env *env;
    struct chip_line irq;
    struct uart_sink sink;
    unsigned instance;
    struct hv_io_range *range;
    struct chip_timer timeout; /* characters wait below the trigger level */
    struct loop_post post;     /* output is queued */

    pthread_mutex_t lock; /* all below */
    uint8_t ier, fcr, lcr, mcr, lsr, msr, scr, dll, dlm;
    bool tx_pending;   /* "transmitter empty" not yet seen by the guest */
    bool rx_timed_out; /* the character timeout interrupt is pending */
    uint8_t rx[FIFO], rx_error[FIFO];
    size_t rx_len;
    uint8_t in[QUEUE_IN];
    size_t in_len;
    uint8_t out[QUEUE_OUT];
    size_t out_len;
    bool break_waiting;
    bool stopped;
};

static bool fifos(const struct uart *u)
{
    return u->fcr & FCR_ENABLE;
}

static size_t trigger_level(const struct uart *u)
{
    static const uint8_t levels[] = {1, 4, 8, 14};
    return fifos(u) ? levels[u->fcr >> 6] : 1;
}

static uint8_t modem_lines(const struct uart *u)
{
    if (!(u->mcr & MCR_LOOP))
        return MSR_CTS | MSR_DSR | MSR_DCD;
    return (uint8_t)((u->mcr & MCR_RTS ? MSR_CTS : 0) | (u->mcr & MCR_DTR ? MSR_DSR : 0) |
                     (u->mcr & MCR_OUT1 ? MSR_RI : 0) | (u->mcr & MCR_OUT2 ? MSR_DCD : 0));
}

static uint8_t interrupt_id(const struct uart *u)
{
    if ((u->ier & IER_LINE) && (u->lsr & LSR_ERRORS))
        return IIR_LINE;
    if ((u->ier & IER_RX) && u->rx_len >= trigger_level(u))
        return IIR_RX;
    if ((u->ier & IER_RX) && u->rx_timed_out && u->rx_len)
        return IIR_TIMEOUT;
    if ((u->ier & IER_TX) && u->tx_pending)
        return IIR_TX;
    if ((u->ier & IER_MODEM) && (u->msr & 0x0f))
        return IIR_MODEM;
    return IIR_NONE;
}

static void update_irq(struct uart *u)
{
    /* OUT2 gates the line on a PC; in loopback it is disconnected, but drivers probe with it. */
    bool gate = u->mcr & (MCR_OUT2 | MCR_LOOP);
    chip_line_set(&u->irq, gate && interrupt_id(u) != IIR_NONE);
}

static void update_modem(struct uart *u)
{
    uint8_t was = u->msr & 0xf0, is = modem_lines(u), changed = was ^ is;
    uint8_t delta = u->msr & 0x0f;
    delta |= (uint8_t)(changed >> 4 & (MSR_DCTS | MSR_DDSR | MSR_DDCD));
    if ((was & MSR_RI) && !(is & MSR_RI))
        delta |= MSR_TERI;
    u->msr = is | delta;
}

/* Four character times at the programmed speed. */
static uint64_t timeout_ns(const struct uart *u)
{
    unsigned divisor = u->dll | u->dlm << 8;
    unsigned bits = 1 + 5 + (u->lcr & 3) + (u->lcr & 8 ? 1 : 0) + (u->lcr & 4 ? 2 : 1);
    return 4ull * bits * (divisor ? divisor : 1) * CHIP_NS_PER_S / BASE_HZ;
}

static void restart_timeout(struct uart *u)
{
    u->rx_timed_out = false;
    bool wait = fifos(u) && u->rx_len && u->rx_len < trigger_level(u);
    chip_timer_set(&u->timeout, wait ? chip_now(u->env) + timeout_ns(u) : 0);
}

static void show_first(struct uart *u)
{
    u->lsr &= (uint8_t) ~(LSR_DR | LSR_FIFO);
    if (!u->rx_len)
        return;
    u->lsr |= (uint8_t)(LSR_DR | (u->rx_error[0] & LSR_ERRORS));
    for (size_t i = 0; i < u->rx_len && fifos(u); i++)
        if (u->rx_error[i])
            u->lsr |= LSR_FIFO;
}

static void receive(struct uart *u, uint8_t byte, uint8_t error)
{
    size_t room = fifos(u) ? FIFO : 1;
    if (u->rx_len >= room) {
        u->lsr |= LSR_OE;
        if (!fifos(u))
            u->rx[0] = byte;
        return;
    }
    u->rx[u->rx_len] = byte;
    u->rx_error[u->rx_len++] = error;
    show_first(u);
}

/* Moves waiting input into the FIFO as far as there is room. */
static void feed(struct uart *u)
{
    if (u->mcr & MCR_LOOP)
        return;
    size_t room = fifos(u) ? FIFO : 1, n = 0;
    if (u->break_waiting && u->rx_len < room) {
        receive(u, 0, LSR_BI);
        u->break_waiting = false;
    }
    while (n < u->in_len && u->rx_len < room)
        receive(u, u->in[n++], 0);
    memmove(u->in, u->in + n, u->in_len - n);
    u->in_len -= n;
}

static uint8_t take_received(struct uart *u)
{
    if (!u->rx_len)
        return 0;
    uint8_t byte = u->rx[0];
    u->rx_len--;
    memmove(u->rx, u->rx + 1, u->rx_len);
    memmove(u->rx_error, u->rx_error + 1, u->rx_len);
    show_first(u);
    feed(u);
    restart_timeout(u);
    return byte;
}

static void transmit(struct uart *u, uint8_t byte)
{
    u->tx_pending = false;
    if (u->mcr & MCR_LOOP) {
        receive(u, byte, 0);
        restart_timeout(u);
    } else if (u->sink.write) {
        if (u->out_len < QUEUE_OUT) /* else the guest did not look at LSR: lost, as on the wire */
            u->out[u->out_len++] = byte;
        if (!u->stopped)
            loop_post(u->env->loop, &u->post);
    }
    if (u->out_len > QUEUE_OUT - FIFO)
        u->lsr &= (uint8_t) ~(LSR_THRE | LSR_TEMT);
    else
        u->tx_pending = true;
}

static void write_fcr(struct uart *u, uint8_t v)
{
    bool toggled = (v ^ u->fcr) & FCR_ENABLE;
    if (toggled || (v & FCR_CLEAR_RX)) {
        u->rx_len = 0;
        show_first(u);
    }
    if (v & FCR_ENABLE)
        u->fcr = v & 0xc9;
    else
        u->fcr = 0;
    feed(u);
    restart_timeout(u);
}

static void write_ier(struct uart *u, uint8_t v)
{
    if ((v & IER_TX) && !(u->ier & IER_TX) && (u->lsr & LSR_THRE))
        u->tx_pending = true;
    u->ier = v & 0x0f;
}

static void write_mcr(struct uart *u, uint8_t v)
{
    u->mcr = v & 0x1f;
    update_modem(u);
    feed(u);
    restart_timeout(u);
}

static void write_register(struct uart *u, enum reg reg, uint8_t v)
{
    bool dlab = u->lcr & LCR_DLAB;
    switch (reg) {
    case REG_DATA:
        if (dlab)
            u->dll = v;
        else
            transmit(u, v);
        break;
    case REG_IER:
        if (dlab)
            u->dlm = v;
        else
            write_ier(u, v);
        break;
    case REG_IIR_FCR: write_fcr(u, v); break;
    case REG_LCR: u->lcr = v; break;
    case REG_MCR: write_mcr(u, v); break;
    case REG_SCR: u->scr = v; break;
    case REG_LSR:
    case REG_MSR: break; /* read only */
    }
}

static uint8_t read_iir(struct uart *u)
{
    uint8_t id = interrupt_id(u);
    if (id == IIR_TX)
        u->tx_pending = false;
    return id | (fifos(u) ? IIR_FIFO : 0);
}

static uint8_t read_register(struct uart *u, enum reg reg)
{
    bool dlab = u->lcr & LCR_DLAB;
    uint8_t v = 0;
    switch (reg) {
    case REG_DATA: return dlab ? u->dll : take_received(u);
    case REG_IER: return dlab ? u->dlm : u->ier;
    case REG_IIR_FCR: return read_iir(u);
    case REG_LCR: return u->lcr;
    case REG_MCR: return u->mcr;
    case REG_LSR:
        v = u->lsr;
        u->lsr &= (uint8_t)~LSR_ERRORS;
        if (u->rx_len)
            u->rx_error[0] = 0;
        return v;
    case REG_MSR:
        v = u->msr;
        u->msr &= 0xf0;
        return v;
    case REG_SCR: return u->scr;
    }
    return v;
}

static uint64_t port_read(void *ctx, uint64_t offset, unsigned size)
{
    struct uart *u = ctx;
    uint64_t v = 0;
    pthread_mutex_lock(&u->lock);
    for (unsigned i = 0; i < size; i++)
        v |= (uint64_t)read_register(u, (enum reg)((offset + i) & 7)) << 8 * i;
    update_irq(u);
    pthread_mutex_unlock(&u->lock);
    return v;
}

static void port_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct uart *u = ctx;
    pthread_mutex_lock(&u->lock);
    for (unsigned i = 0; i < size; i++)
        write_register(u, (enum reg)((offset + i) & 7), (uint8_t)(value >> 8 * i));
    update_irq(u);
    pthread_mutex_unlock(&u->lock);
}

static const struct hv_io_ops port_ops = {
    .name = "serial port", .read = port_read, .write = port_write};

static void on_timeout(void *ctx)
{
    struct uart *u = ctx;
    pthread_mutex_lock(&u->lock);
    if (fifos(u) && u->rx_len && u->rx_len < trigger_level(u))
        u->rx_timed_out = true;
    update_irq(u);
    pthread_mutex_unlock(&u->lock);
}

void uart_flush(struct uart *u)
{
    uint8_t chunk[QUEUE_OUT];
    pthread_mutex_lock(&u->lock);
    size_t len = u->out_len;
    memcpy(chunk, u->out, len);
    pthread_mutex_unlock(&u->lock);
    size_t n = len && u->sink.write ? u->sink.write(u->sink.ctx, chunk, len) : 0;
    pthread_mutex_lock(&u->lock);
    u->out_len -= n; /* only this thread takes; others append */
    memmove(u->out, u->out + n, u->out_len);
    if (!(u->lsr & LSR_THRE) && u->out_len <= QUEUE_OUT - FIFO) {
        u->lsr |= LSR_THRE | LSR_TEMT;
        u->tx_pending = true;
    }
    update_irq(u);
    pthread_mutex_unlock(&u->lock);
}

static void on_post(void *ctx)
{
    uart_flush(ctx);
}

void uart_sink_ready(struct uart *u)
{
    uart_flush(u);
}

size_t uart_input(struct uart *u, const uint8_t *data, size_t len)
{
    pthread_mutex_lock(&u->lock);
    size_t n = MIN(len, QUEUE_IN - u->in_len);
    memcpy(u->in + u->in_len, data, n);
    u->in_len += n;
    feed(u);
    restart_timeout(u);
    update_irq(u);
    pthread_mutex_unlock(&u->lock);
    return n;
}

void uart_break(struct uart *u)
{
    pthread_mutex_lock(&u->lock);
    u->break_waiting = true;
    feed(u);
    restart_timeout(u);
    update_irq(u);
    pthread_mutex_unlock(&u->lock);
}

/* ---- life ---- */

static void set_power_on(struct uart *u)
{
    u->ier = u->fcr = u->lcr = u->mcr = u->scr = u->dlm = 0;
    u->dll = 12; /* 9600 */
    u->lsr = LSR_THRE | LSR_TEMT;
    u->msr = MSR_CTS | MSR_DSR | MSR_DCD;
    u->tx_pending = u->rx_timed_out = u->break_waiting = false;
    u->rx_len = 0;
}

static void uart_start(void *self)
{
    struct uart *u = self;
    chip_timer_start(&u->timeout);
    pthread_mutex_lock(&u->lock);
    u->stopped = false;
    if (!u->rx_timed_out && !u->timeout.due)
        restart_timeout(u);
    update_irq(u);
    pthread_mutex_unlock(&u->lock);
    uart_flush(u);
}

static void uart_stop(void *self, void (*done)(void *ctx), void *ctx)
{
    struct uart *u = self;
    chip_timer_stop(&u->timeout);
    uart_flush(u);
    pthread_mutex_lock(&u->lock);
    u->stopped = true;
    pthread_mutex_unlock(&u->lock);
    done(ctx);
}

static void uart_reset(void *self)
{
    struct uart *u = self;
    pthread_mutex_lock(&u->lock);
    set_power_on(u);
    chip_timer_set(&u->timeout, 0);
    update_irq(u);
    pthread_mutex_unlock(&u->lock);
}

static void uart_destroy(void *self)
{
    struct uart *u = self;
    if (u->range)
        hv_io_release(u->env->io, u->range);
    pthread_mutex_destroy(&u->lock);
    free(u);
}

static bool loaded(void *obj, uint16_t version, err *e)
{
    struct uart *u = obj;
    if (u->out_len > QUEUE_OUT - FIFO)
        u->lsr &= (uint8_t) ~(LSR_THRE | LSR_TEMT);
    else
        u->lsr |= LSR_THRE | LSR_TEMT;
    if (u->rx_len > 1 && !fifos(u))
        return err_set(e, ERR_CORRUPT, "The saved state of the serial port is damaged (FIFO)");
    show_first(u);
    return true;
}

static const struct state_field fields[] = {
    STATE_FIELD_MAX(1, STATE_U8, struct uart, ier, 0x0f),
    STATE_FIELD(2, STATE_U8, struct uart, fcr),
    STATE_FIELD(3, STATE_U8, struct uart, lcr),
    STATE_FIELD_MAX(4, STATE_U8, struct uart, mcr, 0x1f),
    STATE_FIELD(5, STATE_U8, struct uart, lsr),
    STATE_FIELD(6, STATE_U8, struct uart, msr),
    STATE_FIELD(7, STATE_U8, struct uart, scr),
    STATE_FIELD(8, STATE_U8, struct uart, dll),
    STATE_FIELD(9, STATE_U8, struct uart, dlm),
    STATE_FIELD(10, STATE_BOOL, struct uart, tx_pending),
    STATE_FIELD(11, STATE_BOOL, struct uart, rx_timed_out),
    STATE_VARBYTES(12, struct uart, rx, rx_len),
    STATE_FIELD(13, STATE_BYTES, struct uart, rx_error),
    STATE_VARBYTES(14, struct uart, in, in_len),
    STATE_VARBYTES(15, struct uart, out, out_len),
    STATE_FIELD(16, STATE_BOOL, struct uart, break_waiting),
};
static const struct state_table table = {.name = "serial port",
                                         .section = STATE_ID('U', 'A', 'R', 'T'),
                                         .version = 1,
                                         .least_reader = 1,
                                         .fields = fields,
                                         .nfields = ARRAY_LEN(fields),
                                         .post_load = loaded};

static void uart_save(void *self, struct state_writer *w)
{
    struct uart *u = self;
    state_save(w, &table, u->instance, u);
}

static bool uart_restore(void *self, const struct state_reader *r, err *e)
{
    struct uart *u = self;
    return state_restore(r, &table, u->instance, u, e);
}

struct uart *uart_new(const struct uart_params *p, err *e)
{
    struct uart *u = calloc(1, sizeof *u);
    if (!u) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for a serial port");
        return NULL;
    }
    u->env = p->env;
    u->irq = p->irq;
    u->sink = p->sink;
    u->instance = p->instance;
    u->stopped = true;
    pthread_mutex_init(&u->lock, NULL);
    chip_timer_init(&u->timeout, p->env, on_timeout, u);
    loop_post_init(&u->post, on_post, u);
    set_power_on(u);
    u->range = hv_io_claim(p->env->io, HV_IO_PORT, p->port, PORTS, &port_ops, u, e);
    if (!u->range) {
        uart_destroy(u);
        return NULL;
    }
    return u;
}

struct device uart_device(struct uart *u)
{
    static const struct device_ops ops = {.name = "serial port",
                                          .start = uart_start,
                                          .stop = uart_stop,
                                          .reset = uart_reset,
                                          .save = uart_save,
                                          .restore = uart_restore,
                                          .destroy = uart_destroy};
    return (struct device){.ops = &ops, .self = u};
}
