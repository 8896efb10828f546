"""Which keys a server may have, from a known_hosts file as ssh reads it (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT").

Names are matched and never addresses: a key that is listed for an address is not one of whatever name leads there.
Keys are compared as they are written. Those that are too weak, or of a kind that nobody offers any more, are passed by.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Iterable

from gitsyncd.model.immutable import immutable

_WEAKEST_RSA_BITS = 2048
_MARKERS = {"@cert-authority": "authority", "@revoked": "revoked"}


class UnreadableLine(Exception):
    """A line that has to be understood to be safe. The text says which."""


@immutable(kw_only=False)
class HostKey:
    """A public key, and where in the file it stands."""

    blob: bytes
    line: int

    @property
    def kind(self) -> str:
        """Such as `ssh-ed25519`."""
        return _string(self.blob)[0].decode()

    @property
    def text(self) -> str:
        """As a file of public keys has it."""
        return f"{self.kind} {b64encode(self.blob).decode()}"


@immutable(kw_only=False)
class KnownHost:
    """What a file says of one server."""

    trusted: tuple[HostKey, ...]
    authorities: tuple[HostKey, ...]
    """Whoever signs certificates for this server."""
    revoked: tuple[HostKey, ...]


def fingerprint(blob: bytes) -> str:
    """As `ssh-keygen -l` shows it."""
    return "SHA256:" + b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def known_host(content: str, host: str, port: int) -> KnownHost:
    """What the content of a known_hosts file says of `host` (a name or an address) at `port`.

    A server at another port than 22 is `[host]:port`; only when no key is listed for that, those of `host` count, as
    with ssh. What is revoked for either is revoked. Raises `UnreadableLine`.
    """
    entries = list(_entries(content))
    plain = host.lower()
    name = plain if port == 22 else f"[{plain}]:{port}"
    found = _listed(entries, name)
    if name == plain:
        return found
    fallback = _listed(entries, plain)
    revoked = found.revoked + fallback.revoked
    if not found.trusted and not found.authorities:
        found = fallback
    return KnownHost(found.trusted, found.authorities, revoked)


@immutable(kw_only=False)
class _Entry:
    meaning: str
    names: str
    key: HostKey


def _entries(content: str) -> Iterable[_Entry]:
    for number, line in enumerate(content.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        meaning = "trusted"
        if words[0].startswith("@"):
            meaning = _MARKERS.get(words.pop(0), "")
        blob = _blob(words[1:3])
        if blob is not None and meaning:
            yield _Entry(meaning, words[0], HostKey(blob, number))
        elif meaning in {"", "revoked"}:
            # Passed by, it would let in what somebody wanted kept out.
            raise UnreadableLine(f"line {number} cannot be read")


def _blob(words: list[str]) -> bytes | None:
    """The key behind its kind and base64; None for what is none."""
    if len(words) < 2:
        return None
    try:
        blob = b64decode(words[1], validate=True)
        kind, _ = _string(blob)
    except (binascii.Error, ValueError):
        return None
    return blob if kind == words[0].encode() else None


def _string(data: bytes) -> tuple[bytes, bytes]:
    """The first string of SSH's encoding (RFC 4251), and what follows."""
    size = int.from_bytes(data[:4])
    if len(data) < 4 + size:
        raise ValueError("shorter than it says")
    return data[4 : 4 + size], data[4 + size :]


def _listed(entries: Iterable[_Entry], name: str) -> KnownHost:
    keys: dict[str, list[HostKey]] = {"trusted": [], "authority": [], "revoked": []}
    for entry in entries:
        if (entry.meaning == "revoked" or not _weak(entry.key)) and _matches(entry.names, name):
            keys[entry.meaning].append(entry.key)
    return KnownHost(tuple(keys["trusted"]), tuple(keys["authority"]), tuple(keys["revoked"]))


def _weak(key: HostKey) -> bool:
    if key.kind == "ssh-dss":
        return True
    if key.kind != "ssh-rsa":
        return False
    try:
        _, rest = _string(key.blob)
        _, rest = _string(rest)
        modulus, _ = _string(rest)
    except ValueError:
        return True
    return int.from_bytes(modulus).bit_length() < _WEAKEST_RSA_BITS


def _matches(names: str, name: str) -> bool:
    """A list of patterns with `*` and `?`, where one with `!` excludes; or one name that was hashed."""
    if names.startswith("|"):
        return _matches_hash(names, name)
    matched = False
    for pattern in names.lower().split(","):
        wanted = pattern.removeprefix("!")
        expression = re.escape(wanted).replace(r"\*", ".*").replace(r"\?", ".")
        if re.fullmatch(expression, name):
            if pattern.startswith("!"):
                return False
            matched = True
    return matched


def _matches_hash(names: str, name: str) -> bool:
    try:
        _, kind, salt, digest = names.split("|")
        return kind == "1" and hmac.compare_digest(
            hmac.digest(b64decode(salt, validate=True), name.encode(), "sha1"), b64decode(digest, validate=True)
        )
    except (ValueError, binascii.Error):
        return False
