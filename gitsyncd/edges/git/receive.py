"""Pushing to a repository on this machine (`file://`): by `git receive-pack`, as git itself does it.

Its hooks, its locks, and what its configuration says of pushes are all honoured that way; they are the repository's own
word on who may change it. Fetching needs no git program (`local`, `export`).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

from gitsyncd.edges.child.command import Limits
from gitsyncd.edges.child.process import Ending, run_child
from gitsyncd.edges.git.local import find, heads
from gitsyncd.edges.git.pktline import PacketReader, ProtocolViolation, PushAnswer, printable, push_request
from gitsyncd.edges.git.remote import LostRace, Move, judge
from gitsyncd.model.errors import PushRefused, SourceUnreachable

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CAPABILITIES = {"report-status": "", "side-band-64k": ""}
"""Of every git since version 1.6."""
_LIMITS = Limits(memory_bytes=1 << 40, cpu_seconds=600, file_bytes=1 << 40, open_files=4096, network=True)
"""Hooks are programs of the repository's owner and may need anything; the deadline holds for them, too."""
_ANSWER_BYTES = 1 << 20


class LocalRemote:
    """Takes pushes; nothing is kept open."""

    def __init__(self, path: Path, *, shown: str, agent: str, timeout: timedelta) -> None:
        self._path = path
        self._shown = shown
        self._agent = agent.split(" ", maxsplit=1)[0]
        self._timeout = timeout

    async def push(self, move: Move, pack: bytes) -> None:
        """Raises `LostRace`, `PushRefused`, `SourceUnreachable`, `LocalError`."""
        git = shutil.which("git", path=_PATH)
        if git is None:
            raise PushRefused(
                f"{self._shown}: pushing to a local repository needs the program git, which is not installed",
                hint="Install git on the agent's machine, or reach the repository over https:// or ssh://.",
            )
        repository = find(self._path)
        if heads(repository, [move.branch]).get(move.branch, "") != move.old:
            raise LostRace("the branch has moved")
        request = push_request(move.branch, move.old, move.new, capabilities=_CAPABILITIES, agent=self._agent)
        result = await run_child(
            [git, "receive-pack", "--stateless-rpc", str(repository.git_dir)],
            limits=_LIMITS,
            deadline=self._timeout,
            max_output=_ANSWER_BYTES,
            stdin=_pieces(request, pack),
            env={"PATH": _PATH},
        )
        if result.ending is Ending.TIMED_OUT:
            raise SourceUnreachable(f"{self._shown}: the push was not over in time")
        answer = PushAnswer(side_band=True)
        try:
            packets = PacketReader()
            for packet in packets.feed(result.stdout):
                answer.take(packet)
        except ProtocolViolation as error:
            raise SourceUnreachable(
                f"{self._shown}: git receive-pack answers in no way that is known: {error}"
            ) from error
        if not answer.complete:
            said = printable(result.stderr_tail.strip(), 300)
            raise PushRefused(
                f"{self._shown}: git receive-pack ended with {result}: {said}",
                hint="Check that the agent's user owns the repository and may write to it.",
            )
        judge(self._shown, answer, move)

    async def close(self) -> None:
        """Nothing is open."""


def _pieces(*parts: bytes) -> Iterator[bytes]:
    yield from parts
