"""A Git server, whatever it is reached by: what is asked, what its answers mean, and how much of them is taken.

How the bytes get there and back is each transport's own: `http`, `ssh`. Neither looks at anything of the environment.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from gitsyncd.edges.git.caps import Caps, in_words
from gitsyncd.edges.git.pktline import (
    Advertisement,
    HeadList,
    PackAnswer,
    PacketReader,
    ProtocolViolation,
    PushAnswer,
    push_request,
)
from gitsyncd.model.address import redacted
from gitsyncd.model.errors import PushRefused, RevisionNotFound, SourceTooLarge, SourceUnreachable
from gitsyncd.model.immutable import immutable
from gitsyncd.model.source import Repository

_ANSWER_BYTES = 64 << 20
"""Of one list of refs. Some 700,000 of them; protocol 2 sends the wanted ones only."""

_RACE = re.compile(
    r"fetch first|non-fast-forward|failed to update ref|cannot lock ref|failed to lock|unable to lock|stale info"
    r"|already exists|but expected|incorrect old value|has been updated|remote ref updated",
    re.IGNORECASE,
)
"""How servers say that somebody was faster: git's receive-pack (builtin/receive-pack.c, refs.c) and the forges."""
_REMARKS = 300

RECEIVE = "git-receive-pack"
"""What takes pushes; what is fetched comes from `git-upload-pack`."""


@immutable
class Move:
    """One branch, from the commit that it has to one that stands on it."""

    branch: str
    old: str
    """Empty where the branch is not there yet."""
    new: str


class LostRace(Exception):
    """The branch is not, or no longer, where the move begins. Never leaves this package."""


Write = Callable[[bytes], Awaitable[None]]


class Remote(ABC):
    """Conversations with one repository of one server. Not for use by two tasks at a time."""

    def __init__(self, repository: Repository, *, agent: str, caps: Caps) -> None:
        self.shown = redacted(repository.url)
        self._repository = repository
        self._agent = agent
        # In Git's own protocol a capability is one word.
        self._product = agent.split(" ", maxsplit=1)[0]
        self._caps = caps

    @abstractmethod
    async def close(self) -> None:
        """End connections."""

    @abstractmethod
    async def heads(self, branches: Sequence[str]) -> dict[str, str]:
        """Commits of those branches that exist. Raises `SourceError`."""

    @abstractmethod
    async def download(self, wants: Sequence[str], haves: Sequence[str], write: Write) -> None:
        """The pack with all that `wants` need and `haves` do not, given to `write` in pieces. After `heads`.

        Raises `SourceError`, and what `write` raises, which must be no `OSError`.
        """

    @abstractmethod
    async def push(self, move: Move, pack: bytes) -> None:
        """Ask the remote to move a branch; `pack` holds what it lacks.

        Raises `LostRace`, `PushRefused`, `SourceError`: after `SourceUnreachable` it may have been moved all the same.
        """

    def _begun(self, advertisement: Advertisement, move: Move) -> tuple[bytes, PushAnswer]:
        """The request, and what reads its answer. Raises `LostRace` where the server is somewhere else already."""
        self._refuse_format(advertisement)
        if advertisement.heads.get(move.branch, "") != move.old:
            raise LostRace("the branch has moved")
        if "report-status" not in advertisement.capabilities:
            raise PushRefused(f"{self.shown} does not report what becomes of a push", hint="Use a server of our time.")
        request = push_request(
            move.branch, move.old, move.new, capabilities=advertisement.capabilities, agent=self._product
        )
        return request, PushAnswer(side_band="side-band-64k" in advertisement.capabilities)

    async def _read(self, chunks: AsyncIterator[bytes], reader: Advertisement | HeadList | PushAnswer) -> None:
        packets, received = PacketReader(), 0
        async for chunk in chunks:
            received += len(chunk)
            if received > _ANSWER_BYTES:
                raise SourceTooLarge(f"{self.shown} sent more than {in_words(_ANSWER_BYTES)} of refs")
            for packet in packets.feed(chunk):
                reader.take(packet)
        if not reader.complete:
            raise self._cut()

    async def _receive(self, chunks: AsyncIterator[bytes], answer: PackAnswer, write: Write) -> None:
        packets, received = PacketReader(), 0
        async for chunk in chunks:
            for packet in packets.feed(chunk):
                if packet == b"shallow-info\n":
                    raise self._shallow()
                piece = answer.take(packet)
                received += len(piece)
                if received > self._caps.pack_bytes:
                    raise self._too_much()
                if piece:
                    await write(piece)
        if not answer.complete:
            raise self._cut()

    def _refuse_format(self, advertisement: Advertisement) -> None:
        named = advertisement.capabilities.get("object-format", "sha1")
        if named != "sha1":
            raise RevisionNotFound(
                f"{self.shown} names objects by {named}, which is not supported",
                hint="Use a repository with SHA-1 object ids, which is Git's default.",
            )

    def _refuse_shallow(self, advertisement: Advertisement) -> None:
        if "is-shallow" in advertisement.capabilities:
            raise self._shallow()

    def _too_much(self) -> SourceTooLarge:
        return SourceTooLarge(
            f"{self.shown} sent more than {in_words(self._caps.pack_bytes)} for one fetch",
            hint="Repositories of manifests are smaller by far: give this one a repository of its own.",
        )

    def _shallow(self) -> RevisionNotFound:
        return RevisionNotFound(
            f"{self.shown} is a shallow clone, and ancestry needs the whole history",
            hint="Make it complete with `git fetch --unshallow` on the server.",
        )

    def _cut(self) -> SourceUnreachable:
        return SourceUnreachable(f"{self.shown}: the connection ended in the middle of the answer")

    def _misspoken(self, error: ProtocolViolation) -> SourceUnreachable:
        return SourceUnreachable(
            f"{self.shown} does not answer as a Git server: {error}", hint="Check `url` of this source."
        )


def judge(shown: str, answer: PushAnswer, move: Move) -> None:
    """What a report means. Raises `LostRace`, `PushRefused`."""
    if answer.moved and answer.unpacked == "ok":
        return
    said = answer.refused or answer.unpacked or "nothing of the branch"
    if _RACE.search(answer.refused):
        raise LostRace(said)
    remarks = " ".join(_printed(answer.remarks).split())
    raise PushRefused(
        f"{shown} does not take the commit for {move.branch}: {said}" + (f" ({remarks})" if remarks else "")
    )


def _printed(text: bytes) -> str:
    """What a server says to people, without what a terminal would obey; the first of it."""
    shown = "".join(sign if sign.isprintable() or sign.isspace() else "?" for sign in text.decode("utf-8", "replace"))
    return shown[:_REMARKS] + ("…" if len(shown) > _REMARKS else "")
