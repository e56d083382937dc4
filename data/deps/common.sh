# SPDX-License-Identifier: GPL-3.0-or-later
# For ./run and ./test: messages and the installing of packages.
say() { printf '== %s\n' "$*"; }

# deps_install LIST...: installs what data/deps/LIST.txt names and this system lacks.
deps_install() {
    local list package missing=()
    for list in "$@"; do
        while read -r package; do
            [ -z "$package" ] && continue
            [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
        done <"data/deps/$list.txt"
    done
    [ ${#missing[@]} = 0 ] && return
    local become=()
    if [ "$(id -u)" != 0 ]; then
        command -v sudo >/dev/null || {
            echo "These packages are missing, and there is no sudo to install them: ${missing[*]}" >&2
            exit 1
        }
        become=(sudo)
    fi
    say "installing ${#missing[@]} packages: ${missing[*]}"
    local quiet=(-qq -o Dpkg::Use-Pty=0)
    "${become[@]}" apt-get update -qq || true
    "${become[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y "${quiet[@]}" --no-install-recommends \
        "${missing[@]}" >/dev/null || {
        echo "Installing packages failed: ${missing[*]}" >&2
        exit 1
    }
}
