/* SPDX-License-Identifier: GPL-3.0-or-later */
/* What people write of the NAT: port forwards, and the address that a VM has. */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/net/port.h"

enum { NAT_BASE = 0x0acb0000, NAT_FIRST = 16, NAT_COUNT = 0xfff0 - NAT_FIRST };

struct in_addr net_nat_address(const void *id, size_t len)
{
    const uint8_t *p = id;
    uint64_t h = 0xcbf29ce484222325; /* FNV-1a */
    for (size_t i = 0; i < len; i++)
        h = (h ^ p[i]) * 0x100000001b3;
    h ^= h >> 32;
    return (struct in_addr){.s_addr = htonl(NAT_BASE | (NAT_FIRST + (uint32_t)(h % NAT_COUNT)))};
}

static bool parse_port(const char *s, uint16_t *out)
{
    char *end;
    if (*s < '0' || *s > '9')
        return false;
    errno = 0;
    unsigned long v = strtoul(s, &end, 10);
    if (*end || errno || !v || v > UINT16_MAX)
        return false;
    *out = (uint16_t)v;
    return true;
}

static bool parse_fields(char *s, struct net_forward *f)
{
    char *part[4];
    unsigned n = 0;
    for (char *save, *t = strtok_r(s, ":", &save); t; t = strtok_r(NULL, ":", &save)) {
        if (n == 4)
            return false;
        part[n++] = t;
    }
    if (n < 3 || (strcmp(part[0], "tcp") != 0 && strcmp(part[0], "udp") != 0))
        return false;
    f->udp = part[0][0] == 'u';
    if (n == 4 && inet_pton(AF_INET, part[1], &f->host_addr) != 1)
        return false;
    return parse_port(part[n - 2], &f->host_port) && parse_port(part[n - 1], &f->guest_port);
}

bool net_forward_parse(const char *s, struct net_forward *out, err *e)
{
    char copy[64];
    struct net_forward f = {0};
    if (strlen(s) < sizeof copy) {
        strcpy(copy, s);
        if (parse_fields(copy, &f)) {
            *out = f;
            return true;
        }
    }
    return err_set(e, ERR_INVALID,
                   "\"%.60s\" is no port forward: it is written tcp:HOSTPORT:GUESTPORT or "
                   "udp:ADDRESS:HOSTPORT:GUESTPORT",
                   s);
}

void net_forward_format(const struct net_forward *f, char *out, size_t size)
{
    char addr[INET_ADDRSTRLEN + 1] = "";
    if (f->host_addr.s_addr) {
        inet_ntop(AF_INET, &f->host_addr, addr, INET_ADDRSTRLEN);
        strcat(addr, ":");
    }
    snprintf(out, size, "%s:%s%u:%u", f->udp ? "udp" : "tcp", addr, f->host_port, f->guest_port);
}
