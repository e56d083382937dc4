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
xgettext -f po/POTFILES -o "$pot" --from-code=UTF-8 --keyword=_ --keyword=N_ --keyword=C_:1c,2 \
    --keyword=ngettext:1,2 2>/dev/null
for l in $(cat po/LINGUAS); do
    msgfmt -c --check-accelerators=_ -o /dev/null "po/$l.po"
    msgcmp "po/$l.po" "$pot"
done
