/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A VM's configuration file: whatever is accepted must come out of a write and a read the same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/machine/config.h"
#include "core/machine/keyfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(const char *text, size_t len)
{
    err e = ERR_INIT;
    AUTO(keyfile) k = keyfile_parse(text, len, &e);
    if (!k)
        return;
    AUTO(str) once = keyfile_format(k, &e);
    AUTO(keyfile) again = keyfile_parse(once, strlen(once), &e);
    AUTO(str) twice = again ? keyfile_format(again, &e) : NULL;
    if (!twice || strcmp(once, twice))
        abort();
}

static void ignore(void *ctx, const char *key, const char *value, const char *help)
{
    size_t *n = ctx;
    *n += strlen(key) + strlen(value) + strlen(help);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    err e = ERR_INIT;
    size_t n = 0;
    round_trip((const char *)data, size);
    AUTO(vm_config) c = vm_config_parse((const char *)data, size, &e);
    if (!c)
        return 0;
    vm_config_each(c, ignore, &n);
    AUTO(str) once = vm_config_format(c, &e);
    AUTO(vm_config) again = vm_config_parse(once, strlen(once), &e);
    AUTO(vm_config) copy = vm_config_copy(c, &e);
    AUTO(str) twice = again ? vm_config_format(again, &e) : NULL;
    AUTO(str) third = copy ? vm_config_format(copy, &e) : NULL;
    if (!twice || strcmp(once, twice) || !third || strcmp(once, third))
        abort();
    return 0;
}
