"""A branch that policies write to: read for their marks, and written to, one at a time.

Does not belong here: when that is done, and what is told of it (`update_loop`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import field
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from gitsyncd.model.errors import ManifestInvalid
from gitsyncd.model.image import QUARANTINE_FILE, Mark, Quarantined
from gitsyncd.model.immutable import immutable

if TYPE_CHECKING:
    from collections.abc import Callable

    from gitsyncd.engine.ports import Clock, FileEditor, Writer
    from gitsyncd.model.update import Proposal, Tip, Update, Written

_FRESH_S = 2.0
"""What was read so lately is not read again: policies that look at the same time share it."""


@immutable
class Sight:
    """What a branch has for policies, as of one commit."""

    commit: str = ""
    marks: Mapping[str, Sequence[tuple[str, Mark]]] = field(default_factory=dict)
    """By policy: file and mark."""
    quarantined: Sequence[Quarantined] = ()
    problems: Sequence[ManifestInvalid] = ()
    """Files that cannot be read and marks that cannot be followed: all of them are left alone."""


_Marked = tuple[Sequence[Mark], Sequence[ManifestInvalid]]


class MarkedBranch:
    """What an update reads, and writes to."""

    def __init__(self, update: Update, writer: Writer, editor: FileEditor, *, clock: Clock) -> None:
        self.update = update.name
        self.seen = Sight()
        """At the last look."""
        self.late: Callable[[Written], None] = lambda _: None
        """Told of what was pushed before and turns out to have arrived."""
        self._update = update
        self._writer = writer
        self._editor = editor
        self._clock = clock
        self._busy = asyncio.Lock()
        self._read_at = -_FRESH_S
        self._known: dict[str, tuple[bytes, _Marked]] = {}
        """By file: a digest of its content, and what was found in it."""

    async def sight(self) -> Sight:
        """What the branch has now. Raises `SourceError`."""
        async with self._busy:
            if self._clock.monotonic() - self._read_at >= _FRESH_S:
                await self._ask(self._only_look, unless=self.seen.commit)
                self._read_at = self._clock.monotonic()
            return self.seen

    async def write(
        self, propose: Callable[[Tip], Proposal | None], ready: Callable[[], bool] = lambda: True
    ) -> Written | None:
        """See the port `Writer`. What is written is not seen before the next `sight`."""
        async with self._busy:
            written = await self._ask(propose, ready=ready, onto=self._update.push_branch)
        if written is not None:
            self._read_at = -_FRESH_S
        return written

    async def _ask(self, propose: Callable[[Tip], Proposal | None], **how: Any) -> Written | None:
        """Never what is late."""
        update = self._update
        while True:
            written = await self._writer.write(propose, branch=update.branch, paths=update.paths, **how)
            if written is None or not written.late:
                return written
            self.late(written)

    def of(self, tip: Tip) -> Sight:
        """What this tip has. Marks of files that did not change since the last time are not looked for again."""
        marks: dict[str, list[tuple[str, Mark]]] = {}
        problems: list[ManifestInvalid] = []
        known = {}
        for file, content in sorted(tip.files.items()):
            if file == QUARANTINE_FILE:
                continue
            digest = sha256(content).digest()
            before = self._known.get(file)
            found = before[1] if before and before[0] == digest else self._marked(file, content)
            known[file] = (digest, found)
            problems += found[1]
            for mark in found[0]:
                marks.setdefault(mark.policy, []).append((file, mark))
        self._known = known
        content = tip.files.get(QUARANTINE_FILE, b"")
        # A file that says what must not come back and cannot be read stops everything: its error is raised.
        quarantined = self._editor.quarantined(QUARANTINE_FILE, content).images if content else ()
        return Sight(commit=tip.commit, marks=marks, quarantined=quarantined, problems=problems)

    def _marked(self, file: str, content: bytes) -> _Marked:
        try:
            return self._editor.marks(file, content)
        except ManifestInvalid as error:
            return (), (error,)

    def _only_look(self, tip: Tip) -> None:
        self.seen = self.of(tip)
