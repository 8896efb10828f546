"""Programs that print credentials: plugins of kubeconfigs, helpers of docker configurations.

Who may be run is listed in the agent file, and other files can only choose among those. They run without a shell, with
an environment of their own, a home of their own where they may keep a cache, a deadline, and a cap on what they answer.
What they write to standard error is never shown, since it may hold secrets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

from gitsyncd.edges.child.command import Limits
from gitsyncd.edges.child.process import ChildResult, run_child
from gitsyncd.model.errors import LocalError

DEADLINE: Final = timedelta(seconds=30)
MAX_OUTPUT_BYTES: Final = 2**20
PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Address space and not memory in use: Go and Node reserve a lot of it.
_LIMITS: Final = Limits(memory_bytes=16 * 2**30, cpu_seconds=30, file_bytes=64 * 2**20, open_files=512, network=True)


async def run_for_credentials(
    program: Path,
    args: Sequence[str],
    *,
    home: Path,
    env: Mapping[str, str],
    stdin: bytes = b"",
    subject: str = "",
    deadline: timedelta = DEADLINE,
) -> ChildResult:
    """Run it to its end. `home` is made if it is missing; `subject` is whom a failure to do so is about.

    Raises `LocalError`.
    """
    _make(home, subject)
    return await run_child(
        [str(program), *args],
        limits=_LIMITS,
        deadline=deadline,
        max_output=MAX_OUTPUT_BYTES,
        stdin=stdin,
        env={"PATH": PATH, "HOME": str(home), "LANG": "C.UTF-8", **env},
        cwd=home,
    )


def _make(home: Path, subject: str) -> None:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise LocalError(f"{home} cannot be made: {error.strerror}", subject=subject) from error
