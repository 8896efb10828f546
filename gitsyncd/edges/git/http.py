"""A Git server over HTTP, asked from the daemon itself: which commits the branches have, and the pack of what is new.

One request is enough for a warm poll: a server that once said it speaks protocol 2 is asked for the heads at once.
Credentials and certificates are read again at each use and go to the configured origin only. Nothing of the environment
is looked at: no proxy variable, no netrc, no configuration of git.
"""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from gitsyncd.edges.git.caps import Caps
from gitsyncd.edges.git.credentials import FileState, file_state, read_file
from gitsyncd.edges.git.pktline import (
    Advertisement,
    HeadList,
    PackAnswer,
    ProtocolViolation,
    fetch_request,
    ls_refs_request,
)
from gitsyncd.edges.git.remote import RECEIVE, Move, Remote, Write, judge
from gitsyncd.edges.http import Trouble, failure, origin, trusting
from gitsyncd.model.address import redacted
from gitsyncd.model.errors import ConfigError, PushRefused, SourceDenied, SourceError, SourceUnreachable
from gitsyncd.model.source import BearerAuth, CertificateAuth, PasswordAuth, Repository

if TYPE_CHECKING:
    import aiohttp

_UPLOAD = "git-upload-pack"
_CONNECT_SECONDS = 10.0
_SILENCE_SECONDS = 30.0
_REDIRECTS = 3


class _Forbidden(SourceError):
    """A push was answered with 403: who asks is known, and may not."""


class HttpRemote(Remote):
    """Over HTTPS, or over plain HTTP where the agent file allows it."""

    def __init__(self, repository: Repository, *, agent: str, caps: Caps) -> None:
        """Raises `ConfigError` for a URL that cannot be asked."""
        try:
            parts = urlsplit(repository.url)
            askable = parts.scheme in {"https", "http"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            askable = False
        if not askable:
            raise ConfigError(f"{redacted(repository.url)} is not an https://, ssh:// or file:// URL")
        super().__init__(repository, agent=agent, caps=caps)
        self._base = self.shown.rstrip("/")
        self._session: aiohttp.ClientSession | None = None
        self._tls: tuple[FileState, ssl.SSLContext] | None = None
        self._known: Advertisement | None = None
        """What a server of protocol 2 said of itself, so that the next poll need not ask."""
        self._old: Advertisement | None = None
        """What a server of an older protocol said the last time."""

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def heads(self, branches: Sequence[str]) -> dict[str, str]:
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
        spoken = self._known or self._old
        assert spoken is not None, "heads are asked for first"
        self._refuse_shallow(spoken)
        body = fetch_request(
            wants, haves, version=spoken.version, capabilities=spoken.capabilities, agent=self._product
        )
        async with self._ask("POST", "result", body) as chunks:
            await self._receive(chunks, PackAnswer(spoken.version), write)

    async def push(self, move: Move, pack: bytes) -> None:
        self._base = self.shown.rstrip("/")
        try:
            advertisement = await self._discover([move.branch], RECEIVE)
            request, answer = self._begun(advertisement, move)
            async with self._ask("POST", "result", request + pack, RECEIVE) as chunks:
                await self._read(chunks, answer)
        except _Forbidden as error:
            raise PushRefused(
                f"{self.shown}: these credentials may not write (403)",
                hint="Give them the right to push, or name others under `auth` of the update.",
            ) from error
        judge(self.shown, answer, move)

    async def _discover(self, branches: Sequence[str], service: str = _UPLOAD) -> Advertisement:
        advertisement = Advertisement(branches, service=service)
        async with self._ask("GET", "advertisement", None, service) as chunks:
            await self._read(chunks, advertisement)
        self._refuse_format(advertisement)
        return advertisement

    async def _ls_refs(self, branches: Sequence[str], advertisement: Advertisement) -> dict[str, str]:
        listing = HeadList(branches)
        body = ls_refs_request(branches, advertisement.capabilities, self._product)
        async with self._ask("POST", "result", body) as chunks:
            await self._read(chunks, listing)
        return listing.heads

    @asynccontextmanager
    async def _ask(
        self, method: str, kind: str, body: bytes | None, service: str = _UPLOAD
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        """One request; the body of a good answer, and every kind of failure as a `SourceError`."""
        import aiohttp  # 26 MB that a mirror of local repositories does not need

        try:
            response = await self._send(method, kind, body, service)
            try:
                self._check_type(response, f"application/x-{service}-{kind}")
                yield response.content.iter_any()
            finally:
                # To the end means the connection can be used again; everything else ends it.
                response.release() if response.content.at_eof() else response.close()
        except ProtocolViolation as error:
            raise self._misspoken(error) from error
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # aiohttp's own (connect, silence) are TimeoutErrors too; the total deadline is the caller's.
            raise self._translated(error) from error

    async def _send(self, method: str, kind: str, body: bytes | None, service: str) -> aiohttp.ClientResponse:
        tail = f"/info/refs?service={service}" if body is None else f"/{service}"
        before = self._tls
        tls = await asyncio.to_thread(self._tls_context) if self._base.startswith("https:") else True
        if before is not None and before is not self._tls:
            await self.close()  # what was opened with the certificates of before
        session = self._open_session()
        headers = await asyncio.to_thread(self._headers, kind, body, service)
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
            if status == 403 and service == RECEIVE:
                raise _Forbidden(self.shown)
            raise self._refused(status, location)
        raise SourceUnreachable(f"{self.shown} redirects more than {_REDIRECTS} times")

    def _redirected(self, tail: str, location: str) -> str:
        """The new base after a redirect of the discovery, which has to stay on the same server."""
        target = urljoin(self._base + tail, location)
        if origin(target) != origin(self._base):
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

    def _headers(self, kind: str, body: bytes | None, service: str) -> dict[str, str]:
        """Raises `SourceDenied` when a secret cannot be read."""
        headers = {
            "Accept": f"application/x-{service}-{kind}",
            "Accept-Encoding": "identity",
            "Pragma": "no-cache",
        }
        if self._old is None and service == _UPLOAD:  # pushing has no version 2
            headers["Git-Protocol"] = "version=2"
        if body is not None:
            headers["Content-Type"] = f"application/x-{service}-request"
        if (authorization := self._authorization()) is not None:
            headers["Authorization"] = authorization
        return headers

    def _authorization(self) -> str | None:
        match self._repository.auth:
            case PasswordAuth(username=username, password_file=path):
                password = read_file(path, what="password file", key="auth.password_file", shown=self.shown)
                return "Basic " + b64encode(username.encode() + b":" + password).decode()
            case BearerAuth(token_file=path):
                token = read_file(path, what="token file", key="auth.bearer_file", shown=self.shown)
                if not token.isascii() or not token.decode().isprintable() or b" " in token:
                    raise SourceDenied(
                        f"{self.shown}: the token file {path} holds more than a token",
                        hint="Write the token alone into the file of `auth.bearer_file`, on one line.",
                    )
                return "Bearer " + token.decode()
        return None

    def _tls_context(self) -> ssl.SSLContext:
        """Made again when a certificate or key was replaced. Raises `SourceDenied`."""
        ca_file, auth = self._repository.ca_file, self._repository.auth
        client = auth if isinstance(auth, CertificateAuth) else None
        state = file_state(ca_file, *((client.cert_file, client.key_file) if client else ()))
        if self._tls is None or self._tls[0] != state:
            context = self._trusting(ca_file)
            if client is not None:
                self._present(context, client)
            self._tls = (state, context)
        return self._tls[1]

    def _trusting(self, ca_file: Path | None) -> ssl.SSLContext:
        try:
            return trusting(ca_file)
        except ValueError as error:
            raise SourceDenied(
                f"{self.shown}: the CA file {ca_file} cannot be used: {error}",
                hint="Check `tls.ca_file` of this source: PEM, readable for the agent's user.",
            ) from error

    def _present(self, context: ssl.SSLContext, client: CertificateAuth) -> None:
        def passphrase() -> bytes:
            raise ValueError  # or OpenSSL asks for it on the terminal

        try:
            context.load_cert_chain(client.cert_file, client.key_file, password=passphrase)
        except (OSError, ssl.SSLError, ValueError) as error:
            said = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else ""
            raise SourceDenied(
                f"{self.shown}: the client certificate {client.cert_file} with the key {client.key_file} cannot be "
                f"used: {said or 'not a certificate and its own key, PEM and without a passphrase'}",
                hint="Check `auth.client_cert_file` and `auth.client_key_file` of this source.",
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
        if status in {401, 403}:
            return self._refused_credentials(status)
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

    def _refused_credentials(self, status: int) -> SourceDenied:
        match self._repository.auth:
            case PasswordAuth(username=username, password_file=path):
                what = f"refuses the credentials of user {username!r}"
                hint = f"Check `auth.username` and what is in {path}: it is read again at each look."
            case BearerAuth(token_file=path):
                what = "refuses the token"
                hint = f"Check what is in {path}: it is read again at each look."
            case CertificateAuth(cert_file=path):
                what = "refuses the client certificate, or wants more than that"
                hint = f"Check what is in {path}, and whom the server lets read this repository."
            case _:
                what = "asks for credentials and none are configured"
                hint = "Give this source `auth`. Some servers also answer like this for a wrong `url`."
        return SourceDenied(f"{self.shown} {what} ({status})", hint=hint)

    def _translated(self, error: Exception) -> SourceError:
        """Every failure of the connection."""
        failed = failure(error)
        match failed.kind:
            case Trouble.CERTIFICATE:
                return SourceDenied(
                    f"{self.shown}: {failed.words}",
                    hint="Check `tls.ca_file` of this source, the host name in `url`, and this machine's clock.",
                )
            case Trouble.TLS:
                return SourceUnreachable(
                    f"{self.shown}: {failed.words}",
                    hint="Check that `url` has the right port, and that the server speaks TLS 1.2 or newer.",
                )
            case Trouble.NAME | Trouble.CONNECT:
                return SourceUnreachable(f"{self.shown}: {failed.words}")
            case Trouble.CUT:
                return self._cut()
            case Trouble.SILENCE:
                return SourceUnreachable(f"{self.shown} {failed.words}")
        return SourceUnreachable(f"{self.shown} does not answer as a web server ({failed.words})")
