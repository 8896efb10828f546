"""Finding the fetch child of this process, to watch or to kill it."""

from __future__ import annotations

import os
from pathlib import Path


def fetch_child() -> int:
    """Its process id; 0 when there is none."""
    for entry in Path("/proc").iterdir():
        try:
            if not entry.name.isdigit() or b"gitsyncd.edges.git.fetch" not in (entry / "cmdline").read_bytes():
                continue
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        if parent == os.getpid():
            return int(entry.name)
    return 0
