/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/hv/vpstate.h"

#include "check.h"
#include "core/base/bytes.h"

static void power_on_is_as_the_manual_has_it(void)
{
    static struct hv_vp_state s;
    hv_vp_state_reset(&s, 0);
    CHECK_EQ(s.seg[HV_CS].base + s.rip, 0xfffffff0);
    CHECK_EQ(s.seg[HV_CS].selector, 0xf000);
    CHECK_EQ(s.rflags, 2);
    CHECK_EQ(s.cr0, 0x60000010);
    CHECK_EQ(s.pat, 0x0007040600070406);
    CHECK_EQ(s.apic_base, 0xfee00900);
    CHECK_EQ(s.activity, HV_VP_RUNNING);
    CHECK_EQ(s.synthetic.sint[2], 0x10000);
    CHECK_EQ(get_le32(s.xsave + 24), 0x1f80);
    hv_vp_state_reset(&s, 3);
    CHECK_EQ(s.apic_base, 0xfee00800);
    CHECK_EQ(s.activity, HV_VP_WAIT_FOR_SIPI);
    CHECK_EQ(get_le32(s.lapic + 0x20), 3u << 24);
}

static const struct check_test tests[] = {CHECK_TEST(power_on_is_as_the_manual_has_it)};
CHECK_MAIN(tests)
