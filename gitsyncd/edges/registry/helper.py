"""Credential helpers: programs that docker configurations leave registries to (docker/docker-credential-helpers).

A docker configuration can only choose among the programs that the agent file lists; how they run is said in
`child.credentials`. What one prints is kept for some minutes, renewed when the registry does not take it, and used on
when a renewal fails: registries are asked often, and some helpers ask a cloud each time.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import orjson

from gitsyncd.edges.child.credentials import run_for_credentials
from gitsyncd.edges.child.process import ChildResult
from gitsyncd.edges.child.program import by_name, why_unsafe
from gitsyncd.edges.registry.credentials import IDENTITY, Left, Login
from gitsyncd.model.errors import GitsyncdError, LocalError, RegistryDenied

_KEPT_S: Final = 600.0
_RETRY_S: Final = 10.0
"""Between two runs of a helper that fails, or whose credentials are not accepted."""
_NOT_FOUND: Final = b"credentials not found in native keychain"
"""What helpers print where they have none (credentials/error.go there)."""
_IDENTITY: Final = "<token>"
"""The name of a user that is none: what comes with it is no password, but is exchanged for a token."""


class Helper:
    """What the helper of one registry has printed. Several tasks may ask at a time; it is run by one."""

    def __init__(self, listed: Sequence[Path], home: Path, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`listed` are the programs that may be run; `home` is a folder of theirs."""
        self._listed = listed
        self._home = home
        self._clock = clock
        self._lock = asyncio.Lock()
        self._left: Left | None = None
        self._login: Login | None = None
        self._failure: GitsyncdError | None = None
        self._got_at = self._again_at = -float("inf")

    async def login(self, left: Left) -> Login | None:
        """None where the helper has nothing for that server. Raises `RegistryDenied`, `LocalError`."""
        async with self._lock:
            if left != self._left:
                self._left, self._login, self._failure, self._again_at = left, None, None, -float("inf")
            if self._clock() >= self._again_at:
                await self._renew(left)
            if self._failure is not None and self._login is None:
                raise copy.copy(self._failure)
            return self._login

    def rejected(self, login: Login) -> bool:
        """The registry does not accept it. Whether another may be had: what was just printed would be printed again."""
        if login is not self._login:
            return True
        if self._clock() - self._got_at < _RETRY_S:
            return False
        self._login, self._again_at = None, -float("inf")
        return True

    async def _renew(self, left: Left) -> None:
        program = by_name(f"docker-credential-{left.name}", self._listed)
        try:
            if program is None and not left.is_certain:
                self._login = None
            else:
                self._login = await self._run(left, program)
        except (RegistryDenied, LocalError) as error:
            self._failure, self._again_at = error, self._clock() + _RETRY_S
            return
        self._failure = None
        self._got_at = self._clock()
        self._again_at = self._got_at + _KEPT_S

    async def _run(self, left: Left, program: Path | None) -> Login | None:
        if program is None:
            raise RegistryDenied(
                f"{left.file} leaves {left.server} to the credential helper docker-credential-{left.name}, which "
                "`images.credential_helpers` does not list",
                hint="List it there by its absolute name if it may be run, or name a file with `auths` in it, as "
                "`docker login` writes without a credential store.",
            )
        if why := await asyncio.to_thread(why_unsafe, program):
            raise RegistryDenied(
                f"the credential helper {program} {why}",
                hint="Install it as root: mode 0755, in a folder that only root can write to.",
            )
        child = await run_for_credentials(
            program, ["get"], home=self._home, env={}, stdin=f"{left.server}\n".encode(), subject=left.server
        )
        return _printed(child, program, left.server)


def _printed(child: ChildResult, program: Path, server: str) -> Login | None:
    if not child.succeeded:
        if child.stdout.strip() == _NOT_FOUND:
            return None
        raise _useless(program, f"failed for {server}: {child}")
    try:
        answer = orjson.loads(child.stdout)
    except orjson.JSONDecodeError:
        answer = None
    username, secret = (answer.get(key) for key in ("Username", "Secret")) if isinstance(answer, dict) else ("", "")
    if not isinstance(username, str) or not isinstance(secret, str) or not username or not secret:
        raise _useless(program, f"printed no user and secret for {server}")
    if username == _IDENTITY:
        return Login(identity=secret, shown=IDENTITY, file=program)
    return Login(username=username, password=secret, shown=f"user {username!r}", file=program)


def _useless(program: Path, what: str) -> RegistryDenied:
    return RegistryDenied(
        f"the credential helper {program} {what}",
        hint=f"Run `{program} get` as the agent's user to see why: what it says is not shown here, since it may hold "
        f"secrets. It is run again every {_RETRY_S:.0f} s while it is needed.",
    )
