#!/bin/sh
# Writes requirements/runtime.txt and requirements/dev.txt: exact versions with hashes, for every platform and every
# Python that pyproject.toml allows, naming no registry, so that mirrors and closed networks work as they are.
# Versions already pinned stay; -P NAME moves one package, -U all.
set -eu
cd "$(dirname "$0")/.."

compile() {
    out=$1
    shift
    # Without the user's own find-links: they would end up in the file.
    env -u PIP_FIND_LINKS -u UV_FIND_LINKS .venv/bin/uv pip compile --quiet --no-config \
        --generate-hashes --universal --python-version 3.11 \
        --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
        --output-file "$out" "$@"
}

compile requirements/runtime.txt pyproject.toml "$@"
compile requirements/dev.txt pyproject.toml requirements/dev.in --constraints requirements/runtime.txt "$@"
git --no-pager diff --stat -- requirements
