"""One registry, asked over HTTPS: requests, logins, redirects, and every way in which they fail.

Credentials go to the registry itself, and to the token server that it names over HTTPS; a redirect, as to where blobs
are kept, is followed without them. Everything that is read has a cap. A pause that the registry asks for is kept: no
request leaves before it is over, whoever asks. Nothing of the environment is looked at.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlencode, urljoin, urlsplit

from gitsyncd.core.reference import ImageName
from gitsyncd.edges.http import Trouble, failure, origin, trusting
from gitsyncd.edges.registry import answers
from gitsyncd.edges.registry.answers import Challenge, Misspoken
from gitsyncd.edges.registry.credentials import Credentials, Left, Login
from gitsyncd.edges.registry.helper import Helper
from gitsyncd.model.errors import ImageNotFound, RegistryDenied, RegistryError, RegistryThrottled, RegistryUnreachable
from gitsyncd.model.immutable import immutable

if TYPE_CHECKING:
    import aiohttp

NOT_FOUND: Final = frozenset({404})
_TOKEN_BYTES: Final = 1 << 20
_REDIRECTS: Final = 3
_CONNECT_S: Final = 10.0
_SILENCE_S: Final = 20.0
_WHOLE_S: Final = 120.0
"""Of one answer: a server that sends a byte now and then is no help either."""
_MOST_PAUSE_S: Final = 3600.0
_TOKEN_MARGIN_S: Final = 10.0


@immutable
class Reach:
    """How a registry is reached."""

    credentials: Credentials | None = None
    ca_file: Path | None = None
    allow_plain_http: bool = False
    proxy: str = ""
    """`http://host:port`, for everything: token servers and redirects, too."""
    helpers: tuple[Path, ...] = ()
    """Programs that a docker configuration may name."""
    helpers_home: Path = Path("/")
    """A folder for them, made when one is run."""


@dataclass(slots=True)
class Answer:
    """`links` are the headers `Link`; of a 401 the challenges stand in their place."""

    body: bytes
    headers: Mapping[str, str]
    links: list[str]
    type: str


class Pause:
    """Until when a server wants to be left alone. Everybody who asks that server shares one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._until = -float("inf")

    def asked(self, seconds: float) -> None:
        self._until = max(self._until, self._clock() + seconds)

    @property
    def left_s(self) -> float:
        return max(0.0, self._until - self._clock())


@immutable
class _Question:
    """What a token is for."""

    realm: str
    service: str
    scope: str


class _NoToken(Exception):
    """A token server refuses the credentials."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Connection:
    """Conversations with one registry. Several tasks may use it at a time."""

    def __init__(self, server: str, reach: Reach, *, agent: str, pause: Pause | None = None) -> None:
        """`server` as in `ImageName.server`; `agent` is what it calls itself."""
        self.server = server
        self.base = f"{'http' if reach.allow_plain_http else 'https'}://{server}"
        self._reach = reach
        self._agent = agent
        self._pause = pause or Pause()
        self._session: aiohttp.ClientSession | None = None
        self._tls: ssl.SSLContext | None = None
        self._helper: Helper | None = None
        self._challenges: dict[str, Challenge] = {}
        """By what was asked for: how the registry wants a login for it."""
        self._tokens: dict[_Question, tuple[str, float]] = {}
        """And until when each holds on the monotonic clock."""

    async def close(self) -> None:
        """End connections, and read certificates afresh at the next question."""
        session, self._session, self._tls = self._session, None, None
        if session is not None:
            await session.close()

    def is_own(self, address: str) -> bool:
        """Whether it is on this server."""
        return origin(address) == origin(self.base)

    async def get(
        self,
        name: ImageName,
        address: str,
        most: int,
        *,
        accept: str = "application/json",
        absent: Container[int] = NOT_FOUND,
    ) -> Answer:
        """A good answer, of at most so many bytes. Raises `RegistryError`: `ImageNotFound` for a status in `absent`."""
        status, answer, login = await self._answered("GET", name, address, most, accept)
        if status == 200:
            return answer
        if status in absent:
            raise ImageNotFound(f"{name}: there is no such repository or tag, or no permission to see it ({status})")
        raise self._refused(status, login)

    async def head(self, name: ImageName, address: str, *, accept: str) -> tuple[int, Mapping[str, str]]:
        """Status and headers. What a bad status means only `get` can tell. Raises `RegistryError`."""
        status, answer, _ = await self._answered("HEAD", name, address, 0, accept)
        return status, answer.headers

    # --- one question --------------------------------------------------------------------------------------------

    async def _answered(
        self, method: str, name: ImageName, address: str, most: int, accept: str
    ) -> tuple[int, Answer, Login | None]:
        """Logs in when it is asked to, once."""
        import aiohttp  # 26 MB that an agent without policies does not need

        scope = f"repository:{name.repository}:pull"
        try:
            login = await self._login()
            status, answer = await self._logged_in(method, scope, login, address, accept, most)
            if status in {401, 403} and login and self._helper and self._helper.rejected(login):
                self._tokens.clear()
                login = await self._login()
                status, answer = await self._logged_in(method, scope, login, address, accept, most)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._translated(error) from error
        return status, answer, login

    async def _logged_in(
        self, method: str, scope: str, login: Login | None, address: str, accept: str, most: int
    ) -> tuple[int, Answer]:
        """Status and answer; the token server's where it gives no token."""
        try:
            headers = {"Accept": accept} | await self._authorized(scope, login)
            status, answer = await self._ask(method, address, headers, most)
            if status == 401 and (challenge := answers.challenge(answer.links)) is not None:
                self._challenges[scope] = challenge
                self._tokens.pop(_question(challenge, scope), None)
                headers = {"Accept": accept} | await self._authorized(scope, login)
                status, answer = await self._ask(method, address, headers, most)
        except _NoToken as error:
            return error.status, Answer(b"", {}, [], "")
        return status, answer

    async def _ask(
        self,
        method: str,
        address: str,
        headers: Mapping[str, str],
        most: int,
        *,
        form: Mapping[str, str] | None = None,
    ) -> tuple[int, Answer]:
        """Status and answer. A form, which holds secrets, goes nowhere else.

        Where a redirect leads gets no credentials, and has none to ask for: its challenges are not listened to.
        """
        session, own = await self._open_session(), origin(address)
        if (left := self._pause.left_s) > 0:
            raise self._throttled(left)
        for _ in range(_REDIRECTS + 1):
            async with session.request(method, address, headers=headers, data=form, allow_redirects=False) as response:
                location = response.headers.get("Location", "")
                if response.status in {301, 302, 303, 307, 308} and location and form is None:
                    address = urljoin(address, location)
                    if not address.startswith("https://") and not self._reach.allow_plain_http:
                        raise RegistryDenied(
                            f"{self.server} redirects to a server without TLS",
                            hint="Set `allow_plain_http: true` for this registry, if that is meant.",
                        )
                    if origin(address) != own:
                        headers = {key: value for key, value in headers.items() if key != "Authorization"}
                    continue
                if response.status == 429:
                    raise self._throttled(self._asked_pause(response.headers))
                listed = "WWW-Authenticate" if response.status == 401 else "Link"
                links = response.headers.getall(listed, []) if origin(address) == own else []
                body = await self._body(response, most) if response.status == 200 and most else b""
                return response.status, Answer(body, response.headers, links, response.content_type)
        raise RegistryUnreachable(f"{self.server} redirects more than {_REDIRECTS} times")

    async def _body(self, response: aiohttp.ClientResponse, most: int) -> bytes:
        pieces, size = [], 0
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > most:
                raise RegistryError(
                    f"{self.server} sends more than {_size(most)} where less is right",
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
                timeout=aiohttp.ClientTimeout(total=_WHOLE_S, sock_connect=_CONNECT_S, sock_read=_SILENCE_S),
                connector=aiohttp.TCPConnector(limit=4, keepalive_timeout=30, ssl=self._tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                proxy=self._reach.proxy or None,
                headers={"User-Agent": self._agent},
            )
        return self._session

    def _trusting(self) -> ssl.SSLContext:
        try:
            return trusting(self._reach.ca_file)
        except ValueError as error:
            raise RegistryDenied(
                f"{self.server}: the CA file {self._reach.ca_file} cannot be used: {error}",
                hint="Check `tls.ca_file` of this registry: PEM, readable for the agent's user.",
            ) from error

    # --- logging in ----------------------------------------------------------------------------------------------

    async def _login(self) -> Login | None:
        if self._reach.credentials is None:
            return None
        found = await asyncio.to_thread(self._reach.credentials.login, self.server)
        if not isinstance(found, Left):
            return found
        if self._helper is None:
            self._helper = Helper(self._reach.helpers, self._reach.helpers_home)
        return await self._helper.login(found)

    async def _authorized(self, scope: str, login: Login | None) -> dict[str, str]:
        """The header for the registry; none before it has asked for one, unless there is a token of our own."""
        if login is not None and login.bearer:
            return {"Authorization": f"Bearer {login.bearer}"}
        match challenge := self._expected(scope):
            case None:
                return {}
            case Challenge(scheme="basic"):
                return _basic(login)
        question = _question(challenge, scope)
        known = self._tokens.get(question)
        if known is None or known[1] <= time.monotonic():
            known = self._tokens[question] = await self._token(question, login)
        return {"Authorization": f"Bearer {known[0]}"}

    def _expected(self, scope: str) -> Challenge | None:
        """What the registry asked for before; of another repository, all but the scope, which was for that one."""
        if scope in self._challenges or not self._challenges:
            return self._challenges.get(scope)
        other = next(reversed(self._challenges.values()))
        return replace(other, parameters={**other.parameters, "scope": scope})

    async def _token(self, question: _Question, login: Login | None) -> tuple[str, float]:
        realm = question.realm
        parts = urlsplit(realm)
        if parts.scheme != "https" and not (self._reach.allow_plain_http and parts.scheme == "http"):
            raise RegistryDenied(f"{self.server} wants its token fetched without TLS", hint="Tell whoever runs it.")
        asked = {"scope": question.scope}
        if question.service:
            asked = {"service": question.service, **asked}
        if login is not None and login.identity:
            # distribution/distribution, docs/spec/auth/oauth.md
            form = {"grant_type": "refresh_token", "refresh_token": login.identity, "client_id": "gitsyncd", **asked}
            status, answer = await self._ask("POST", realm, {}, _TOKEN_BYTES, form=form)
        else:
            address = f"{realm}{'&' if parts.query else '?'}{urlencode(asked)}"
            headers = _basic(login)
            status, answer = await self._ask("GET", address, headers, _TOKEN_BYTES)
        if status in {401, 403}:
            raise _NoToken(status)
        if status != 200:
            raise RegistryUnreachable(f"{parts.hostname}, which {self.server} names for tokens, answers {status}")
        try:
            text, seconds = answers.token(answer.body)
        except Misspoken as error:
            raise RegistryUnreachable(f"{self.server}: {error}") from error
        return text, time.monotonic() + max(0.0, seconds - _TOKEN_MARGIN_S)

    # --- failures ------------------------------------------------------------------------------------------------

    def _refused(self, status: int, login: Login | None) -> RegistryError:
        if status in {401, 403}:
            return self._denied(status, login)
        return RegistryUnreachable(f"{self.server} answers with status {status}")

    def _asked_pause(self, headers: Mapping[str, str]) -> float | None:
        """How long it wants to be left alone, which begins now; None where it does not say."""
        seconds = answers.pause_s(headers, datetime.now(UTC))
        if seconds is not None:
            seconds = min(seconds, _MOST_PAUSE_S)
            self._pause.asked(seconds)
        return seconds

    def _throttled(self, seconds: float | None) -> RegistryThrottled:
        # The same words each time, so that one pause is one line in the log.
        return RegistryThrottled(f"{self.server} asks to slow down (429)", retry_after_s=seconds)

    def _denied(self, status: int, login: Login | None) -> RegistryDenied:
        if login is None:
            return RegistryDenied(
                f"{self.server} asks for credentials and none are configured ({status})",
                hint="Give this registry `auth` under `images.registries`.",
            )
        return RegistryDenied(
            f"{self.server} refuses the credentials of {login.shown} ({status})",
            hint=f"Check what {login.file} has: it is looked at again at each look.",
        )

    def _not_let_through(self, status: int) -> RegistryError:
        said = f"the proxy {self._reach.proxy} does not let the agent through to {self.server} ({status})"
        if status == 407:
            return RegistryDenied(
                said, hint="It asks for a login, which cannot be given: allow the agent by its address."
            )
        if status in {401, 403, 405}:
            return RegistryDenied(said, hint="Allow this server on the proxy, or correct `proxy` of this registry.")
        return RegistryUnreachable(said)

    def _translated(self, error: Exception) -> RegistryError:
        failed = failure(error)
        # With a proxy, nothing else is looked up or connected to.
        through = f"the proxy {self._reach.proxy} for {self.server}" if self._reach.proxy else self.server
        match failed.kind:
            case Trouble.CERTIFICATE:
                return RegistryDenied(
                    f"{self.server}: {failed.words}",
                    hint="Check `tls.ca_file` of this registry, its name, and this machine's clock.",
                )
            case Trouble.NAME | Trouble.CONNECT:
                return RegistryUnreachable(f"{through}: {failed.words}")
            case Trouble.PROXY:
                return self._not_let_through(failed.status)
            case Trouble.TLS:
                return RegistryUnreachable(f"{self.server}: {failed.words}")
            case Trouble.SILENCE | Trouble.CUT:
                return RegistryUnreachable(f"{self.server} {failed.words}")
        return RegistryUnreachable(f"{self.server} does not answer as a registry ({failed.words})")


def _question(challenge: Challenge, scope: str) -> _Question:
    """In the registry's words for the scope, where it has some: a mirror may know the repository by another name."""
    said = challenge.parameters
    return _Question(realm=said.get("realm", ""), service=said.get("service", ""), scope=said.get("scope") or scope)


def _size(most: int) -> str:
    return f"{most >> 20} MiB" if most >= 1 << 20 else f"{most >> 10} KiB"


def _basic(login: Login | None) -> dict[str, str]:
    if login is None or not login.password:
        return {}
    return {"Authorization": "Basic " + b64encode(f"{login.username}:{login.password}".encode()).decode()}
