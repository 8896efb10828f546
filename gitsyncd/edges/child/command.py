"""How a child is started: what it may use up, and the command line that says so to `launch`.

Imports little: a daemon starts a child before anything else.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from gitsyncd.model.immutable import immutable


@immutable
class Limits:
    """What one child may use up."""

    memory_bytes: int
    """Of address space, which is more than what is resident: an empty Python counts some 30 MiB."""
    cpu_seconds: int
    file_bytes: int = 0
    """Of any one file that it writes; 0 for children that write none."""
    open_files: int = 64
    network: bool = False
    """Whether it keeps the machine's network. Without: a namespace with no interface, where the system allows one."""


def python_module(name: str, *args: str) -> tuple[str, ...]:
    """The `argv` of a child that imports the module `name` of ours and calls its `main(list(args))`."""
    return ("module", name, *args)


def command(argv: Sequence[str], limits: Limits) -> list[str]:
    """`argv` is `python_module(…)`, or an absolute program and its arguments."""
    spec = {
        "parent": os.getpid(),
        "memory_bytes": limits.memory_bytes,
        "cpu_seconds": limits.cpu_seconds,
        "file_bytes": limits.file_bytes,
        "open_files": limits.open_files,
        "network": limits.network,
    }
    work = argv if argv[0] == "module" else ["exec", *argv]
    return [sys.executable, "-I", "-m", "gitsyncd.edges.child.launch", json.dumps(spec), *work]
