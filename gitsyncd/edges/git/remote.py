"""A Git server, whatever it is reached by: what is asked, what its answers mean, and how much of them is taken.

How the bytes get there and back is each transport's own: `http`, `ssh`. Neither looks at anything of the environment.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from gitsyncd.edges.git.caps import Caps, in_words
from gitsyncd.edges.git.pktline import Advertisement, HeadList, PackAnswer, PacketReader, ProtocolViolation
from gitsyncd.model.address import redacted
from gitsyncd.model.errors import RevisionNotFound, SourceTooLarge, SourceUnreachable
from gitsyncd.model.source import Repository

_ANSWER_BYTES = 64 << 20
"""Of one list of refs. Some 700,000 of them; protocol 2 sends the wanted ones only."""

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

    async def _read(self, chunks: AsyncIterator[bytes], reader: Advertisement | HeadList) -> None:
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
