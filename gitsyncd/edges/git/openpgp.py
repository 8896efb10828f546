"""Detached OpenPGP signatures by a secret key without passphrase, as `git verify-commit` has gpg check them.

The least of RFC 9580 (and of 4880 before it) that this needs: version 4 keys, RSA or Ed25519, as `gpg
--export-secret-keys` writes them. The first key of the file that can sign does. No gpg program is asked.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from gitsyncd.model.immutable import immutable

_ARMOUR: Final = re.compile(
    rb"-----BEGIN PGP PRIVATE KEY BLOCK-----\n(?:[^\n]+\n)*\n(.*?)(?:\n=[A-Za-z0-9+/]{4})?\n-----END", re.DOTALL
)
_SECRET_KEY, _SECRET_SUBKEY, _SIGNATURE = 5, 7, 2
_RSA, _RSA_SIGN_ONLY, _EDDSA = 1, 3, 22
_ED25519_OID: Final = bytes.fromhex("2b06010401da470f01")
_SHA512: Final = 10
_BINARY: Final = 0
_MAY_SIGN: Final = 0x02
_KEY_FLAGS: Final = 27


class UnusableKey(Exception):
    """The text says why and quotes nothing of the key."""


@immutable
class _Key:
    """One secret key that can sign."""

    algorithm: int
    public: bytes
    """Its packet's public part, from the version on."""
    numbers: tuple[int, ...]
    """RSA: n, e, d, p, q. Ed25519: the secret scalar's seed."""

    @property
    def fingerprint(self) -> bytes:
        body = b"\x99" + len(self.public).to_bytes(2, "big") + self.public
        return hashlib.sha1(body, usedforsecurity=False).digest()


def openpgp_signature(payload: bytes, content: bytes, now: datetime) -> bytes:
    """An armoured signature over the payload. Raises `UnusableKey`."""
    key = _signing_key(_dearmoured(content))
    hashed = _subpacket(2, int(now.timestamp()).to_bytes(4, "big")) + _subpacket(33, b"\x04" + key.fingerprint)
    head = bytes([4, _BINARY, key.algorithm, _SHA512]) + len(hashed).to_bytes(2, "big") + hashed
    trailer = b"\x04\xff" + len(head).to_bytes(4, "big")
    digest = hashlib.sha512(payload + head + trailer).digest()
    unhashed = _subpacket(16, key.fingerprint[-8:])
    body = head + len(unhashed).to_bytes(2, "big") + unhashed + digest[:2] + _value(key, digest)
    packet = bytes([0xC0 | _SIGNATURE, 0xFF]) + len(body).to_bytes(4, "big") + body
    text = base64.b64encode(packet)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    check = b"=" + base64.b64encode(_crc24(packet).to_bytes(3, "big"))
    return b"\n".join([b"-----BEGIN PGP SIGNATURE-----", b"", *lines, check, b"-----END PGP SIGNATURE-----"])


def _value(key: _Key, digest: bytes) -> bytes:
    from cryptography.hazmat.primitives import hashes  # 10 MB, for updates that sign alone
    from cryptography.hazmat.primitives.asymmetric import ed25519, padding, rsa, utils

    if key.algorithm == _EDDSA:
        signed = ed25519.Ed25519PrivateKey.from_private_bytes(key.numbers[0].to_bytes(32, "big")).sign(digest)
        return _mpi(int.from_bytes(signed[:32], "big")) + _mpi(int.from_bytes(signed[32:], "big"))
    n, e, d, p, q = key.numbers
    private = rsa.RSAPrivateNumbers(
        p, q, d, rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q), rsa.RSAPublicNumbers(e, n)
    ).private_key()
    return _mpi(int.from_bytes(private.sign(digest, padding.PKCS1v15(), utils.Prehashed(hashes.SHA512())), "big"))


# --- Reading keys ----------------------------------------------------------------------------------------------------
def _dearmoured(content: bytes) -> bytes:
    if not content.lstrip().startswith(b"-----"):
        return content
    match = _ARMOUR.search(content.replace(b"\r\n", b"\n") + b"\n")
    if match is None:
        raise UnusableKey("it holds no OpenPGP private key")
    try:
        return base64.b64decode(match[1], validate=False)
    except binascii.Error:
        raise UnusableKey("it holds no OpenPGP private key") from None


def _signing_key(data: bytes) -> _Key:
    """The first whose own signatures let it sign data; without any word on that, the first."""
    found: list[tuple[_Key, bool | None]] = []
    locked = False
    latest: _Key | None = None
    try:
        for tag, body in _packets(data):
            if tag in {_SECRET_KEY, _SECRET_SUBKEY}:
                try:
                    latest = _key(body)
                except UnusableKey:
                    locked, latest = True, None
                if latest is not None:
                    found.append((latest, None))
            elif tag == _SIGNATURE and found and latest is found[-1][0]:
                flags = _flags(body)
                if flags is not None and found[-1][1] is None:
                    found[-1] = (found[-1][0], bool(flags & _MAY_SIGN))
    except (IndexError, ValueError):
        raise UnusableKey("it holds no OpenPGP private key that is understood") from None
    for key, may in found:
        if may is not False:
            return key
    if locked:
        raise UnusableKey("its key has a passphrase, or is not in it")
    raise UnusableKey("it holds no OpenPGP private key of version 4, RSA or Ed25519, that may sign")


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and body of each. Raises `IndexError`, `ValueError`."""
    at = 0
    while at < len(data):
        first = data[at]
        if not first & 0x80:
            raise ValueError("no packet")
        at += 1
        if first & 0x40:
            tag = first & 0x3F
            size, at = _new_length(data, at)
        else:
            tag, kind = (first >> 2) & 0x0F, first & 3
            if kind == 3:
                raise ValueError("a packet without a length")
            width = 1 << kind
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        if at + size > len(data):
            raise ValueError("a packet that is cut off")
        yield tag, data[at : at + size]
        at += size


def _new_length(data: bytes, at: int) -> tuple[int, int]:
    first = data[at]
    if first < 192:
        return first, at + 1
    if first < 224:
        return ((first - 192) << 8) + data[at + 1] + 192, at + 2
    if first == 255:
        return int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
    raise ValueError("a packet in parts")


def _key(body: bytes) -> _Key | None:
    """None for one of a kind that is not used. Raises `UnusableKey` for one that is locked."""
    if body[0] != 4:
        return None
    algorithm, at = body[5], 6
    if algorithm in {_RSA, _RSA_SIGN_ONLY}:
        n, at = _read_mpi(body, at)
        e, at = _read_mpi(body, at)
        numbers: tuple[int, ...] = (n, e)
    elif algorithm == _EDDSA:
        length = body[at]
        if body[at + 1 : at + 1 + length] != _ED25519_OID:
            return None
        _, at = _read_mpi(body, at + 1 + length)
        numbers = ()
    else:
        return None
    public = body[:at]
    if body[at] != 0:
        raise UnusableKey("locked")
    secret, at = body[at + 1 : -2], 0
    if sum(secret) & 0xFFFF != int.from_bytes(body[-2:], "big"):
        raise ValueError("a wrong checksum")
    if algorithm == _EDDSA:
        seed, _ = _read_mpi(secret, 0)
        return _Key(algorithm=algorithm, public=public, numbers=(seed,))
    d, at = _read_mpi(secret, at)
    p, at = _read_mpi(secret, at)
    q, at = _read_mpi(secret, at)
    return _Key(algorithm=_RSA, public=public, numbers=(*numbers, d, p, q))


def _flags(body: bytes) -> int | None:
    """What a signature of a key says that it is for."""
    if body[0] != 4:
        return None
    hashed = body[6 : 6 + int.from_bytes(body[4:6], "big")]
    at = 0
    while at < len(hashed):
        size, at = _new_length(hashed, at)
        if hashed[at] & 0x7F == _KEY_FLAGS:
            return hashed[at + 1]
        at += size
    return None


def _read_mpi(data: bytes, at: int) -> tuple[int, int]:
    bits = int.from_bytes(data[at : at + 2], "big")
    end = at + 2 + (bits + 7) // 8
    if end > len(data):
        raise ValueError("a number that is cut off")
    return int.from_bytes(data[at + 2 : end], "big"), end


# --- Writing ---------------------------------------------------------------------------------------------------------
def _mpi(number: int) -> bytes:
    return number.bit_length().to_bytes(2, "big") + number.to_bytes((number.bit_length() + 7) // 8, "big")


def _subpacket(kind: int, body: bytes) -> bytes:
    return bytes([len(body) + 1, kind]) + body


def _crc24(data: bytes) -> int:
    value = 0xB704CE
    for byte in data:
        value ^= byte << 16
        for _ in range(8):
            value <<= 1
            if value & 0x1000000:
                value ^= 0x1864CFB
    return value & 0xFFFFFF
