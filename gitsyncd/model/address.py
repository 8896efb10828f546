"""Addresses of repositories over SSH, in the two ways in which Git writes them.

    ssh://[user@]host[:port]/path        user@host:path

Only plain names pass. The path becomes a word of a command line on the server, and the rest is shown to people, so what
could mean something to a shell, to a program's options or to a terminal is refused here, once for every place.
"""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit, urlunsplit

from gitsyncd.model.immutable import immutable

SSH_PORT = 22
DEFAULT_USER = "git"
"""What every forge calls it. The name of the user that the agent runs as would mean nothing there."""

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_HOST_V6 = re.compile(r"[0-9A-Fa-f]*:[0-9A-Fa-f:.]*")
_PATH = re.compile(r"[\w./~+@:=,%-]+")
_SHORT = re.compile(r"(?P<user>[^/@:]+)@(?P<host>\[[^\]/@]*\]|[^/@:\[\]]+):(?P<path>.*)", re.DOTALL)


@immutable
class SshAddress:
    """Where a repository is, over SSH."""

    user: str
    """Empty when the address names none."""
    host: str
    """In lower case; an IPv6 address without brackets."""
    port: int
    path: str
    """As the server is asked for it: absolute, relative to its home, or with `~`."""

    @classmethod
    def parse(cls, url: str) -> SshAddress:
        """Raises `ValueError` with what is wrong, in words that quote nothing of the address: it may hold a secret."""
        if url.startswith("ssh://"):
            user, host, port, path = _of_url(url)
        elif (short := _SHORT.fullmatch(url)) is not None:
            user, host, port, path = short["user"], short["host"].strip("[]"), SSH_PORT, short["path"]
        else:
            raise ValueError("is no address over SSH")
        if user and not cls.is_user(user):
            raise ValueError("has a user that is no plain name")
        if not (_HOST.fullmatch(host) or _HOST_V6.fullmatch(host)):
            raise ValueError("has a host that is no plain name")
        if not _PATH.fullmatch(path) or path.startswith("-") or path.strip("/") in {"", "~"}:
            raise ValueError(
                "has a path that is empty, begins with a dash or holds other signs than letters, digits and ./~+@:=,%_-"
            )
        return cls(user=user, host=host.lower(), port=port, path=path)

    @staticmethod
    def is_user(text: str) -> bool:
        """Whether it is a plain name of a user."""
        return _USER.fullmatch(text) is not None

    @property
    def known_as(self) -> str:
        """The host as a known_hosts file names it."""
        return self.host if self.port == SSH_PORT else f"[{self.host}]:{self.port}"


def is_ssh(url: str) -> bool:
    """Whether it is meant as an address over SSH, however wrong it may be."""
    return url.startswith("ssh://") or ("://" not in url and re.match(r"[^/]*@[^/]*:", url) is not None)


def redacted(url: str) -> str:
    """The URL without user, password, query and fragment."""
    if "://" not in url:
        return url.rpartition("@")[2]
    try:
        parts = urlsplit(url)
    except ValueError:
        return "the URL"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _of_url(url: str) -> tuple[str, str, int, str]:
    if "?" in url or "#" in url:
        raise ValueError("has a ? or a # in it")
    try:
        parts = urlsplit(url)
        port = parts.port
        path = unquote(parts.path, errors="strict")
    except ValueError:
        raise ValueError("has a port that is no number, or signs that are no text") from None
    user, found, host = parts.netloc.rpartition("@")
    if found and not user:
        raise ValueError("has a user that is no plain name")
    if ":" in user:
        raise ValueError("holds a password")
    if port == 0:
        raise ValueError("has the port 0")
    # As git does: `ssh://host/~user/x` is below that user's home.
    path = path.removeprefix("/") if path.startswith("/~") else path
    return user, (parts.hostname or host), SSH_PORT if port is None else port, path
