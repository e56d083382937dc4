#!/bin/bash
# SPDX-License-Identifier: GPL-3.0-or-later
# Every string is translated, in every language, and well formed.  po.sh SOURCE
set -euo pipefail
cd "$1"
pot=$(mktemp)
trap 'rm -f "$pot"' EXIT
ls app/*.c app/ui/*.c app/ui/*.ui | sort >"$pot"
if ! grep -v -e '^#' -e '^data/' po/POTFILES | sort | diff "$pot" - >&2; then
    echo "po/POTFILES does not name every file" >&2
    exit 1
fi
# What core says of failures is translated as far as it is listed.
xgettext -o "$pot" --from-code=UTF-8 --no-wrap --keyword=err_set:3 --keyword=err_errno:3 --keyword=err_prefix:2 \
    $(find core -name '*.c') 2>/dev/null
xgettext -o - --from-code=UTF-8 --no-wrap --keyword=N_ app/core-texts.c 2>/dev/null | grep '^msgid ".' | while IFS= read -r text; do
    grep -qxF -- "$text" "$pot" || { echo "core-texts.c: core says no more: $text" >&2; exit 1; }
done
xgettext -f po/POTFILES -o "$pot" --from-code=UTF-8 --keyword=_ --keyword=N_ --keyword=C_:1c,2 \
    --keyword=ngettext:1,2 2>/dev/null
for l in $(cat po/LINGUAS); do
    msgfmt -c --check-accelerators=_ -o /dev/null "po/$l.po"
    msgcmp "po/$l.po" "$pot"
done
