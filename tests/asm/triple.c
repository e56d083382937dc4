/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A breakpoint with no descriptor table at all: run-asm must end with status 11. */
#include "test.h"

void test_main(void)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) none = {0, 0};
    __asm__ volatile("lidt %0; int3" ::"m"(none));
    check_failed(__FILE__, __LINE__, "the processor went on", 0, 0);
}
