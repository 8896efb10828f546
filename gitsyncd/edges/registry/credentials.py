"""Credentials for registries, by file: a password, a token, or the file that `docker login` writes.

Files are read at each use, so that replacing them needs no restart. A docker configuration may leave a registry to a
program (`credHelpers`, `credsStore`); whether it is run, and what comes of it, is decided in `helper`.
"""

from __future__ import annotations

import re
from base64 import b64decode
from dataclasses import field
from pathlib import Path
from typing import Any, Final, TypeVar

import orjson

from gitsyncd.edges.named_file import read_named
from gitsyncd.model.errors import RegistryDenied
from gitsyncd.model.immutable import immutable

_Kind = TypeVar("_Kind")
_HELPER: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SECRET_BYTES: Final = 1 << 20
_HUB: Final = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")
"""By what `docker login` without an address files its credentials, and what people write."""


IDENTITY: Final = "an identity token"


@immutable
class Login:
    """What is sent: `bearer` alone, or `username` and `password`; `identity` is exchanged for tokens by a token server.

    `shown` is what an error may say of it.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)
    identity: str = field(default="", repr=False)
    shown: str
    file: Path


@immutable
class Left:
    """That the credentials for a server are left to a credential helper, `docker-credential-<name>`."""

    name: str
    server: str
    """As the helper knows it."""
    file: Path
    """Where that stands."""
    is_certain: bool
    """Whether the file speaks of this server, and not of all that there are."""


@immutable
class Password:
    username: str
    file: Path

    def login(self, _server: str) -> Login | None:
        """Raises `RegistryDenied`, as all of these do."""
        text = _line(self.file, "auth.password_file")
        return Login(username=self.username, password=text, shown=f"user {self.username!r}", file=self.file)


@immutable
class Bearer:
    file: Path

    def login(self, _server: str) -> Login | None:
        text = _line(self.file, "auth.bearer_file")
        if not text.isascii() or not text.isprintable() or " " in text:
            raise RegistryDenied(
                f"the token file {self.file} holds more than a token",
                hint="Write the token alone into the file of `auth.bearer_file`, on one line.",
            )
        return Login(bearer=text, shown="the token", file=self.file)


@immutable
class DockerConfig:
    """`~/.docker/config.json`, or the `.dockerconfigjson` of a Secret."""

    file: Path

    def login(self, server: str) -> Login | Left | None:
        """None where the file has nothing for that server."""
        content = _read(self.file, "auth.docker_config_file")
        try:
            found = orjson.loads(content)
        except orjson.JSONDecodeError:
            found = None
        if not isinstance(found, dict):
            raise self._unusable("it is no configuration of docker")
        entry = self._entry(found, "auths", server, dict)
        if entry:
            if isinstance(identity := entry.get("identitytoken"), str) and identity:
                return Login(identity=identity, shown=IDENTITY, file=self.file)
            username, password = self._pair(entry)
            if username and password:
                return Login(username=username, password=password, shown=f"user {username!r}", file=self.file)
        own = self._entry(found, "credHelpers", server, str)
        helper = own or found.get("credsStore")
        if not helper:
            return None
        if not isinstance(helper, str) or not _HELPER.fullmatch(helper):
            raise self._unusable("it names a credential helper that is none")
        called = _HUB[0] if server in _HUB else server
        return Left(name=helper, server=called, file=self.file, is_certain=bool(own) or entry is not None)

    def _entry(self, found: dict[str, Any], key: str, server: str, kind: type[_Kind]) -> _Kind | None:
        """What stands there for a server, by whichever of its names."""
        listed = found.get(key, {})
        if not isinstance(listed, dict):
            raise self._unusable("it is no configuration of docker")
        return next((value for name in _names(server) if isinstance(value := listed.get(name), kind)), None)

    def _pair(self, entry: dict[str, Any]) -> tuple[str, str]:
        username, password, packed = (entry.get(key) for key in ("username", "password", "auth"))
        if isinstance(packed, str) and packed:
            try:
                username, _, password = b64decode(packed, validate=True).decode().partition(":")
            except ValueError:
                raise self._unusable("an `auth` in it is not base64 of user and password") from None
        return (username, password) if isinstance(username, str) and isinstance(password, str) else ("", "")

    def _unusable(self, why: str) -> RegistryDenied:
        return RegistryDenied(
            f"the docker configuration {self.file} cannot be used: {why}",
            hint="Name a file with `auths` in it, as `docker login` writes without a credential store.",
        )


Credentials = Password | Bearer | DockerConfig


def _names(server: str) -> tuple[str, ...]:
    if server in _HUB:
        return _HUB
    return (server, f"https://{server}", f"https://{server}/v1/", f"https://{server}/v2/")


def _line(file: Path, key: str) -> str:
    try:
        text = _read(file, key).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        text = ""
    if not text:
        raise RegistryDenied(f"the file {file} is empty or no text", hint=f"Check `{key}` of this registry.")
    return text


def _read(file: Path, key: str) -> bytes:
    try:
        return read_named(file, _SECRET_BYTES)
    except OSError as error:
        raise RegistryDenied(
            f"the file {file} cannot be read: {error.strerror}",
            hint=f"Check `{key}` of this registry, and that the agent's user may read it.",
        ) from error
