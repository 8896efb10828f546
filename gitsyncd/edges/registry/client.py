"""What one registry has: the tags of a repository, what stands behind one of them, and documents by their digest.

Lists that go round in circles are noticed, and what has a digest is checked against it. What is known of a digest is
not asked for again: a tag costs a HEAD as long as it stands for the same image. That matters on Docker Hub, which
counts GETs of manifests and no HEADs (docs.docker.com/docker-hub/usage/pulls).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Container, Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Final
from urllib.parse import urljoin

from gitsyncd.core.reference import ImageName, is_digest, is_tag
from gitsyncd.edges.registry import answers
from gitsyncd.edges.registry.answers import Config, Index, Misspoken, Referrer
from gitsyncd.edges.registry.connection import NOT_FOUND, Answer, Connection, Pause, Reach
from gitsyncd.edges.registry.recent import Recent
from gitsyncd.model.errors import ImageNotFound, RegistryError
from gitsyncd.model.image import Found
from gitsyncd.model.immutable import immutable

MAX_TAGS: Final = 100_000
MAX_PAGES: Final = 1000
_PAGE: Final = 1000
_LIST_BYTES: Final = 16 << 20
_DOCUMENT_BYTES: Final = 4 << 20
"""The limit that distribution-spec names for manifests; configurations stay far below it."""
_MAX_KNOWN: Final = 10_000
"""Images that are remembered by digest, at some 700 bytes each: five policies that look at all of 2,000 tags."""
_MAX_KEPT: Final = 64
_KEPT_BYTES: Final = 64 << 10
"""Of documents beside images, such as signatures: at most 4 MiB in all."""
_NO_HEAD: Final = frozenset({200, 400, 404, 405, 501})
"""Answers to a HEAD, without a digest, of registries and proxies that know GET alone. A 503 is of the moment."""
_NO_IMAGE: Final = frozenset({404, 410, 412, 451})
"""Of one image that is not there, or not handed out: Harbor says 412 of those that its rules forbid to pull."""
_NO_REFERRERS: Final = frozenset({400, 404, 405, 406, 501})
"""Of registries that keep no list of referrers, as go-containerregistry takes them, and cosign with it."""
_ASKED_FIRST: Final = ("linux/amd64", "linux/arm64")
"""Of an index, whose images say when they were made; no other is any better or worse."""


@immutable
class Document:
    """A manifest as it is, proven by its digest."""

    digest: str
    type: str
    body: bytes


@immutable
class _Told:
    """What a HEAD told of a tag."""

    digest: str = ""
    """Empty where only a GET can tell."""
    is_gone: bool = False
    """Of a registry that has answered HEAD before: others say 404 to every HEAD."""
    is_helpless: bool = False
    """No HEAD is known to this registry, if a GET fares better."""


class Registry:
    """Questions to one registry. Several tasks may ask at a time."""

    def __init__(self, server: str, reach: Reach, *, agent: str, pause: Pause | None = None) -> None:
        """`server` as in `ImageName.server`; `agent` is what it calls itself."""
        self._connection = Connection(server, reach, agent=agent, pause=pause)
        self._known: Recent[Found] = Recent(_MAX_KNOWN)
        """By repository, digest and the platforms that were preferred; without a tag."""
        self._kept: Recent[Document] = Recent(_MAX_KEPT)
        self._heads: bool | None = None
        """Whether this registry answers HEAD as it answers GET; None until it has shown."""

    async def close(self) -> None:
        """End connections, and read certificates afresh at the next question."""
        await self._connection.close()

    async def tags(self, name: ImageName) -> list[str]:
        """All tags of the repository, in the registry's order. Raises `RegistryError`."""
        found: dict[str, None] = {}
        async with aclosing(self._pages(name, f"tags/list?n={_PAGE}", "list of tags")) as pages:
            async for page in pages:
                with _understanding(name):
                    found.update(dict.fromkeys(answers.tags(page.body)))
                if len(found) > MAX_TAGS:
                    raise RegistryError(
                        f"{name} has more than {MAX_TAGS:,} tags",
                        hint="Delete old ones on the registry; no list so long is read.",
                    )
        return list(found)

    async def look(self, name: ImageName, tag: str, *, prefer: tuple[str, ...] = ()) -> Found | None:
        """What a tag stands for now; None when there is no such tag. `prefer`: platforms whose image is asked first.

        Raises `RegistryError`.
        """
        if not is_tag(tag):
            return None
        told = await self._told(name, tag)
        if told.is_gone:
            return None
        if (known := self._known.get(name.repository, told.digest, *prefer)) is not None:
            return replace(known, tag=tag)
        document = await self._document(name, tag, told)
        if document is None:
            return None
        found = self._known.get(name.repository, document.digest, *prefer)
        if found is None:
            found = await self._found(name, document, prefer)
            self._known.put(found, name.repository, found.digest, *prefer)
        return replace(found, tag=tag)

    async def manifest(self, name: ImageName, reference: str) -> Document | None:
        """The manifest of a tag or a digest; None where there is none. Raises `RegistryError`."""
        told = _Told(digest=reference) if is_digest(reference) else await self._told(name, reference)
        if told.is_gone:
            return None
        if (kept := self._kept.get(name.repository, told.digest)) is not None:
            return kept
        document = await self._document(name, reference, told)
        if document is not None and len(document.body) <= _KEPT_BYTES:
            self._kept.put(document, name.repository, document.digest)
        return document

    async def blob(self, name: ImageName, digest: str, most: int) -> bytes | None:
        """What has that digest, of at most so many bytes; None where it is not there. Raises `RegistryError`."""
        if (kept := self._kept.get(name.repository, digest)) is not None:
            return kept.body
        try:
            answer = await self._connection.get(name, self._address(name, "blobs", digest), most)
        except ImageNotFound:
            return None
        with _understanding(name):
            body = answers.proven(answer.body, digest)
        if len(body) <= _KEPT_BYTES:
            self._kept.put(Document(digest=digest, type="", body=body), name.repository, digest)
        return body

    async def referrers(self, name: ImageName, digest: str) -> list[Referrer] | None:
        """What says that it belongs to that digest; None where no such list is kept. Raises `RegistryError`."""
        found: list[Referrer] = []
        listing = self._pages(
            name, f"referrers/{digest}", "list of referrers", accept=answers.INDEXES[0], absent=_NO_REFERRERS
        )
        try:
            async with aclosing(listing) as pages:
                async for page in pages:
                    if page.type not in answers.INDEXES:
                        return None
                    with _understanding(name):
                        found += answers.referrers(page.body)
                    if len(found) > MAX_TAGS:
                        raise RegistryError(f"{name} has more than {MAX_TAGS:,} referrers", hint="Delete old ones.")
        except ImageNotFound:
            return None
        return found

    # --- what stands behind a tag --------------------------------------------------------------------------------

    async def _told(self, name: ImageName, tag: str) -> _Told:
        """What a HEAD tells, which is no GET."""
        if self._heads is False:
            return _Told()
        address = self._address(name, "manifests", tag)
        status, headers = await self._connection.head(name, address, accept=answers.ACCEPTED)
        said = headers.get("Docker-Content-Digest", "")
        if status == 200 and is_digest(said):
            self._heads = True
            return _Told(digest=said)
        if self._heads:
            return _Told(is_gone=status == 404)
        return _Told(is_helpless=status in _NO_HEAD)

    async def _document(self, name: ImageName, reference: str, told: _Told) -> Document | None:
        """By GET."""
        address = self._address(name, "manifests", reference)
        try:
            answer = await self._connection.get(
                name, address, _DOCUMENT_BYTES, accept=answers.ACCEPTED, absent=_NO_IMAGE
            )
        except ImageNotFound:
            return None
        if told.is_helpless:
            self._heads = False
        said = reference if is_digest(reference) else answer.headers.get("Docker-Content-Digest", "")
        with _understanding(name):
            digest = said if is_digest(said) else answers.digest_of(answer.body)
            return Document(digest=digest, type=answer.type, body=answers.proven(answer.body, digest))

    async def _found(self, name: ImageName, document: Document, prefer: tuple[str, ...]) -> Found:
        with _understanding(name):
            image = answers.image(document.body, document.type)
        if isinstance(image, Index):
            config = await self._config_of(name, image, prefer)
            platforms = frozenset(image.platforms)
        else:
            config = await self._config(name, image.config)
            platforms = frozenset({config.platform} - {""})
        return Found(
            tag="",
            digest=document.digest,
            created=config.created if config is not None else None,
            platforms=platforms,
            made_from=answers.origin(config.labels if config is not None else {}, image.annotations),
        )

    async def _config_of(self, name: ImageName, index: Index, prefer: tuple[str, ...]) -> Config | None:
        for platform in (*prefer, *_ASKED_FIRST, *sorted(index.platforms)):
            if (digest := index.platforms.get(platform)) is not None:
                body = await self._content(name, "manifests", digest)
                with _understanding(name):
                    image = answers.image(body, "")
                    if isinstance(image, Index):
                        raise Misspoken("an index of its names another index")
                return await self._config(name, image.config)
        return None

    async def _config(self, name: ImageName, digest: str) -> Config:
        body = await self._content(name, "blobs", digest)
        with _understanding(name):
            return answers.config(body)

    # --- documents -----------------------------------------------------------------------------------------------

    async def _content(self, name: ImageName, what: str, digest: str, most: int = _DOCUMENT_BYTES) -> bytes:
        """What has that digest. Raises `RegistryError` where it is not there although the registry names it."""
        try:
            answer = await self._connection.get(name, self._address(name, what, digest), most, accept=answers.ACCEPTED)
        except ImageNotFound as error:
            raise RegistryError(
                f"{name}: {what} {digest[:19]}… is named and not there", hint="Push the image again."
            ) from error
        with _understanding(name):
            return answers.proven(answer.body, digest)

    async def _pages(
        self,
        name: ImageName,
        tail: str,
        what: str,
        *,
        accept: str = "application/json",
        absent: Container[int] = NOT_FOUND,
    ) -> AsyncGenerator[Answer]:
        """Every page of a list. Raises `RegistryError`, also for one without end."""
        address = f"{self._connection.base}/v2/{name.repository}/{tail}"
        seen = set()
        for _ in range(MAX_PAGES):
            seen.add(address)
            answer = await self._connection.get(name, address, _LIST_BYTES, accept=accept, absent=absent)
            yield answer
            following = answers.next_page(answer.links)
            if not following:
                return
            address = urljoin(address, following)
            if not self._connection.is_own(address) or address in seen:
                break
        raise RegistryError(f"{name}: its {what} has no end", hint="Tell whoever runs the registry.")

    def _address(self, name: ImageName, what: str, reference: str) -> str:
        return f"{self._connection.base}/v2/{name.repository}/{what}/{reference}"


@contextmanager
def _understanding(name: ImageName) -> Iterator[None]:
    """What cannot be understood becomes an error that names the image."""
    try:
        yield
    except Misspoken as error:
        raise RegistryError(
            f"{name}: the registry cannot be understood: {error}",
            hint="Check that the image was pushed whole, and that this is a registry.",
        ) from error
