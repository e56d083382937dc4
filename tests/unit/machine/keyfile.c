/* SPDX-License-Identifier: GPL-3.0-or-later */
#include "core/machine/keyfile.h"

#include "check.h"

static struct keyfile *parse(const char *s, err *e)
{
    return keyfile_parse(s, strlen(s), e);
}

static void keeps_comments_and_order(void)
{
    err e = ERR_INIT;
    static const char text[] = "# first\n[a]\nx = 1\n# why\ny = two words\n\n[b c]\nz = \n";
    AUTO(keyfile) k = parse(text, &e);
    AUTO(str) out = k ? keyfile_format(k, &e) : NULL;
    CHECK_STR(out, text);
    CHECK(k && keyfile_set(k, "a", "x", "3", &e) && keyfile_set(k, "a", "n", "new", &e));
    CHECK(k && keyfile_set(k, "d", "q", "  edge\n\t\\ ", &e));
    keyfile_unset(k, "a", "y");
    AUTO(str) changed = keyfile_format(k, &e);
    CHECK_STR(changed, "# first\n[a]\nx = 3\n# why\nn = new\n\n[b c]\nz = \n\n[d]\n"
                       "q = \\s edge\\n\\t\\\\\\s\n");
    AUTO(keyfile) again = parse(changed, &e);
    CHECK_STR(again ? keyfile_get(again, "d", "q") : NULL, "  edge\n\t\\ ");
}

static void refuses(const char *text, const char *reason)
{
    err e = ERR_INIT;
    AUTO(keyfile) k = parse(text, &e);
    CHECK(!k);
    CHECK(strstr(e.text, reason));
    if (!strstr(e.text, reason))
        fprintf(stderr, "  \"%s\" gave \"%s\"\n", text, e.text);
}

static void refuses_what_is_wrong(void)
{
    refuses("x = 1\n", "line 1: a key stands before");
    refuses("[a]\n[a]\n", "line 2: section [a] is there twice");
    refuses("[a]\nx = 1\nx = 2\n", "line 3");
    refuses("[a\n", "closing bracket");
    refuses("[]\n", "section's name");
    refuses("[", "closing bracket");
    refuses("[a]\nnonsense\n", "neither");
    refuses("[a]\n= 1\n", "key's name");
    refuses("[a]\nx = \\q\n", "backslash");
    refuses("[a]\nx = \\", "backslash");
    refuses("[a]\nx = \xc3\x28\n", "UTF-8");
    refuses("[a]\nx = \xed\xa0\x80\n", "UTF-8");
    refuses("[a]\nx = \x01\n", "UTF-8");
}

static void bounds_its_input(void)
{
    err e = ERR_INIT;
    AUTO(str) big = malloc(KEYFILE_MAX_BYTES + 2);
    memset(big, '#', KEYFILE_MAX_BYTES + 1);
    CHECK(!keyfile_parse(big, KEYFILE_MAX_BYTES + 1, &e));
    memset(big, '\n', KEYFILE_MAX_LINES + 1);
    CHECK(!keyfile_parse(big, KEYFILE_MAX_LINES + 1, &e));
    AUTO(keyfile) k = keyfile_new(&e);
    CHECK(!keyfile_set(k, "a", "x", "\x1b[31m", &e));
    CHECK(!keyfile_set(k, "a]", "x", "y", &e));
}

static const struct check_test tests[] = {
    CHECK_TEST(keeps_comments_and_order),
    CHECK_TEST(refuses_what_is_wrong),
    CHECK_TEST(bounds_its_input),
};
CHECK_MAIN(tests)
