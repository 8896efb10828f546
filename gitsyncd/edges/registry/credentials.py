"""Credentials for registries, by file: a password, a token, or the file that `docker login` writes.

Files are read at each use, so that replacing them needs no restart. Helpers that a docker configuration names
(`credHelpers`, `credsStore`) are programs, and are not run.
"""

from __future__ import annotations

import errno
import os
from base64 import b64decode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import orjson

from gitsyncd.model.errors import RegistryDenied

_SECRET_BYTES: Final = 1 << 20
_HUB: Final = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", "registry-1.docker.io")
"""By what `docker login` without an address files its credentials, and what people write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """What is sent: `bearer` alone, or `username` and `password`. `shown` is what an error may say of it."""

    username: str = ""
    password: str = field(default="", repr=False)
    bearer: str = field(default="", repr=False)
    shown: str
    file: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Password:
    username: str
    file: Path

    def login(self, _server: str) -> Login | None:
        """Raises `RegistryDenied`, as all of these do."""
        text = _line(self.file, "auth.password_file")
        return Login(username=self.username, password=text, shown=f"user {self.username!r}", file=self.file)


@dataclass(frozen=True, slots=True, kw_only=True)
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


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerConfig:
    """`~/.docker/config.json`, or the `.dockerconfigjson` of a Secret."""

    file: Path

    def login(self, server: str) -> Login | None:
        """None where the file has nothing for that server."""
        content = _read(self.file, "auth.docker_config_file")
        try:
            found = orjson.loads(content)
        except orjson.JSONDecodeError:
            found = None
        listed = found.get("auths", {}) if isinstance(found, dict) else None
        if not isinstance(listed, dict):
            raise self._unusable("it is no configuration of docker")
        entry = next((listed[name] for name in _names(server) if isinstance(listed.get(name), dict)), None)
        if entry is not None:
            username, password = self._pair(entry)
            if username and password:
                return Login(username=username, password=password, shown=f"user {username!r}", file=self.file)
        helpers = found.get("credHelpers") if isinstance(found, dict) else None
        if (isinstance(helpers, dict) and server in helpers) or (entry is not None and found.get("credsStore")):
            raise self._unusable(f"it leaves {server} to a credential helper, and no program is run for it")
        return None

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
        # Not to wait for whoever writes to a pipe: this thread would be lost.
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(file, flags), "rb") as opened:
            content = opened.read(_SECRET_BYTES + 1)
        if len(content) > _SECRET_BYTES:
            raise OSError(errno.EFBIG, f"it is larger than {_SECRET_BYTES >> 20} MiB")
        return content
    except OSError as error:
        raise RegistryDenied(
            f"the file {file} cannot be read: {error.strerror}",
            hint=f"Check `{key}` of this registry, and that the agent's user may read it.",
        ) from error
