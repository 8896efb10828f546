"""Which agent file a command goes by, and reading it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from gitsyncd.cli.output import WRONG
from gitsyncd.model.errors import ConfigError

if TYPE_CHECKING:
    import argparse

    from gitsyncd.model.target import Configuration

DEFAULT_CONFIG = "/etc/gitsyncd/gitsyncd.yaml"


def agent_file(options: argparse.Namespace) -> Path:
    return Path(options.config or os.environ.get("GITSYNCD_CONFIG") or DEFAULT_CONFIG)


def load(options: argparse.Namespace, *, opened: bool = True) -> Configuration:
    """`opened`: with the credentials that it names. Raises `ConfigError`."""
    from gitsyncd.edges.config import QUICK

    for name, value in QUICK.items():
        os.environ.setdefault(name, value)
    from gitsyncd.edges.config.load import load as load_file

    if opened:
        from gitsyncd.edges.child.launch import forbid_core_dumps

        forbid_core_dumps()
    try:
        return load_file(agent_file(options), os.environ, opened=opened)
    except ConfigError:
        options.failure = WRONG
        raise
