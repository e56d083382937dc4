/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/base/err.h"

#include <errno.h>

#include "check.h"

static void texts_and_codes(void)
{
    err e = ERR_INIT;
    CHECK(!err_set(&e, ERR_CORRUPT, "bad %d", 7));
    CHECK_STR(e.text, "bad 7");
    CHECK(!err_prefix(&e, "disk %s", "a.vhdx"));
    CHECK_STR(e.text, "disk a.vhdx: bad 7");
    CHECK_EQ(e.code, ERR_CORRUPT);
    CHECK(!err_errno(&e, ENOSPC, "writing"));
    CHECK_EQ(e.code, ERR_NO_SPACE);
    CHECK_EQ(err_to_errno(&e), ENOSPC);
    CHECK(!err_set(NULL, ERR_IO, "nobody listens"));
}

static const char *other_language(const char *fmt)
{
    return !strcmp(fmt, "bad %d") ? "schlecht %d" : fmt;
}

static void texts_are_looked_up(void)
{
    err e = ERR_INIT;
    err_translate(other_language);
    err_set(&e, ERR_CORRUPT, "bad %d", 7);
    CHECK_STR(e.text, "schlecht 7");
    CHECK(e.local);
    err_prefix(&e, "disk %s", "a.vhdx");
    CHECK_STR(e.text, "disk a.vhdx: schlecht 7");
    CHECK(!e.local);
    err_translate(NULL);
    err_set(&e, ERR_CORRUPT, "bad %d", 7);
    CHECK_STR(e.text, "bad 7");
    CHECK(!e.local);
}

static void long_texts_are_cut(void)
{
    err e = ERR_INIT;
    err_set(&e, ERR_IO, "%0600d", 1);
    CHECK_EQ(strlen(e.text), sizeof e.text - 1);
    err_prefix(&e, "%0600d", 2);
    CHECK_EQ(strlen(e.text), sizeof e.text - 1);
}

static const struct check_test tests[] = {
    CHECK_TEST(texts_and_codes), CHECK_TEST(texts_are_looked_up), CHECK_TEST(long_texts_are_cut)};
CHECK_MAIN(tests)
