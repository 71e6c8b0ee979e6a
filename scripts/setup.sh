#!/bin/sh
# Make the virtual environment: sh scripts/setup.sh [--dev]; write uv.lock anew: --lock; print the interpreter: --find
#
#   PYTHON   the interpreter to use, or its version; without it the first that really works of 3.12 and 3.11
#   VENV     where the environment goes (.venv)
#
# Installs what uv.lock pins. Where uv or the locked files can't be had, pip resolves pyproject.toml instead and says so.
set -eu

# Never fetch an interpreter, and trust the certificates that the machine trusts, as pip does.
export UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=true

root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
venv=${VENV:-.venv}
tools=${XDG_CACHE_HOME:-$HOME/.cache}/drakkar-flow
dev=${1:-}
PYTHON=${PYTHON:-}

say() { printf '%s\n' "setup: $*" >&2; }

# The path of interpreter $1 if it is a CPython $2 that can make an environment. Running it is the only proof:
# the shims of version managers exist for versions that are not active, and fail.
probe() {
    "$1" -c '
import ensurepip, ssl, sys, venv
good = sys.implementation.name == "cpython" and "%d.%d" % sys.version_info[:2] == sys.argv[1]
print(getattr(sys, "_base_executable", sys.executable)) if good else sys.exit(1)' "$2" 2>/dev/null
}

candidates() {
    printf '%s\n' "python$1" python3 python \
        "${PYENV_ROOT:-$HOME/.pyenv}/versions/$1".*/bin/"python$1" \
        "$HOME/.asdf/installs/python/$1".*/bin/"python$1" \
        "$HOME/.local/share/mise/installs/python/$1".*/bin/"python$1" \
        "$HOME/.local/share/uv/python/cpython-$1".*/bin/"python$1" \
        "/usr/local/bin/python$1" "/usr/bin/python$1" "/opt/homebrew/bin/python$1"
}

find_python() {
    case $PYTHON in 3.1[12]) versions=$PYTHON PYTHON= ;; *) versions='3.12 3.11' ;; esac
    for version in $versions; do
        if [ -n "$PYTHON" ]; then
            probe "$PYTHON" "$version" && return
        else
            candidates "$version" | while IFS= read -r candidate; do
                probe "$candidate" "$version" && break
            done | grep . && return
        fi
    done
    say "no working Python ${versions}${PYTHON:+ at $PYTHON} (tried by running each one with venv, ensurepip and ssl)."
    say "Remedy: 'apt-get install python3 python3-venv' or 'pyenv install 3.12'; or name one: make setup PYTHON=/path/to/python3.12"
    exit 1
}

# A uv of our own, outside the environment because uv removes from there what the lock does not name.
find_uv() {
    for uv in uv "$tools/uv/bin/uv"; do
        "$uv" --version >/dev/null 2>&1 && echo "$uv" && return
    done
    rm -rf "$tools/uv"
    "$python" -m venv "$tools/uv" && "$tools/uv/bin/python" -m pip install --quiet "uv>=0.9" >&2 && echo "$tools/uv/bin/uv"
}

with_uv() {
    uv=$(find_uv) || return 1
    # --inexact: the runtime alone (make demo) must not take the tools of an earlier 'make setup' away.
    if [ -n "$dev" ]; then set -- --group dev --all-extras; else set -- --no-dev --inexact; fi
    UV_PROJECT_ENVIRONMENT=$venv "$uv" sync --frozen --quiet --python "$python" "$@"
}

with_pip() {
    say "uv sync did not work here: pip resolves pyproject.toml, versions may differ from uv.lock"
    "$python" -m venv --clear "$venv"
    "$venv/bin/python" -m pip install --quiet --upgrade "pip>=25.1"
    "$venv/bin/python" -m pip install --quiet --editable ".${dev:+[all]}" ${dev:+--group dev}
}

python=$(find_python)
if [ "$dev" = --find ]; then echo "$python" && exit; fi
if [ "$dev" = --lock ]; then
    # The lock is for everybody: what this machine's settings say about indexes must not get into it.
    exec env -u UV_INDEX -u UV_INDEX_URL -u UV_DEFAULT_INDEX -u UV_EXTRA_INDEX_URL -u UV_FIND_LINKS \
        "$(find_uv)" lock --no-config --python "$python"
fi
say "$("$python" -V) at $python"
with_uv || with_pip
"$venv/bin/python" -c 'import drakkar_flow'
touch "$venv/.runtime"
if [ -n "$dev" ]; then touch "$venv/.dev"; fi
say "ready: $venv"
