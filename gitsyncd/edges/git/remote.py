"""A Git server over HTTPS, asked from the daemon itself: which commits the branches have, and the pack of what is new.

One request is enough for a warm poll: a server that once said it speaks protocol 2 is asked for the heads at once.
Credentials and the CA file are read again at each use and go to the configured origin only. Nothing of the environment
is looked at: no proxy variable, no netrc, no configuration of git.
"""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit, urlunsplit

from gitsyncd.edges.git.caps import Caps, in_words
from gitsyncd.edges.git.pktline import (
    Advertisement,
    HeadList,
    PackAnswer,
    PacketReader,
    ProtocolViolation,
    fetch_request,
    ls_refs_request,
)
from gitsyncd.model.errors import (
    ConfigError,
    RevisionNotFound,
    SourceDenied,
    SourceError,
    SourceTooLarge,
    SourceUnreachable,
)
from gitsyncd.model.source import Repository

if TYPE_CHECKING:
    import aiohttp

_DISCOVERY = "/info/refs?service=git-upload-pack"
_CONNECT_SECONDS = 10.0
_SILENCE_SECONDS = 30.0
_ANSWER_BYTES = 64 << 20
"""Of one list of refs. Some 700,000 of them; protocol 2 sends the wanted ones only."""
_REDIRECTS = 3
_SECRET_BYTES = 64 << 10

Write = Callable[[bytes], Awaitable[None]]


def redacted(url: str) -> str:
    """The URL without user, password, query and fragment."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the URL"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


class HttpRemote:
    """Conversations with one repository of one server. Not for use by two tasks at a time."""

    def __init__(self, repository: Repository, *, agent: str, caps: Caps) -> None:
        """Raises `ConfigError` for a URL that cannot be asked."""
        try:
            parts = urlsplit(repository.url)
            askable = parts.scheme in {"https", "http"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            askable = False
        if not askable:
            raise ConfigError(f"{redacted(repository.url)} is not an https:// or file:// URL")
        self.shown = redacted(repository.url)
        self._repository = repository
        self._agent = agent
        # In Git's own protocol a capability is one word.
        self._product = agent.split(" ", maxsplit=1)[0]
        self._caps = caps
        self._base = self.shown.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._tls: tuple[tuple[int, ...], ssl.SSLContext] | None = None
        self._known: Advertisement | None = None
        """What a server of protocol 2 said of itself, so that the next poll need not ask."""
        self._old: Advertisement | None = None
        """What a server of an older protocol said the last time."""

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def heads(self, branches: Sequence[str]) -> dict[str, str]:
        """Commits of those branches that exist. Raises `SourceError`."""
        if self._known is not None:
            try:
                return await self._ls_refs(branches, self._known)
            except SourceError:
                # Whatever it was (a server restarted, moved, another version), the long way round tells it better.
                self._known = None
        self._base, self._old = self.shown.rstrip("/"), None
        advertisement = await self._discover(branches)
        if advertisement.version != 2:
            self._old = advertisement
            return advertisement.heads
        heads = await self._ls_refs(branches, advertisement)
        self._known = advertisement
        return heads

    async def download(self, wants: Sequence[str], haves: Sequence[str], write: Write) -> None:
        """The pack with all that `wants` need and `haves` do not, given to `write` in pieces. After `heads`.

        Raises `SourceError`, and what `write` raises, which must be no `OSError`.
        """
        spoken = self._known or self._old
        assert spoken is not None, "heads are asked for first"
        if "is-shallow" in spoken.capabilities:
            raise self._shallow()
        body = fetch_request(
            wants, haves, version=spoken.version, capabilities=spoken.capabilities, agent=self._product
        )
        answer, packets, received = PackAnswer(spoken.version), PacketReader(), 0
        async with self._ask("POST", "/git-upload-pack", body, "result") as chunks:
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

    async def _discover(self, branches: Sequence[str]) -> Advertisement:
        advertisement, packets = Advertisement(branches), PacketReader()
        async with self._ask("GET", _DISCOVERY, None, "advertisement") as chunks:
            await self._consume(chunks, packets, advertisement)
        if advertisement.capabilities.get("object-format", "sha1") != "sha1":
            raise RevisionNotFound(
                f"{self.shown} names objects by {advertisement.capabilities['object-format']}, which is not supported",
                hint="Use a repository with SHA-1 object ids, which is Git's default.",
            )
        return advertisement

    async def _ls_refs(self, branches: Sequence[str], advertisement: Advertisement) -> dict[str, str]:
        listing = HeadList(branches)
        body = ls_refs_request(branches, advertisement.capabilities, self._product)
        async with self._ask("POST", "/git-upload-pack", body, "result") as chunks:
            await self._consume(chunks, PacketReader(), listing)
        return listing.heads

    async def _consume(
        self, chunks: AsyncIterator[bytes], packets: PacketReader, reader: Advertisement | HeadList
    ) -> None:
        received = 0
        async for chunk in chunks:
            received += len(chunk)
            if received > _ANSWER_BYTES:
                raise SourceTooLarge(f"{self.shown} sent more than {in_words(_ANSWER_BYTES)} of refs")
            for packet in packets.feed(chunk):
                reader.take(packet)
        if not reader.complete:
            raise self._cut()

    @asynccontextmanager
    async def _ask(self, method: str, tail: str, body: bytes | None, kind: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """One request; the body of a good answer, and every kind of failure as a `SourceError`."""
        import aiohttp  # 26 MB that a mirror of local repositories does not need

        try:
            response = await self._send(method, tail, body, kind)
            try:
                self._check_type(response, f"application/x-git-upload-pack-{kind}")
                yield response.content.iter_any()
            finally:
                # To the end means the connection can be used again; everything else ends it.
                response.release() if response.content.at_eof() else response.close()
        except ProtocolViolation as error:
            raise SourceUnreachable(
                f"{self.shown} does not answer as a Git server: {error}", hint="Check `url` of this source."
            ) from error
        except aiohttp.ClientError as error:
            raise self._translated(error) from error
        except TimeoutError as error:
            # aiohttp's own (connect, silence) are TimeoutErrors too; the total deadline is the caller's.
            raise SourceUnreachable(f"{self.shown} does not answer: nothing came in time") from error
        except OSError as error:
            raise self._cut() from error

    async def _send(self, method: str, tail: str, body: bytes | None, kind: str) -> aiohttp.ClientResponse:
        session = self._open_session()
        tls = await asyncio.to_thread(self._tls_context) if self._base.startswith("https:") else True
        headers = await asyncio.to_thread(self._headers, kind, body)
        for _ in range(_REDIRECTS + 1):
            response = await session.request(
                method, self._base + tail, data=body, headers=headers, ssl=tls, allow_redirects=False
            )
            if response.status == 200:
                return response
            status, location = response.status, response.headers.get("Location", "")
            response.close()
            if status in {301, 302, 303, 307, 308} and method == "GET":
                self._base = self._redirected(tail, location)
                continue
            raise self._refused(status, location)
        raise SourceUnreachable(f"{self.shown} redirects more than {_REDIRECTS} times")

    def _redirected(self, tail: str, location: str) -> str:
        """The new base after a redirect of the discovery, which has to stay on the same server."""
        target = urljoin(self._base + tail, location)
        if _origin(target) != _origin(self._base):
            raise SourceDenied(
                f"{self.shown} redirects to another server, {redacted(target)}: credentials are not sent there",
                hint="If that is the right place, write its URL into `url`.",
            )
        if not target.endswith(tail):
            raise SourceUnreachable(
                f"{self.shown} redirects to {redacted(target)}, which is no Git repository",
                hint="Check `url` of this source; a redirect to a login page looks like this.",
            )
        return target.removesuffix(tail)

    def _open_session(self) -> aiohttp.ClientSession:
        import aiohttp  # see _ask

        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS),
                connector=aiohttp.TCPConnector(limit=2, keepalive_timeout=75),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                # Some servers serve Git only to what calls itself git.
                headers={"User-Agent": f"git/2.0 {self._agent}"},
            )
        return self._session

    def _headers(self, kind: str, body: bytes | None) -> dict[str, str]:
        """Raises `SourceDenied` when the password cannot be read."""
        headers = {
            "Accept": f"application/x-git-upload-pack-{kind}",
            "Accept-Encoding": "identity",
            "Pragma": "no-cache",
        }
        if self._old is None:
            headers["Git-Protocol"] = "version=2"
        if body is not None:
            headers["Content-Type"] = "application/x-git-upload-pack-request"
        auth = self._repository.auth
        if auth is not None:
            try:
                # Not to wait for whoever writes to a pipe: this thread would be lost.
                flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
                with os.fdopen(os.open(auth.password_file, flags), "rb") as file:
                    password = file.read(_SECRET_BYTES).rstrip(b"\r\n")
                if not password:
                    raise OSError(errno.ENODATA, "it is empty")
            except OSError as error:
                raise SourceDenied(
                    f"{self.shown}: the password file {auth.password_file} cannot be read: {error.strerror}",
                    hint="Check `auth.password_file` of this source, and that the agent's user may read it.",
                ) from error
            headers["Authorization"] = "Basic " + b64encode(auth.username.encode() + b":" + password).decode()
        return headers

    def _tls_context(self) -> ssl.SSLContext:
        """Made again when the CA file was replaced. Raises `SourceDenied`."""
        ca_file = self._repository.ca_file
        try:
            status = ca_file.stat() if ca_file else None
            key = (status.st_ino, status.st_size, status.st_mtime_ns) if status else ()
            if self._tls is None or self._tls[0] != key:
                context = ssl.create_default_context(cafile=ca_file)
                context.minimum_version = ssl.TLSVersion.TLSv1_2
                context.keylog_filename = None  # type: ignore[assignment] # whatever $SSLKEYLOGFILE says
                self._tls = (key, context)
            return self._tls[1]
        except (OSError, ssl.SSLError) as error:
            raise SourceDenied(
                f"{self.shown}: the CA file {ca_file} cannot be used: {error.strerror or 'no certificates in it'}",
                hint="Check `tls.ca_file` of this source: PEM, readable for the agent's user.",
            ) from error

    def _check_type(self, response: aiohttp.ClientResponse, wanted: str) -> None:
        got = response.content_type
        if got == wanted:
            return
        if got == "text/html":
            raise SourceUnreachable(
                f"{self.shown} answers with a web page and not as a Git server",
                hint="Check `url`: a login page, a proxy's notice or a forge's start page looks like this.",
            )
        if got == "text/plain" and wanted.endswith("advertisement"):
            raise SourceUnreachable(
                f"{self.shown} serves files and does not speak Git's smart protocol",
                hint="Serve the repository with git http-backend or a forge.",
            )
        raise SourceUnreachable(f"{self.shown} answers with {got[:80]!r} and not as a Git server", hint="Check `url`.")

    def _refused(self, status: int, location: str) -> SourceError:
        auth = self._repository.auth
        if status in {401, 403}:
            if auth is None:
                return SourceDenied(
                    f"{self.shown} asks for credentials ({status}) and none are configured",
                    hint="Give this source `auth`. Some servers also answer like this for a wrong `url`.",
                )
            return SourceDenied(
                f"{self.shown} refuses the credentials of user {auth.username!r} ({status})",
                hint=f"Check `auth.username` and what is in {auth.password_file}: it is read again at each look.",
            )
        if status == 404:
            return SourceDenied(
                f"{self.shown}: repository not found, or no permission to see it (404)",
                hint="Check `url`, and whether these credentials may read the repository.",
            )
        if status in {301, 302, 303, 307, 308}:
            return SourceDenied(f"{self.shown} redirects a request to {redacted(location)}, which is not followed")
        if status == 429:
            return SourceUnreachable(
                f"{self.shown} asks to slow down (429)", hint="Give the source a longer `interval`."
            )
        return SourceUnreachable(f"{self.shown} answers with status {status}")

    def _translated(self, error: aiohttp.ClientError) -> SourceError:
        """Every failure of the connection. No text of the library is passed on: it may quote a URL or a header."""
        import aiohttp  # see _ask

        if isinstance(error, aiohttp.ClientConnectorCertificateError):
            reason = getattr(error.certificate_error, "verify_message", "") or "verification failed"
            return SourceDenied(
                f"{self.shown}: the server's certificate is not trusted: {reason}",
                hint="Check `tls.ca_file` of this source, the host name in `url`, and this machine's clock.",
            )
        if isinstance(error, aiohttp.ClientConnectorDNSError):
            return SourceUnreachable(f"{self.shown}: the host name cannot be resolved")
        if isinstance(error, aiohttp.ClientSSLError):
            return SourceUnreachable(
                f"{self.shown}: no TLS connection: {getattr(error.os_error, 'reason', None) or 'handshake failed'}",
                hint="Check that `url` has the right port, and that the server speaks TLS 1.2 or newer.",
            )
        if isinstance(error, aiohttp.ClientConnectorError):
            reason = os.strerror(error.errno) if error.errno else "no connection"
            return SourceUnreachable(f"{self.shown}: cannot connect: {reason}")
        if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError | aiohttp.ClientOSError):
            return self._cut()
        return SourceUnreachable(f"{self.shown} does not answer as a web server ({type(error).__name__})")


def _origin(url: str) -> tuple[str, str, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0)
