"""What runs first in every child: give up rights, then become the work.

`python -I -m gitsyncd.edges.child.launch SPEC module NAME ARG…` imports a module of ours and calls its `main(args)`;
`… SPEC exec PROGRAM ARG…` becomes another program. SPEC is JSON, made by `gitsyncd.edges.child.command`.

Done here and not in a `preexec_fn`, which is not safe in a process with threads and forces a slow fork. Nothing is read
from outside before the limits stand. Imports stay few: the time to start is paid by every render.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

ORPHANED = 113
"""Exit code of a child whose parent was gone before it began."""
OUT_OF_MEMORY = 112
"""Exit code of a module of ours that met its limit of memory."""


def main(argv: list[str]) -> None:
    """Apply the limits of `argv[0]`, then run what `argv[1:]` names. Does not return for `exec`."""
    spec: Mapping[str, Any] = json.loads(argv[0])
    _die_with_parent(spec["parent"])
    _expect_the_memory_killer()
    if not spec["network"]:
        _leave_the_network()
    kind, name, *args = argv[1:]
    if kind == "module":
        # Our own code is imported before the limits, so that a limit never shows as a failing import.
        run = import_module(name).main
        _limit(spec)
        try:
            run(args)
        except MemoryError:
            os._exit(OUT_OF_MEMORY)
        return
    _limit(spec)
    # Python ignores these two; a program that it becomes must not inherit that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    os.execve(name, [name, *args], dict(os.environ))  # noqa: S606 - an argument list made by the parent, no shell


def forbid_new_descriptors() -> None:
    """From here on nothing can be opened: no file, no socket, no pipe. What is open stays usable.

    For children that only turn standard input into standard output. It also closes the network where no namespace of
    its own could be had (containers and units with `RestrictNamespaces`). Only root could lift it again.
    """
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def forbid_core_dumps() -> None:
    """No crash of this process, or of what it starts, writes its memory anywhere: Secrets and credentials are in it.

    1 and not 0: for a limit of 1 the kernel also refuses to pipe the dump to a program, which 0 does not prevent.
    """
    _lower(resource.RLIMIT_CORE, 1)


def _die_with_parent(parent: int) -> None:
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # The signal is armed from now on only: a parent that went before has to be noticed here.
    if os.getppid() != parent:
        os._exit(ORPHANED)


def _expect_the_memory_killer() -> None:
    """When the machine runs out of memory, this child goes before the daemon."""
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:  # noqa: PTH123 - pathlib costs 5 ms of start
            file.write("900")
    except OSError:
        pass  # no /proc: a courtesy less


def _leave_the_network() -> None:
    """Into a network namespace without interfaces, as root or by way of a user namespace.

    Where neither is allowed the child keeps the machine's network; it still has no credentials, and parsing children
    open no descriptor at all (`forbid_new_descriptors`).
    """
    libc = ctypes.CDLL(None)
    if libc.unshare(_CLONE_NEWNET) != 0:
        libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)


def _limit(spec: Mapping[str, Any]) -> None:
    forbid_core_dumps()
    _lower(resource.RLIMIT_AS, spec["memory_bytes"])
    _lower(resource.RLIMIT_CPU, spec["cpu_seconds"])
    _lower(resource.RLIMIT_FSIZE, spec["file_bytes"])
    _lower(resource.RLIMIT_NOFILE, spec["open_files"])


def _lower(limit: int, value: int) -> None:
    _, hard = resource.getrlimit(limit)
    if hard != resource.RLIM_INFINITY:
        value = min(value, hard)
    resource.setrlimit(limit, (value, value))


if __name__ == "__main__":
    main(sys.argv[1:])
