#!/bin/sh
# Makes .venv: everything in requirements/dev.txt, checked by hash, and gitsyncd itself as an editable install.
# Needs Python 3.11 or newer with venv, and git. Quick when nothing changed: the stamp holds a digest of all inputs.
# PYTHON=/path/to/python picks the interpreter; ROOT/.venv is the only thing written, and bytecode.
set -eu
cd "$(dirname "$0")/.."

venv=.venv
stamp=$venv/.gitsyncd-env        # what is installed: a digest of content, so a checkout or a touch reinstalls nothing
origin=$venv/.gitsyncd-origin    # what it was made of and where: it works nowhere else
key=$(cat requirements/dev.txt pyproject.toml scripts/env.sh | git hash-object --stdin)

ours() { # without PYTHON any interpreter that was chosen before will do
    [ -x $venv/bin/python ] && [ -f $origin ] || return 1
    { read -r made_in && read -r made_with; } <$origin
    [ "$made_in" = "$PWD" ] && [ "${PYTHON:-$made_with}" = "$made_with" ]
}
fresh() { ours && [ "$(cat $stamp 2>/dev/null)" = "$key" ]; }

# Some environments have Python keep no bytecode (PYTHONDONTWRITEBYTECODE), containers most of all. Every daemon and command
# that a test starts would compile the program anew then: 0.67 s in place of 0.48 s for importing it, in turn on one day.
# No more than a courtesy: a file that does not compile is told by what uses it.
compiled() { $venv/bin/python -m compileall -q gitsyncd >/dev/null 2>&1 || true; }

if fresh; then compiled; exit 0; fi

say() { printf 'env: %s\n' "$*" >&2; }

usable() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }
find_python() {
    if [ -n "${PYTHON:-}" ]; then
        if usable "$PYTHON"; then echo "$PYTHON"; return; fi
        say "PYTHON=$PYTHON is not a Python 3.11 or newer with the venv and ensurepip modules"
        say "fix: name another one, for example: make env PYTHON=python3.12"
        exit 1
    fi
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if usable "$candidate"; then echo "$candidate"; return; fi
    done
    say "found no Python 3.11 or newer with the venv and ensurepip modules; python3 is $(python3 --version 2>&1 || true)"
    say "fix: install one (on Debian and Ubuntu: apt install python3 python3-venv), or name one: make env PYTHON=/path/to/python3.12"
    exit 1
}

# Two makes in one folder (an editor and a person) must not install over each other.
if command -v flock >/dev/null 2>&1; then
    exec 9>.venv.lock
    if ! flock -n 9; then
        say "another make is making $venv; waiting for it"
        flock 9
    fi
    if fresh; then compiled; exit 0; fi
fi

if ours; then python=$made_with; else python=$(find_python); fi
say "making $venv with $("$python" --version) ($python); the first time takes about a minute"
rm -f $stamp
if ! { ours && usable $venv/bin/python; }; then
    rm -rf $venv
    "$python" -m venv $venv
    printf '%s\n' "$PWD" "$python" >$origin
fi

# pip and not uv: it is what every Python brings, and it follows the user's own index and proxy settings.
$venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input --require-hashes -r requirements/dev.txt
# The build backend comes from the hash-checked set above, so building needs nothing else.
$venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input --no-deps --no-index --no-build-isolation --editable .

compiled
printf '%s\n' "$key" >$stamp
say "done"
