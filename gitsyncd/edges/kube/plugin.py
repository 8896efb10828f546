"""Exec credential plugins: a program that prints a token or a client certificate (`client.authentication.k8s.io`).

A kubeconfig can only choose among the programs that the agent file lists; how they run is said in `child.credentials`.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

from gitsyncd.edges.child.credentials import DEADLINE, run_for_credentials
from gitsyncd.edges.child.program import by_name, why_unsafe
from gitsyncd.model.errors import ConfigError, GitsyncdError, LocalError
from gitsyncd.model.immutable import immutable

API_GROUP = "client.authentication.k8s.io"
VERSIONS = frozenset({f"{API_GROUP}/v1", f"{API_GROUP}/v1beta1"})

LEAD = timedelta(seconds=60)
"""A credential is renewed so long before it expires, or when a tenth of its life is left, whichever is earlier."""

RETRY = timedelta(seconds=10)
"""Between two runs of a plugin that fails, or whose credential is not accepted."""

_SETS_THE_STAGE = re.compile(
    r"(?:LD|DYLD|GIT|BASH|JAVA|JDK)_.*|NODE_(?:OPTIONS|PATH|REPL_.*)|PYTHON[A-Z].*|PERL(?:5.*|LIB|IO.*)|RUBY(?:OPT|LIB|PATH)"
    r"|BASHOPTS|CDPATH|CLASSPATH|CLOUDSDK_PYTHON.*|ENV|GCONV_PATH|GLIBC_TUNABLES|IFS|KUBECONFIG|KUBERNETES_EXEC_INFO"
    r"|OPENSSL_(?:CONF|ENGINES|MODULES)|PATH|PS4|SHELLOPTS|SSLKEYLOGFILE|_JAVA_OPTIONS",
    re.IGNORECASE,
)
"""Variables by which something else than the listed program would be run or loaded."""


@immutable
class Plugin:
    """What a kubeconfig says of its plugin."""

    command: str
    api_version: str
    args: tuple[str, ...] = field(default=(), repr=False)
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cluster: Mapping[str, Any] | None = field(default=None, repr=False)
    """What the program is told of the cluster; None for nothing."""


@immutable
class Credential:
    """What a plugin printed."""

    token: str = field(default="", repr=False)
    cert: str = field(default="", repr=False)
    key: str = field(default="", repr=False)
    expires: datetime | None = None


class Login:
    """The credential of one cluster's plugin: kept while it is good, renewed in time, not asked for in vain."""

    def __init__(
        self,
        listed: Sequence[Path],
        home: Path,
        *,
        subject: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._listed = listed
        self._home = home
        self._subject = subject
        self._now = now
        self._plugin: Plugin | None = None
        self._credential: Credential | None = None
        self._got_at = self._renew_at = datetime.min.replace(tzinfo=UTC)
        self._failure: GitsyncdError | None = None
        self._rejected = False
        self._again_at = self._got_at

    async def credential(self, plugin: Plugin, folder: Path) -> Credential:
        """One that is good, as far as is known. `folder` is the kubeconfig's. Raises `ConfigError`, `LocalError`."""
        if plugin != self._plugin:
            self._plugin, self._credential, self._failure, self._rejected = plugin, None, None, False
        if self._credential is not None and not self.due:
            return self._credential
        if self._failure is None or self._now() >= self._again_at:
            await self._renew(plugin, folder)
        if self._failure is not None and (self._credential is None or self.expired or self._rejected):
            raise copy.copy(self._failure)
        assert self._credential is not None
        return self._credential

    @property
    def due(self) -> bool:
        """Whether it is time to ask for another one."""
        if self._failure is not None and self._now() < self._again_at:
            return False
        return self._credential is not None and self._now() >= self._renew_at

    @property
    def expired(self) -> bool:
        """Whether the last one is of no use any more."""
        credential = self._credential
        return credential is not None and credential.expires is not None and self._now() >= credential.expires

    def rejected(self) -> None:
        """The server does not accept it. One that has only just been printed would be printed again."""
        if self._now() - self._got_at >= RETRY:
            self._renew_at, self._rejected = self._got_at, True

    async def _renew(self, plugin: Plugin, folder: Path) -> None:
        asked_at = self._now()
        try:
            program = self._program(plugin.command, folder)
            found = await _run(program, plugin, self._home, self._subject)
            if found.expires is not None and found.expires <= self._now():
                raise ConfigError(
                    f"the credential plugin {program} printed a credential that has expired already",
                    subject=self._subject,
                    hint="Check the clock of this machine, and what the plugin keeps.",
                )
        except (ConfigError, LocalError) as error:
            self._failure, self._again_at = error, self._now() + RETRY
            return
        self._credential, self._failure, self._rejected = found, None, False
        self._got_at = asked_at
        self._renew_at = renew_at(asked_at, found.expires)

    def _program(self, command: str, folder: Path) -> Path:
        program = listed_as(command, self._listed, folder)
        if program is None:
            raise ConfigError(
                "its user names a program to run for credentials (`exec`) that `agent.exec_plugins` does not list",
                subject=self._subject,
                hint="List it there by its absolute name if it may be run. Otherwise make a service account for the "
                "agent and use its token (`tokenFile`, or `server`, `ca_file` and `token_file` in the agent file), or "
                "a client certificate.",
            )
        if why := why_unsafe(program):
            raise ConfigError(
                f"the credential plugin {program} {why}",
                subject=self._subject,
                hint="Install it as root: mode 0755, in a folder that only root can write to.",
            )
        return program


def listed_as(command: str, listed: Sequence[Path], folder: Path) -> Path | None:
    """The listed program that a kubeconfig means.

    A bare name means the one listed program that has it; where two have it, none. A relative name with a slash begins
    at the kubeconfig's folder, as in kubectl.
    """
    if "/" in command:
        wanted = Path(os.path.normpath(folder / command))
        return wanted if wanted in listed else None
    return by_name(command, listed)


def renew_at(got_at: datetime, expires: datetime | None) -> datetime:
    """When to ask for the next one: early enough to try more than once, and never in the first half of its life."""
    if expires is None:
        return datetime.max.replace(tzinfo=UTC)
    life = max(expires - got_at, timedelta())
    return expires - min(max(LEAD, life / 10), life / 2)


async def _run(program: Path, plugin: Plugin, home: Path, subject: str) -> Credential:
    env = _environment(plugin, subject)
    child = await run_for_credentials(program, plugin.args, home=home, env=env, subject=subject, deadline=DEADLINE)
    by_hand = (
        f"Run {program} as the agent's user to see why: what it says is not shown here, since it may hold secrets. "
        f"It is run again every {RETRY.seconds} s while it is needed."
    )
    if not child.succeeded:
        raise ConfigError(f"the credential plugin {program} failed: {child}", subject=subject, hint=by_hand)
    try:
        return parsed(child.stdout, plugin.api_version)
    except ValueError as error:
        raise ConfigError(f"the credential plugin {program} printed {error}", subject=subject, hint=by_hand) from None


def _environment(plugin: Plugin, subject: str) -> dict[str, str]:
    for name in plugin.env:
        if _SETS_THE_STAGE.fullmatch(name):
            raise ConfigError(
                f"its credential plugin is to be given the variable {name}, which could run something else",
                subject=subject,
                hint="Remove it from `env` of the kubeconfig's `exec`.",
            )
    spec: dict[str, Any] = {"interactive": False}
    if plugin.cluster is not None:
        spec["cluster"] = plugin.cluster
    told = {"apiVersion": plugin.api_version, "kind": "ExecCredential", "spec": spec}
    return dict(plugin.env) | {"KUBERNETES_EXEC_INFO": orjson.dumps(told).decode()}


def parsed(output: bytes, api_version: str) -> Credential:
    """Raises `ValueError` with what is wrong, in words that go after "printed" and quote nothing."""
    try:
        answer = orjson.loads(output)
    except orjson.JSONDecodeError:
        raise ValueError("no JSON") from None
    if not isinstance(answer, dict) or answer.get("kind") != "ExecCredential":
        raise ValueError("no ExecCredential")
    if answer.get("apiVersion") != api_version:
        raise ValueError(f"an ExecCredential of another version than {api_version}")
    status = answer.get("status")
    status = status if isinstance(status, dict) else {}
    token, cert, key = (_text(status, name) for name in ("token", "clientCertificateData", "clientKeyData"))
    if bool(cert) != bool(key):
        raise ValueError("a client certificate without its key, or a key alone")
    if not token and not cert:
        raise ValueError("neither a token nor a client certificate")
    return Credential(token=token.strip(), cert=cert, key=key, expires=_moment(status))


def _text(status: Mapping[str, Any], name: str) -> str:
    value = status.get(name)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"a {name} that is no text")
    return value or ""


def _moment(status: Mapping[str, Any]) -> datetime | None:
    text = _text(status, "expirationTimestamp")
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("an expirationTimestamp that is no time") from None
    raise ValueError("an expirationTimestamp without a time zone")
