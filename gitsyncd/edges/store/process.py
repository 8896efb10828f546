"""This process by a name that no other ever has, and whether the process behind such a name has ended.

A daemon that was killed and started again on the same machine need not wait for its own lease to expire. What is not
known for certain counts as alive: that costs a wait, and the opposite would let two daemons write.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

_PROC = Path("/proc")
_STARTED = 19
"""Place of a process's start among the fields behind its name, proc(5); in ticks since the machine started."""


def holder_name() -> str:
    """`host/pid/…`; the rest says which start of which machine, and which namespace of processes, is meant."""
    return f"{socket.gethostname()}/{os.getpid()}/{_started(os.getpid())}/{_place()}"


def has_ended(holder: str) -> bool:
    """Whether the process that called itself so is certainly over. False where that cannot be told from here."""
    parts = holder.rsplit("/", 3)
    if len(parts) != 4 or not parts[1].isdecimal() or not _place() or parts[3] != _place():
        return False
    pid, started = int(parts[1]), parts[2]
    try:
        # A signal that is none. Unlike /proc, it tells of processes of other users also where those are hidden.
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return bool(started) and _started(pid) not in {"", started}


def _place() -> str:
    """This start of this machine and this namespace of processes; empty where it cannot be told."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot}-{(_PROC / 'self/ns/pid').stat().st_ino}"
    except OSError:
        return ""


def _started(pid: int) -> str:
    try:
        fields = (_PROC / str(pid) / "stat").read_text("ascii", "replace").rpartition(")")[2].split()
        return fields[_STARTED]
    except (OSError, IndexError):
        return ""
