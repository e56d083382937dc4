/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A reset by the hypervisor's register: run-asm must end with status 10. */
#include "test.h"

void test_main(void)
{
    CHECK_EQ(rdmsr(0x40000003), 0);
    wrmsr(0x40000003, 1);
    for (unsigned i = 0; i < 1000000; i++)
        cpu_pause();
    check_failed(__FILE__, __LINE__, "the processor went on", 0, 0);
}
