"""A source of the agent file: its address, and the one way among several to say who asks.

What does not go together is told here: two ways at once, half of one, and a way that the address does not have.
"""

from __future__ import annotations

from pathlib import Path

from gitsyncd.edges.config import schema
from gitsyncd.edges.config.files import Files
from gitsyncd.edges.config.image_schema import RegistryHook
from gitsyncd.edges.config.mistakes import Mistakes
from gitsyncd.edges.config.section import Auth
from gitsyncd.edges.yaml.agentfile import KeyPath
from gitsyncd.model.address import SshAddress, is_ssh
from gitsyncd.model.hook import Hook, HookKind
from gitsyncd.model.immutable import immutable
from gitsyncd.model.source import (
    BearerAuth,
    CertificateAuth,
    GitAuth,
    OnRewind,
    PasswordAuth,
    Repository,
    Source,
    SshAuth,
)
from gitsyncd.model.units import parse_duration


@immutable
class _Way:
    """One way to say who asks: the keys that it takes, and the kind of address that has it."""

    needs: tuple[str, ...]
    takes: tuple[str, ...] = ()
    kind: str


_WAYS = (
    _Way(
        needs=("username", "password_file"),
        kind="https",
    ),
    _Way(
        needs=("bearer_file",),
        kind="https",
    ),
    _Way(
        needs=("client_cert_file", "client_key_file"),
        kind="https",
    ),
    _Way(
        needs=("ssh_key_file", "known_hosts_file"),
        takes=("ssh_key_passphrase_file", "username"),
        kind="ssh",
    ),
)
_ADDRESSES = {"https": "an https:// address", "ssh": "an address over SSH", "file": "a file:// address"}
_FIXES = {
    "https": "write username and password_file, bearer_file, or client_cert_file and client_key_file",
    "ssh": "write ssh_key_file and known_hosts_file",
}


def source(item: schema.Source, at: KeyPath, files: Files, mistakes: Mistakes) -> Source:
    """What the file says of one source; only to be used when there is no mistake."""
    kind = address_kind(item.url)
    _fits(item, kind, at, mistakes)
    return Source(
        name=item.name,
        repository=Repository(
            url=item.url,
            auth=_auth(item.auth, item.url, kind, (*at, "auth"), files, mistakes) if item.auth else None,
            ca_file=files.readable(item.tls.ca_file, (*at, "tls", "ca_file")) if item.tls else None,
        ),
        branch=item.ref.branch,
        interval=parse_duration(item.interval),
        timeout=parse_duration(item.timeout),
        on_rewind=OnRewind(item.on_rewind),
        webhook=hook(item.webhook, (*at, "webhook"), files),
    )


def hook(item: schema.Hook | RegistryHook | None, at: KeyPath, files: Files) -> Hook | None:
    """Who may ring."""
    if item is None:
        return None
    secret = files.readable(item.secret_file, (*at, "secret_file"), secret=True)
    return Hook(kind=HookKind(item.kind), secret_file=secret or Path())


def _fits(item: schema.Source, kind: str, at: KeyPath, mistakes: Mistakes) -> None:
    """The keys of a source beside its address."""
    if kind == "file" and item.auth:
        mistakes.add((*at, "auth"), "means nothing for a file:// address", "remove it")
    if kind != "https" and item.tls:
        mistakes.add((*at, "tls"), f"means nothing for {_ADDRESSES[kind]}", "remove it")
    if kind == "ssh" and not item.auth and not mistakes.spoilt(*at, "auth"):
        what = "is an address over SSH, which takes a key and the keys that the server may have"
        mistakes.add((*at, "url"), what, "write auth: {ssh_key_file: …, known_hosts_file: …}")


def credentials(auth: Auth, url: str, at: KeyPath, files: Files, mistakes: Mistakes) -> GitAuth | None:
    """Others than the source's own, for the same address. None after a mistake."""
    kind = address_kind(url)
    if kind == "file":
        mistakes.add(at, "means nothing for a file:// address", "remove it")
        return None
    return _auth(auth, url, kind, at, files, mistakes)


def address_kind(url: str) -> str:
    """`https`, `ssh` or `file`."""
    return "ssh" if is_ssh(url) else url.partition(":")[0]


def _auth(auth: Auth, url: str, kind: str, at: KeyPath, files: Files, mistakes: Mistakes) -> GitAuth | None:
    paths = {
        key: files.readable(getattr(auth, key), (*at, key), secret=key in _SECRET)
        for key in Auth.model_fields
        if key.endswith("_file")
    }
    if kind == "file" or mistakes.spoilt(*at):
        return None
    way = _way(auth, kind, at, mistakes)
    if way is not None and "username" in way.takes and auth.username:
        _user(auth.username, url, (*at, "username"), mistakes)
    if way is None or mistakes.spoilt(*at):
        return None
    return _built(auth.username or "", paths)


_SECRET = frozenset({"password_file", "bearer_file", "client_key_file", "ssh_key_file", "ssh_key_passphrase_file"})


def _way(auth: Auth, kind: str, at: KeyPath, mistakes: Mistakes) -> _Way | None:
    """The one that is meant. None after a mistake that leaves it open."""
    given = [key for key in Auth.model_fields if getattr(auth, key) is not None]
    meant = [way for way in _WAYS if any(key in given for key in (*way.needs, *way.takes) if key != "username")]
    if not meant and "username" in given and kind == _WAYS[0].kind:
        meant = [_WAYS[0]]
    if not meant:
        mistakes.add(at, "names no credentials", _FIXES[kind])
        return None
    if len(meant) > 1:
        first, second = (
            next(key for key in (*way.needs, *way.takes) if key in given and key != "username") for way in meant[:2]
        )
        mistakes.add((*at, second), f"excludes {first}", "keep one of them")
        return None
    way = meant[0]
    keys = [key for key in (*way.needs, *way.takes) if key in given]
    if kind != way.kind:
        mistakes.add(
            (*at, next(key for key in keys if key != "username")), f"belongs to {_ADDRESSES[way.kind]}", _FIXES[kind]
        )
        return None
    for missing in (key for key in way.needs if key not in given):
        mistakes.add((*at, keys[0]), f"stands without {missing}", f"write {missing} too")
    if "username" in given and "username" not in keys:
        mistakes.add((*at, "username"), f"means nothing beside {keys[0]}", "remove it")
    return way


def _user(username: str, url: str, at: KeyPath, mistakes: Mistakes) -> None:
    """The user over SSH may stand in the address, as everybody writes it, or here."""
    address = SshAddress.parse(url)
    if address.user and address.user != username:
        mistakes.add(at, "is another user than that of url", "keep one of them")
    elif not SshAddress.is_user(username):
        mistakes.add(at, "is no plain name", "write letters, digits, - _ . and +, such as git")


def _built(username: str, paths: dict[str, Path | None]) -> GitAuth | None:
    match paths:
        case {"password_file": Path() as password}:
            return PasswordAuth(username=username, password_file=password)
        case {"bearer_file": Path() as token}:
            return BearerAuth(token_file=token)
        case {"client_cert_file": Path() as cert, "client_key_file": Path() as key}:
            return CertificateAuth(cert_file=cert, key_file=key)
        case {"ssh_key_file": Path() as key, "known_hosts_file": Path() as hosts}:
            phrase = paths["ssh_key_passphrase_file"]
            return SshAuth(key_file=key, known_hosts_file=hosts, passphrase_file=phrase, username=username)
    return None
