/* SPDX-License-Identifier: GPL-3.0-or-later */
/*
 * Rows that show and change one setting of a machine each, by its key in the configuration. A
 * change is written at once; one that is refused is told by a toast and taken back.
 */
#pragma once

#include <adwaita.h>

#include "app/vm.h"

typedef enum { VIREO_ROW_SWITCH, VIREO_ROW_NUMBER, VIREO_ROW_CHOICE, VIREO_ROW_TEXT } VireoRowKind;

typedef struct {
    const char *key;
    VireoRowKind kind;
    const char *title, *subtitle; /* N_() */
    double min, max, step;        /* numbers */
    const char *const *choices;   /* N_(), in the order of the enumeration */
} VireoSettingRow;

/* A preferences row for `key` (which overrides row->key where not NULL: "disk3.path"). */
GtkWidget *vireo_settings_row_new(const VireoSettingRow *row, const char *key, VireoVm *vm);
/* Shows what is stored, and whether it may be changed now. */
void vireo_settings_row_refresh(GtkWidget *row);
