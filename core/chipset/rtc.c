/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/chipset/rtc.h"

#include <stdlib.h>
#include <time.h>

#include "core/base/bytes.h"
#include "core/chipset/layout.h"

enum { CMOS = 128, HZ = 32768, DAY = 86400 };
enum reg {
    SECONDS,
    SECONDS_ALARM,
    MINUTES,
    MINUTES_ALARM,
    HOURS,
    HOURS_ALARM,
    WEEKDAY,
    DAY_OF_MONTH,
    MONTH,
    YEAR,
    REG_A,
    REG_B,
    REG_C,
    REG_D,
    RAM,
};
enum { A_UIP = 0x80, A_RATE = 0x0f };
enum {
    B_SET = 0x80,
    B_PIE = 0x40,
    B_AIE = 0x20,
    B_UIE = 0x10,
    B_SQWE = 8,
    B_BINARY = 4,
    B_24H = 2
};
enum { C_IRQF = 0x80, C_PF = 0x40, C_AF = 0x20, C_UF = 0x10 };
enum { D_VALID = 0x80, PM = 0x80, ALARM_ANY = 0xc0 };
#define UPDATE_NS 244000u /* UIP rises this long before the update */

struct rtc {
    const struct chip_env *env;
    struct chip_line irq;
    uint64_t (*wall_ns)(void *ctx);
    void *ctx;
    int64_t configured_offset;
    struct hv_io_range *range;
    struct chip_timer timer;

    pthread_mutex_t lock; /* all below */
    uint8_t index, a, b, c;
    uint8_t cmos[CMOS]; /* alarm registers and RAM; time registers while SET is 1 */
    uint64_t offset_ns; /* two's complement: guest's clock minus wall clock */
    uint64_t seen_s;    /* second up to which update and alarm were looked at */
    uint64_t period_ns; /* guest time of the newest periodic tick that was looked at */
};

static uint64_t host_wall(void *ctx)
{
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    return (uint64_t)ts.tv_sec * CHIP_NS_PER_S + (uint64_t)ts.tv_nsec;
}

/* The guest's clock in ns since 1970. */
static uint64_t clock_now(const struct rtc *r)
{
    return r->wall_ns(r->ctx) + r->offset_ns;
}

/* ---- calendar: days since 1970 and back (proleptic Gregorian, from 1970 on) ---- */

struct date {
    unsigned year, month, day; /* month and day from 1 */
};

static struct date date_of(uint64_t days)
{
    uint64_t z = days + 719468, era = z / 146097, doe = z % 146097;
    uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    unsigned month = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
    return (struct date){.year = (unsigned)(yoe + era * 400) + (month <= 2),
                         .month = month,
                         .day = (unsigned)(doy - (153 * mp + 2) / 5 + 1)};
}

static uint64_t days_of(const struct date *d)
{
    unsigned y = d->year - (d->month <= 2), era = y / 400, yoe = y % 400;
    unsigned doy = (153 * (d->month > 2 ? d->month - 3 : d->month + 9) + 2) / 5 + d->day - 1;
    uint64_t days = (uint64_t)era * 146097 + yoe * 365u + yoe / 4 - yoe / 100 + doy;
    return days > 719468 ? days - 719468 : 0;
}

/* ---- registers as the guest sees them: BCD or binary, 12 or 24 hours ---- */

static uint8_t encode(const struct rtc *r, unsigned v)
{
    return (uint8_t)(r->b & B_BINARY ? v : (v / 10 << 4 | v % 10));
}
static unsigned decode(const struct rtc *r, uint8_t v)
{
    return r->b & B_BINARY ? v : (unsigned)(v >> 4) * 10 + (v & 15);
}
static uint8_t encode_hour(const struct rtc *r, unsigned h)
{
    if (r->b & B_24H)
        return encode(r, h);
    return encode(r, h % 12 ? h % 12 : 12) | (h >= 12 ? PM : 0);
}
static unsigned decode_hour(const struct rtc *r, uint8_t v)
{
    if (r->b & B_24H)
        return decode(r, v);
    return decode(r, v & 0x7f) % 12 + (v & PM ? 12 : 0);
}

static uint8_t time_register(const struct rtc *r, uint64_t s, unsigned reg)
{
    struct date d = date_of(s / DAY);
    switch (reg) {
    case SECONDS: return encode(r, (unsigned)(s % 60));
    case MINUTES: return encode(r, (unsigned)(s / 60 % 60));
    case HOURS: return encode_hour(r, (unsigned)(s / 3600 % 24));
    case WEEKDAY: return encode(r, (unsigned)((s / DAY + 4) % 7 + 1));
    case DAY_OF_MONTH: return encode(r, d.day);
    case MONTH: return encode(r, d.month);
    case YEAR: return encode(r, d.year % 100);
    default: return (uint8_t)((d.year / 100 % 100) / 10 << 4 | d.year / 100 % 10); /* century */
    }
}

static const uint8_t time_registers[] = {SECONDS,      MINUTES, HOURS, WEEKDAY,
                                         DAY_OF_MONTH, MONTH,   YEAR,  RTC_CENTURY};

static bool is_time(unsigned reg)
{
    for (size_t i = 0; i < ARRAY_LEN(time_registers); i++)
        if (time_registers[i] == reg)
            return true;
    return false;
}

static void freeze(struct rtc *r)
{
    uint64_t s = clock_now(r) / CHIP_NS_PER_S;
    for (size_t i = 0; i < ARRAY_LEN(time_registers); i++)
        r->cmos[time_registers[i]] = time_register(r, s, time_registers[i]);
}

/* Sets the clock by the time registers; nonsense in them is brought into range, as an update would.
 */
static void thaw(struct rtc *r)
{
    const uint8_t *m = r->cmos;
    unsigned century = (unsigned)(m[RTC_CENTURY] >> 4) * 10 + (m[RTC_CENTURY] & 15);
    struct date d = {.year = century * 100 + decode(r, m[YEAR]) % 100,
                     .month = (decode(r, m[MONTH]) + 11) % 12 + 1,
                     .day = (decode(r, m[DAY_OF_MONTH]) + 30) % 31 + 1};
    if (d.year < 1970)
        d.year += 100 * ((1970 - d.year + 99) / 100);
    uint64_t s = days_of(&d) * DAY + decode_hour(r, m[HOURS]) % 24 * 3600u +
                 decode(r, m[MINUTES]) % 60 * 60u + decode(r, m[SECONDS]) % 60;
    r->offset_ns = s * CHIP_NS_PER_S - r->wall_ns(r->ctx);
    r->seen_s = s;
}

/* ---- interrupts ---- */

static bool alarm_matches(const struct rtc *r, uint64_t s)
{
    static const uint8_t pairs[][2] = {
        {SECONDS, SECONDS_ALARM}, {MINUTES, MINUTES_ALARM}, {HOURS, HOURS_ALARM}};
    for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
        uint8_t want = r->cmos[pairs[i][1]];
        if ((want & ALARM_ANY) != ALARM_ANY && want != time_register(r, s, pairs[i][0]))
            return false;
    }
    return true;
}

static uint64_t period(const struct rtc *r)
{
    unsigned rate = r->a & A_RATE;
    if (!rate)
        return 0;
    return chip_scale(1ull << (rate < 3 ? rate + 6 : rate - 1), CHIP_NS_PER_S, HZ);
}

static void look_at_seconds(struct rtc *r)
{
    uint64_t s = clock_now(r) / CHIP_NS_PER_S;
    if (r->b & B_SET || s <= r->seen_s) {
        if (s < r->seen_s) /* the host's clock was set back */
            r->seen_s = s;
        return;
    }
    r->c |= C_UF;
    uint64_t from = s - r->seen_s > DAY ? s - DAY : r->seen_s;
    while (!(r->c & C_AF) && from < s)
        if (alarm_matches(r, ++from))
            r->c |= C_AF;
    r->seen_s = s;
}

static void look_at_period(struct rtc *r)
{
    uint64_t now = chip_now(r->env), p = period(r);
    if (!p || now < r->period_ns + p) {
        if (now < r->period_ns)
            r->period_ns = now;
        return;
    }
    r->c |= C_PF;
    r->period_ns += (now - r->period_ns) / p * p;
}

/* Brings flags and the line up to date and arms the timer for what may interrupt next. */
static void update(struct rtc *r)
{
    look_at_seconds(r);
    look_at_period(r);
    uint8_t wanted = r->b & (B_PIE | B_AIE | B_UIE); /* same bits as in register C */
    r->c = (uint8_t)(r->c & ~C_IRQF) | (r->c & wanted ? C_IRQF : 0);
    chip_line_set(&r->irq, r->c & C_IRQF);
    uint64_t due = UINT64_MAX, now = chip_now(r->env);
    if ((wanted & ~r->c & (B_AIE | B_UIE)) && !(r->b & B_SET))
        due = now + CHIP_NS_PER_S - clock_now(r) % CHIP_NS_PER_S;
    if ((wanted & ~r->c & B_PIE) && period(r))
        due = MIN(due, r->period_ns + period(r));
    chip_timer_set(&r->timer, due == UINT64_MAX ? 0 : MAX(due, 1));
}

static void on_timer(void *ctx)
{
    struct rtc *r = ctx;
    pthread_mutex_lock(&r->lock);
    update(r);
    pthread_mutex_unlock(&r->lock);
}

/* ---- ports ---- */

static uint8_t read_a(const struct rtc *r)
{
    bool uip = !(r->b & B_SET) && CHIP_NS_PER_S - clock_now(r) % CHIP_NS_PER_S <= UPDATE_NS;
    return r->a | (uip ? A_UIP : 0);
}

static uint8_t read_selected(struct rtc *r)
{
    uint8_t v;
    switch (r->index) {
    case REG_A: return read_a(r);
    case REG_B: return r->b;
    case REG_C:
        update(r);
        v = r->c;
        r->c = 0;
        /* Down for a moment, even if the next tick is due by now: the PIC waits for an edge. */
        chip_line_set(&r->irq, false);
        update(r);
        return v;
    case REG_D: return D_VALID;
    default: break;
    }
    if (is_time(r->index) && !(r->b & B_SET))
        return time_register(r, clock_now(r) / CHIP_NS_PER_S, r->index);
    return r->cmos[r->index];
}

static void write_b(struct rtc *r, uint8_t v)
{
    bool was_set = r->b & B_SET, set = v & B_SET;
    if (set) /* SET also clears the update interrupt's enable */
        v &= (uint8_t)~B_UIE;
    if (set && !was_set)
        freeze(r);
    if ((v & B_PIE) && !(r->b & B_PIE))
        r->period_ns = chip_now(r->env);
    r->b = v;
    if (was_set && !set)
        thaw(r);
}

static void write_selected(struct rtc *r, uint8_t v)
{
    switch (r->index) {
    case REG_A:
        r->a = v & 0x7f;
        r->period_ns = chip_now(r->env);
        return;
    case REG_B: write_b(r, v); return;
    case REG_C:
    case REG_D: return; /* read only */
    default: break;
    }
    bool live = is_time(r->index) && !(r->b & B_SET);
    if (live)
        freeze(r);
    r->cmos[r->index] = v;
    if (live)
        thaw(r);
}

static uint64_t port_read(void *ctx, uint64_t offset, unsigned size)
{
    struct rtc *r = ctx;
    if (offset == 0)
        return 0xff;
    pthread_mutex_lock(&r->lock);
    uint8_t v = read_selected(r);
    pthread_mutex_unlock(&r->lock);
    return v;
}

static void port_write(void *ctx, uint64_t offset, unsigned size, uint64_t value)
{
    struct rtc *r = ctx;
    pthread_mutex_lock(&r->lock);
    if (offset == 0) {
        r->index = value & 0x7f;
        value >>= 8;
    }
    if (offset == 1 || size > 1) {
        write_selected(r, (uint8_t)value);
        update(r);
    }
    pthread_mutex_unlock(&r->lock);
}

static const struct hv_io_ops port_ops = {
    .name = "real-time clock", .read = port_read, .write = port_write};

void rtc_set_cmos(struct rtc *r, uint8_t index, uint8_t value)
{
    if (index >= RAM && index < CMOS && index != RTC_CENTURY)
        r->cmos[index] = value;
}

uint8_t rtc_cmos(struct rtc *r, uint8_t index)
{
    pthread_mutex_lock(&r->lock);
    uint8_t v = r->cmos[index % CMOS];
    pthread_mutex_unlock(&r->lock);
    return v;
}

/* ---- life ---- */

static void set_power_on(struct rtc *r)
{
    r->index = 0;
    r->a = 0x26;
    r->b = B_24H;
    r->c = 0;
    r->offset_ns = (uint64_t)(r->configured_offset * (int64_t)CHIP_NS_PER_S);
    r->seen_s = clock_now(r) / CHIP_NS_PER_S;
    r->period_ns = 0;
    for (unsigned i = 0; i < RAM; i++)
        r->cmos[i] = 0;
}

static void rtc_start(void *self)
{
    struct rtc *r = self;
    chip_timer_start(&r->timer);
    on_timer(r);
}

static void rtc_stop(void *self, void (*done)(void *ctx), void *ctx)
{
    struct rtc *r = self;
    chip_timer_stop(&r->timer);
    done(ctx);
}

/* The battery keeps time and memory; a reset clears the interrupt enables and flags. */
static void rtc_reset(void *self)
{
    struct rtc *r = self;
    pthread_mutex_lock(&r->lock);
    if (r->b & B_SET)
        thaw(r);
    r->index = r->c = 0;
    r->a = 0x26;
    r->b = B_24H;
    chip_timer_set(&r->timer, 0);
    chip_line_set(&r->irq, false);
    pthread_mutex_unlock(&r->lock);
}

static void rtc_destroy(void *self)
{
    struct rtc *r = self;
    if (r->range)
        hv_io_release(r->env->io, r->range);
    pthread_mutex_destroy(&r->lock);
    free(r);
}

static bool loaded(void *obj, uint16_t version, err *e)
{
    struct rtc *r = obj;
    uint64_t s = clock_now(r) / CHIP_NS_PER_S;
    /* Time that passed while saved is not gone through second by second. */
    r->seen_s = s;
    if (r->period_ns > UINT64_MAX / 4)
        return err_set(e, ERR_CORRUPT, "The saved state of the real-time clock is damaged (time)");
    return true;
}

static const struct state_field fields[] = {
    STATE_FIELD_MAX(1, STATE_U8, struct rtc, index, 0x7f),
    STATE_FIELD_MAX(2, STATE_U8, struct rtc, a, 0x7f),
    STATE_FIELD(3, STATE_U8, struct rtc, b),
    STATE_FIELD(4, STATE_U8, struct rtc, c),
    STATE_FIELD(5, STATE_BYTES, struct rtc, cmos),
    STATE_FIELD(6, STATE_U64, struct rtc, offset_ns),
    STATE_FIELD(7, STATE_U64, struct rtc, period_ns),
};
static const struct state_table table = {.name = "real-time clock",
                                         .section = STATE_ID('R', 'T', 'C', ' '),
                                         .version = 1,
                                         .least_reader = 1,
                                         .fields = fields,
                                         .nfields = ARRAY_LEN(fields),
                                         .post_load = loaded};

static void rtc_save(void *self, struct state_writer *w)
{
    state_save(w, &table, 0, self);
}

static bool rtc_restore(void *self, const struct state_reader *r, err *e)
{
    return state_restore(r, &table, 0, self, e);
}

struct rtc *rtc_new(const struct rtc_params *p, err *e)
{
    struct rtc *r = calloc(1, sizeof *r);
    if (!r) {
        err_set(e, ERR_NO_MEMORY, "Not enough memory for the real-time clock");
        return NULL;
    }
    r->env = p->env;
    r->irq = p->irq;
    r->wall_ns = p->wall_ns ? p->wall_ns : host_wall;
    r->ctx = p->ctx;
    r->configured_offset = p->offset_s;
    pthread_mutex_init(&r->lock, NULL);
    chip_timer_init(&r->timer, p->env, on_timer, r);
    set_power_on(r);
    r->range = hv_io_claim(p->env->io, HV_IO_PORT, LAYOUT_PORT_RTC, 2, &port_ops, r, e);
    if (!r->range) {
        rtc_destroy(r);
        return NULL;
    }
    return r;
}

struct device rtc_device(struct rtc *r)
{
    static const struct device_ops ops = {.name = "real-time clock",
                                          .start = rtc_start,
                                          .stop = rtc_stop,
                                          .reset = rtc_reset,
                                          .save = rtc_save,
                                          .restore = rtc_restore,
                                          .destroy = rtc_destroy};
    return (struct device){.ops = &ops, .self = r};
}
