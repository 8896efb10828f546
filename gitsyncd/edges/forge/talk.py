"""One conversation with a forge's API: the token, TLS, caps, deadlines, and what each failure means."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from gitsyncd.edges.forge.dialects import Ask
from gitsyncd.edges.http import Trouble, failure, trusting
from gitsyncd.edges.named_file import read_named
from gitsyncd.model.errors import ForgeDenied, ForgeError, ForgeRefused, ForgeUnreachable

if TYPE_CHECKING:
    import aiohttp

_ANSWER_BYTES: Final = 8 << 20
_TOKEN_BYTES: Final = 64 << 10
_CONNECT_S: Final = 10.0
_SAID_CHARS: Final = 300


class Talk:
    """Use as an async context manager. Raises `ForgeError`."""

    def __init__(
        self,
        base: str,
        shown: str,
        *,
        token_file: Path,
        headers: Callable[[str], Mapping[str, str]],
        ca_file: Path | None,
        timeout: timedelta,
        agent: str,
    ) -> None:
        self._base = base
        self._shown = shown
        self._token_file = token_file
        self._headers = headers
        self._ca_file = ca_file
        self._timeout = timeout
        self._agent = agent
        self._session: aiohttp.ClientSession | None = None
        self._secret = ""
        """Which a forge, or a proxy before it, may repeat."""

    async def __aenter__(self) -> Self:
        import aiohttp  # 26 MB that an agent without pull requests may not need

        token = self._secret = await asyncio.to_thread(self._token)
        tls = await asyncio.to_thread(self._trusting)
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._timeout.total_seconds(), sock_connect=_CONNECT_S),
            connector=aiohttp.TCPConnector(limit=1, ssl=tls),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            headers={"User-Agent": self._agent, **self._headers(token)},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def ask(self, ask: Ask) -> Any:
        """What a good answer holds. Raises `ForgeError`."""
        import aiohttp  # see __aenter__

        assert self._session is not None
        body = json.dumps(ask.body).encode() if ask.body else None
        headers = {"Content-Type": "application/json"} if body is not None else {}
        try:
            async with self._session.request(
                ask.method, self._base + ask.path, data=body, headers=headers, allow_redirects=False
            ) as response:
                text = await response.content.read(_ANSWER_BYTES + 1)
                while not response.content.at_eof() and len(text) <= _ANSWER_BYTES:
                    text += await response.content.read(_ANSWER_BYTES + 1 - len(text))
                if response.status >= 300:
                    raise self._refused(response.status, response.headers, text)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._failed(error) from error
        if len(text) > _ANSWER_BYTES:
            raise ForgeUnreachable(f"{self._shown} sends more than {_ANSWER_BYTES >> 20} MiB")
        try:
            return json.loads(text) if text.strip() else None
        except (ValueError, RecursionError):
            raise ForgeUnreachable(
                f"{self._shown} does not answer in JSON", hint="Check `pull_request.host` of the update."
            ) from None

    def _token(self) -> str:
        try:
            token = read_named(self._token_file, _TOKEN_BYTES).strip().decode("ascii")
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it holds more than a token"
            raise ForgeDenied(f"{self._shown}: the token file {self._token_file} cannot be read: {why}") from error
        if not token or not token.isprintable() or " " in token:
            raise ForgeDenied(f"{self._shown}: the token file {self._token_file} does not hold a token alone")
        return token

    def _trusting(self) -> ssl.SSLContext:
        try:
            return trusting(self._ca_file)
        except ValueError as error:
            raise ForgeDenied(
                f"{self._shown}: the CA file {self._ca_file} cannot be used: {error}",
                hint="Check `tls.ca_file` of the source.",
            ) from error

    def _refused(self, status: int, headers: Mapping[str, str], text: bytes) -> ForgeError:
        said = _said(text, self._secret)
        words = f": {said}" if said else ""
        # GitHub says 403, too, where it wants to be asked less often.
        if status == 429 or (
            status == 403 and (headers.get("Retry-After") or headers.get("X-RateLimit-Remaining") == "0")
        ):
            pause = _pause_s(headers)
            return ForgeUnreachable(
                f"{self._shown} asks to slow down ({status})" + (f", for {pause} s" if pause else "")
            )
        if status in {401, 403}:
            return ForgeDenied(f"{self._shown} refuses the token of {self._token_file} ({status}){words}")
        if status == 404:
            return ForgeDenied(
                f"{self._shown} shows no such repository (404)",
                hint="Check `url` of the source, `pull_request.host`, and what the token's user may see.",
            )
        if 300 <= status < 400:
            return ForgeRefused(f"{self._shown} answers with a redirect ({status}), which is not followed")
        if status < 500:
            return ForgeRefused(f"{self._shown} does not accept the request ({status}){words}")
        return ForgeUnreachable(f"{self._shown} answers with status {status}")

    def _failed(self, error: Exception) -> ForgeError:
        found = failure(error)
        if found.kind is Trouble.CERTIFICATE:
            return ForgeDenied(f"{self._shown}: {found.words}", hint="Check `tls.ca_file` of the source.")
        return ForgeUnreachable(f"{self._shown}: {found.words}")


def _said(text: bytes, secret: str) -> str:
    """The forge's own words, in what all three write their errors in; without what it was told in confidence."""
    try:
        answer = json.loads(text)
        found = answer.get("message") or answer.get("error") or ""
        details = [str(each.get("message", "")) for each in answer.get("errors") or () if isinstance(each, dict)]
    except (ValueError, AttributeError, TypeError, RecursionError):
        return ""
    words = "; ".join(part for part in (str(found), *details) if part).replace(secret, "***")
    return "".join(sign if sign.isprintable() else " " for sign in words)[:_SAID_CHARS]


def _pause_s(headers: Mapping[str, str]) -> int | None:
    pause = headers.get("Retry-After", "")
    if pause.isascii() and pause.isdecimal():
        return int(pause)
    reset = headers.get("X-RateLimit-Reset", "")
    return max(0, int(reset) - int(time.time())) if reset.isascii() and reset.isdecimal() else None
