/* SPDX-License-Identifier: GPL-3.0-or-later */
/* In the guest: keeps MIB of memory changing and tells the host every millisecond that it lives.
 *     busy ADDRESS PORT MIB */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum { PAGE = 4096, TICK_NS = 1000000 };

static uint64_t now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    size_t pages = strtoul(argv[3], NULL, 10) << 8, at = 0;
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)atoi(argv[2])),
                             .sin_addr.s_addr = inet_addr(argv[1])};
    uint64_t *memory = aligned_alloc(PAGE, pages * PAGE), word = 88172645463325252u;
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    if (!memory || s < 0)
        return 1;
    for (size_t i = 0; i < pages * PAGE / 8; i++) {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        memory[i] = word;
    }
    puts("BUSY");
    fflush(stdout);
    for (uint64_t tick[2] = {0}, next = 0;;) {
        tick[1] = now();
        if (tick[1] >= next) {
            next = tick[1] + TICK_NS;
            tick[0]++;
            sendto(s, tick, sizeof tick, 0, (struct sockaddr *)&to, sizeof to);
        }
        for (unsigned i = 0; i < 64; i++) {
            memory[at * (PAGE / 8)]++;
            at = at + 1 == pages ? 0 : at + 1;
        }
    }
}
