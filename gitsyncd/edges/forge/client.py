"""One repository of a forge: the request from one branch to another, found, opened, brought up to date, closed.

What is open is asked of the forge each time and never remembered, so that there is one request whatever happened
before. The token goes to the forge's own address alone, over TLS, and redirects are not followed. How each forge wants
to be asked is `dialects`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from gitsyncd.edges.forge.dialects import DIALECTS, Ask, Gitea, Opened
from gitsyncd.edges.forge.talk import Talk
from gitsyncd.model.address import SshAddress, is_ssh
from gitsyncd.model.errors import ConfigError, ForgeRefused, ForgeUnreachable
from gitsyncd.model.update import MergeRequest, PullRequest

_MOST: Final = 1000
"""Requests, or labels, that are looked through for the one that is meant."""
_PUBLIC_GITHUB: Final = "github.com"


class ForgeClient:
    """Satisfies the engine's `MergeRequests`."""

    def __init__(self, url: str, access: PullRequest, *, ca_file: Path | None, timeout: timedelta, agent: str) -> None:
        """`url` is the repository's, as Git has it. Raises `ConfigError` for one that is on no forge."""
        self._origin, project = _place(url)
        self._dialect = DIALECTS[access.forge](project)
        self._base = f"{self._origin}{self._dialect.api}"
        if self._origin == f"https://{_PUBLIC_GITHUB}":
            self._base = f"https://api.{_PUBLIC_GITHUB}"
        self._token_file = access.token_file
        self._ca_file = ca_file
        self._timeout = timeout
        self._agent = agent
        self._shown = urlsplit(self._base).netloc

    async def ensure(self, request: MergeRequest) -> str:
        """See the port."""
        async with self._talking() as talk:
            opened = await self._find(talk, request.head, request.base)
            if opened is None:
                opened = self._one(await talk.ask(self._dialect.create(request)), request.head, request.base)
            elif (opened.title, opened.body.replace("\r\n", "\n")) != (request.title, request.body):
                await talk.ask(self._dialect.change(opened.number, request))
            missing = [label for label in request.labels if label not in opened.labels]
            if missing:
                await self._label(talk, opened.number, missing)
            return opened.url

    async def withdraw(self, head: str, base: str, reason: str) -> bool:
        """See the port."""
        async with self._talking() as talk:
            opened = await self._find(talk, head, base)
            if opened is None:
                return False
            await talk.ask(self._dialect.comment(opened.number, reason))
            await talk.ask(self._dialect.close(opened.number))
            return True

    async def _find(self, talk: Talk, head: str, base: str) -> Opened | None:
        async for item in self._listed(talk, lambda page: self._dialect.find(head, base, page), "open requests"):
            if (opened := self._maybe(item, head, base)) is not None:
                return opened
        return None

    async def _listed(self, talk: Talk, ask: Callable[[int], Ask], what: str) -> AsyncIterator[Any]:
        """The items of all pages. A server may keep them shorter than was asked for: only an empty one is the end."""
        seen = 0
        for page in count(1):
            items = await talk.ask(ask(page))
            if not isinstance(items, list):
                raise self._misspoken()
            if not items:
                return
            for item in items:
                yield item
            seen += len(items)
            if seen > _MOST:
                raise ForgeRefused(
                    f"{self._shown} lists more than {_MOST:,} {what}", hint="Remove those that nobody needs any more."
                )

    def _one(self, item: Any, head: str, base: str) -> Opened:
        opened = self._maybe(item, head, base)
        if opened is None:
            raise self._misspoken()
        return opened

    def _maybe(self, item: Any, head: str, base: str) -> Opened | None:
        try:
            return self._dialect.found(item, head, base)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._misspoken() from error

    async def _label(self, talk: Talk, number: int, labels: Sequence[str]) -> None:
        if isinstance(self._dialect, Gitea):
            numbers = await self._label_numbers(talk, self._dialect, labels)
            await talk.ask(self._dialect.label_numbers(number, numbers))
        elif (ask := self._dialect.label(number, labels)) is not None:
            await talk.ask(ask)

    async def _label_numbers(self, talk: Talk, dialect: Gitea, labels: Sequence[str]) -> list[int]:
        """Of the labels that there are, and of new ones for those that there are not."""
        known: dict[str, int] = {}
        try:
            async for item in self._listed(talk, dialect.all_labels, "labels"):
                known[str(item["name"])] = int(item["id"])
            for label in labels:
                if label not in known:
                    known[label] = int((await talk.ask(dialect.new_label(label)))["id"])
        except (KeyError, TypeError, ValueError) as error:
            raise self._misspoken() from error
        return [known[label] for label in labels]

    def _misspoken(self) -> ForgeUnreachable:
        return ForgeUnreachable(
            f"{self._shown} does not answer as such a forge does", hint="Check `pull_request.host` of the update."
        )

    def _talking(self) -> Talk:
        return Talk(
            self._base,
            self._shown,
            token_file=self._token_file,
            headers=self._dialect.headers,
            ca_file=self._ca_file,
            timeout=self._timeout,
            agent=self._agent,
        )


def _place(url: str) -> tuple[str, str]:
    """The forge's address over HTTPS, and the repository's path there. Raises `ConfigError`."""
    if is_ssh(url):
        address = SshAddress.parse(url)
        # The port is SSH's, and says nothing of the web server's.
        host, path = f"[{address.host}]" if ":" in address.host else address.host, address.path
    else:
        parts = urlsplit(url)
        if parts.scheme != "https":
            raise ConfigError(
                "a pull request needs a repository on a forge", hint="Remove `pull_request`, or use an https:// source."
            )
        host, path = parts.netloc.rpartition("@")[2], parts.path
    project = path.strip("/").removesuffix(".git")
    if "/" not in project:
        raise ConfigError("the address names no repository of a forge", hint="Write it with owner and name.")
    return f"https://{host}", project
