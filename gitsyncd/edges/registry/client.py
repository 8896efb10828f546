"""One registry, asked over HTTPS: the tags of a repository, and what stands behind one of them.

Credentials go to the registry itself, and to the token server that it names over HTTPS; a redirect, as to where blobs
are kept, is followed without them. Everything that is read has a cap, lists that go round in circles are noticed, and
what has a digest is checked against it. Nothing of the environment is looked at.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urljoin, urlsplit

from gitsyncd.core.reference import ImageName, is_tag
from gitsyncd.edges.registry import answers
from gitsyncd.edges.registry.answers import Challenge, Config, Index, Misspoken
from gitsyncd.edges.registry.credentials import Credentials, Login
from gitsyncd.model.errors import ImageNotFound, RegistryDenied, RegistryError, RegistryThrottled, RegistryUnreachable
from gitsyncd.model.image import Found

if TYPE_CHECKING:
    import aiohttp

MAX_TAGS: Final = 100_000
MAX_PAGES: Final = 1000
_PAGE: Final = 1000
_LIST_BYTES: Final = 16 << 20
_DOCUMENT_BYTES: Final = 4 << 20
"""The limit that distribution-spec names for manifests; configurations stay far below it."""
_TOKEN_BYTES: Final = 1 << 20
_REDIRECTS: Final = 3
_CONNECT_S: Final = 10.0
_SILENCE_S: Final = 20.0
_MOST_PAUSE_S: Final = 3600.0
_TOKEN_MARGIN_S: Final = 10.0
_ASKED_FIRST: Final = ("linux/amd64", "linux/arm64")
"""Of an index, whose images say when they were made; no other is any better or worse."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How a registry is reached."""

    credentials: Credentials | None = None
    ca_file: Path | None = None
    allow_plain_http: bool = False


@dataclass(slots=True)
class _Answer:
    body: bytes
    headers: Mapping[str, str]
    links: list[str]
    type: str


class Registry:
    """Conversations with one registry. Several tasks may use it at a time."""

    def __init__(self, server: str, reach: Reach, *, agent: str) -> None:
        """`server` as in `ImageName.server`; `agent` is what it calls itself."""
        self._server = server
        self._reach = reach
        self._agent = agent
        self._base = f"{'http' if reach.allow_plain_http else 'https'}://{server}"
        self._session: aiohttp.ClientSession | None = None
        self._tls: ssl.SSLContext | None = None
        self._challenge: Challenge | None = None
        self._tokens: dict[str, tuple[str, float]] = {}
        """By scope, and until when each holds on the monotonic clock."""

    async def close(self) -> None:
        """End connections, and read certificates afresh at the next question."""
        session, self._session, self._tls = self._session, None, None
        if session is not None:
            await session.close()

    # --- questions -----------------------------------------------------------------------------------------------

    async def tags(self, name: ImageName) -> list[str]:
        """All tags of the repository, in the registry's order. Raises `RegistryError`."""
        found: dict[str, None] = {}
        address = f"{self._base}/v2/{name.repository}/tags/list?n={_PAGE}"
        seen = set()
        for _ in range(MAX_PAGES):
            seen.add(address)
            answer = await self._get(name, address, _LIST_BYTES)
            with _understanding(name):
                found.update(dict.fromkeys(answers.tags(answer.body)))
                following = answers.next_page(answer.links)
            if len(found) > MAX_TAGS:
                raise RegistryError(
                    f"{name} has more than {MAX_TAGS:,} tags",
                    hint="Delete old ones on the registry; no list so long is read.",
                )
            if not following:
                return list(found)
            address = urljoin(address, following)
            if _origin(address) != _origin(self._base) or address in seen:
                break
        raise RegistryError(f"{name}: its list of tags has no end", hint="Tell whoever runs the registry.")

    async def look(self, name: ImageName, tag: str, *, prefer: tuple[str, ...] = ()) -> Found | None:
        """What a tag stands for now; None when there is no such tag. `prefer`: platforms whose image is asked first.

        Raises `RegistryError`.
        """
        if not is_tag(tag):
            return None
        try:
            answer = await self._get(
                name, f"{self._base}/v2/{name.repository}/manifests/{tag}", _DOCUMENT_BYTES, accept=answers.ACCEPTED
            )
        except ImageNotFound:
            return None
        with _understanding(name):
            digest = answers.digest_of(answer.body)
            said = answer.headers.get("Docker-Content-Digest", digest)
            if said.startswith("sha256:"):
                answers.proven(answer.body, said)
            image = answers.image(answer.body, answer.type)
        if isinstance(image, Index):
            config = await self._config_of(name, image, prefer)
            platforms = frozenset(image.platforms)
        else:
            config = await self._config(name, image.config)
            platforms = frozenset({config.platform} - {""})
        created = config.created if config is not None else None
        return Found(tag=tag, digest=digest, created=created, platforms=platforms)

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

    async def _content(self, name: ImageName, what: str, digest: str) -> bytes:
        """What has that digest. Raises `RegistryError` where it is not there although the registry names it."""
        address = f"{self._base}/v2/{name.repository}/{what}/{digest}"
        try:
            answer = await self._get(name, address, _DOCUMENT_BYTES, accept=answers.ACCEPTED)
        except ImageNotFound as error:
            raise RegistryError(
                f"{name}: {what} {digest[:19]}… is named and not there", hint="Push the image again."
            ) from error
        with _understanding(name):
            return answers.proven(answer.body, digest)

    # --- one question --------------------------------------------------------------------------------------------

    async def _get(self, name: ImageName, address: str, most: int, *, accept: str = "application/json") -> _Answer:
        """The body of a good answer. Logs in when it is asked to, once."""
        import aiohttp  # 26 MB that an agent without policies does not need

        scope = f"repository:{name.repository}:pull"
        try:
            login = await asyncio.to_thread(self._login)
            headers = {"Accept": accept} | await self._authorized(scope, login)
            status, answer = await self._ask(address, headers, most)
            if status == 401 and (challenge := answers.challenge(answer.links)) is not None:
                self._challenge = challenge
                self._tokens.pop(scope, None)
                headers = {"Accept": accept} | await self._authorized(scope, login)
                status, answer = await self._ask(address, headers, most)
        except aiohttp.ClientError as error:
            raise self._translated(error) from error
        except TimeoutError as error:
            raise RegistryUnreachable(f"{self._server} does not answer: nothing came in time") from error
        except OSError as error:
            raise RegistryUnreachable(f"{self._server} ended the connection in the middle") from error
        if status == 200:
            return answer
        raise self._refused(name, status, answer.headers, login)

    async def _ask(self, address: str, headers: Mapping[str, str], most: int) -> tuple[int, _Answer]:
        """Status and answer; of a 401 the challenges stand in place of links.

        Where a redirect leads gets no credentials, and has none to ask for: its challenges are not listened to.
        """
        session, own = await self._open_session(), _origin(address)
        for _ in range(_REDIRECTS + 1):
            async with session.get(address, headers=headers, allow_redirects=False) as response:
                location = response.headers.get("Location", "")
                if response.status in {301, 302, 303, 307, 308} and location:
                    address = urljoin(address, location)
                    if not address.startswith("https://") and not self._reach.allow_plain_http:
                        raise RegistryDenied(
                            f"{self._server} redirects to a server without TLS",
                            hint="Set `allow_plain_http: true` for this registry, if that is meant.",
                        )
                    if _origin(address) != own:
                        headers = {key: value for key, value in headers.items() if key != "Authorization"}
                    continue
                listed = "WWW-Authenticate" if response.status == 401 else "Link"
                links = response.headers.getall(listed, []) if _origin(address) == own else []
                body = await self._body(response, most) if response.status == 200 else b""
                return response.status, _Answer(body, response.headers, links, response.content_type)
        raise RegistryUnreachable(f"{self._server} redirects more than {_REDIRECTS} times")

    async def _body(self, response: aiohttp.ClientResponse, most: int) -> bytes:
        pieces, size = [], 0
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > most:
                raise RegistryError(
                    f"{self._server} sends more than {most >> 20} MiB where less is right",
                    hint="Check the name of the registry, and whether it is one.",
                )
            pieces.append(piece)
        return b"".join(pieces)

    async def _open_session(self) -> aiohttp.ClientSession:
        import aiohttp  # see _get

        if self._session is None:
            if self._tls is None:
                self._tls = await asyncio.to_thread(self._trusting)
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S),
                connector=aiohttp.TCPConnector(limit=4, keepalive_timeout=30, ssl=self._tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                headers={"User-Agent": self._agent},
            )
        return self._session

    def _trusting(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self._reach.ca_file)
        except (OSError, ssl.SSLError) as error:
            raise RegistryDenied(
                f"{self._server}: the CA file {self._reach.ca_file} cannot be used: {error.strerror or 'not PEM'}",
                hint="Check `tls.ca_file` of this registry: PEM, readable for the agent's user.",
            ) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.keylog_filename = None  # type: ignore[assignment] # whatever $SSLKEYLOGFILE says
        return context

    # --- logging in ----------------------------------------------------------------------------------------------

    def _login(self) -> Login | None:
        return self._reach.credentials.login(self._server) if self._reach.credentials is not None else None

    async def _authorized(self, scope: str, login: Login | None) -> dict[str, str]:
        """The header for the registry; none before it has asked for one, unless there is a token of our own."""
        if login is not None and login.bearer:
            return {"Authorization": f"Bearer {login.bearer}"}
        match self._challenge:
            case None:
                return {}
            case Challenge(scheme="basic"):
                return {"Authorization": _basic(login)} if login is not None else {}
        known = self._tokens.get(scope)
        if known is None or known[1] <= time.monotonic():
            known = self._tokens[scope] = await self._token(self._challenge, scope, login)
        return {"Authorization": f"Bearer {known[0]}"}

    async def _token(self, challenge: Challenge, scope: str, login: Login | None) -> tuple[str, float]:
        realm = challenge.parameters.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme != "https" and not (self._reach.allow_plain_http and parts.scheme == "http"):
            raise RegistryDenied(f"{self._server} wants its token fetched without TLS", hint="Tell whoever runs it.")
        asked = {"scope": challenge.parameters.get("scope") or scope}
        if service := challenge.parameters.get("service"):
            asked = {"service": service, **asked}
        address = f"{realm}{'&' if parts.query else '?'}{urlencode(asked)}"
        headers = {"Authorization": _basic(login)} if login is not None else {}
        status, answer = await self._ask(address, headers, _TOKEN_BYTES)
        if status in {401, 403}:
            raise self._denied(status, login)
        if status != 200:
            raise RegistryUnreachable(f"{parts.hostname}, which {self._server} names for tokens, answers {status}")
        try:
            text, seconds = answers.token(answer.body)
        except Misspoken as error:
            raise RegistryUnreachable(f"{self._server}: {error}") from error
        return text, time.monotonic() + max(0.0, seconds - _TOKEN_MARGIN_S)

    # --- failures ------------------------------------------------------------------------------------------------

    def _refused(self, name: ImageName, status: int, headers: Mapping[str, str], login: Login | None) -> RegistryError:
        if status in {401, 403}:
            return self._denied(status, login)
        if status == 404:
            return ImageNotFound(f"{name}: there is no such repository or tag, or no permission to see it (404)")
        if status == 429:
            pause = headers.get("Retry-After", "")
            seconds = min(float(pause), _MOST_PAUSE_S) if pause.isascii() and pause.isdecimal() else None
            return RegistryThrottled(f"{self._server} asks to slow down (429)", retry_after_s=seconds)
        return RegistryUnreachable(f"{self._server} answers with status {status}")

    def _denied(self, status: int, login: Login | None) -> RegistryDenied:
        if login is None:
            return RegistryDenied(
                f"{self._server} asks for credentials and none are configured ({status})",
                hint="Give this registry `auth` under `images.registries`.",
            )
        return RegistryDenied(
            f"{self._server} refuses the credentials of {login.shown} ({status})",
            hint=f"Check what is in {login.file}: it is read again at each look.",
        )

    def _translated(self, error: aiohttp.ClientError) -> RegistryError:
        """No text of the library is passed on: it may quote an address or a header."""
        import aiohttp  # see _get

        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            reason = getattr(error.certificate_error, "verify_message", "") or "verification failed"
            return RegistryDenied(
                f"{self._server}: the server's certificate is not trusted: {reason}",
                hint="Check `tls.ca_file` of this registry, its name, and this machine's clock.",
            )
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return RegistryUnreachable(f"{self._server}: the host name cannot be resolved")
        if isinstance(error, aiohttp.ClientSSLError):
            return RegistryUnreachable(f"{self._server}: no TLS connection")
        if isinstance(error, aiohttp.ClientConnectorError):
            reason = os.strerror(error.errno) if error.errno else "no connection"
            return RegistryUnreachable(f"{self._server}: cannot connect: {reason}")
        if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
            return RegistryUnreachable(f"{self._server} ended the connection in the middle")
        return RegistryUnreachable(f"{self._server} does not answer as a registry ({type(error).__name__})")


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


def _basic(login: Login) -> str:
    return "Basic " + b64encode(f"{login.username}:{login.password}".encode()).decode()


def _origin(address: str) -> tuple[str, str, int]:
    parts = urlsplit(address)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
