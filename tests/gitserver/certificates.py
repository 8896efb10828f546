"""A certificate authority for tests, out of the standard library: ECDSA on P-256 and the few DER structures it takes.

Keys made here protect nothing: the arithmetic does not care about timing.
"""

from __future__ import annotations

import hashlib
import secrets
from base64 import encodebytes
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

_P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
_N = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_G = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
Point = tuple[int, int] | None


def _add(a: Point, b: Point) -> Point:
    if a is None or b is None:
        return b if a is None else a
    if a[0] == b[0]:
        if (a[1] + b[1]) % _P == 0:
            return None
        slope = (3 * a[0] * a[0] - 3) * pow(2 * a[1], -1, _P) % _P
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, _P) % _P
    x = (slope * slope - a[0] - b[0]) % _P
    return x, (slope * (a[0] - x) - a[1]) % _P


def _multiply(factor: int, point: Point) -> tuple[int, int]:
    result: Point = None
    while factor:
        if factor & 1:
            result = _add(result, point)
        point = _add(point, point)
        factor >>= 1
    assert result is not None
    return result


def _der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = len(body)
    if size < 128:
        return bytes([tag, size]) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + body


def _sequence(*parts: bytes) -> bytes:
    return _der(0x30, *parts)


def _integer(value: int) -> bytes:
    return _der(0x02, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _oid(text: str) -> bytes:
    first, second, *rest = (int(part) for part in text.split("."))
    body = bytearray([first * 40 + second])
    for number in rest:
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(0x80 | (number & 0x7F))
        body.extend(reversed(groups))
    return _der(0x06, bytes(body))


_ECDSA_SHA256 = _sequence(_oid("1.2.840.10045.4.3.2"))
_EC_P256 = _sequence(_oid("1.2.840.10045.2.1"), _oid("1.2.840.10045.3.1.7"))


@dataclass(frozen=True)
class Key:
    secret: int
    public: tuple[int, int]

    @classmethod
    def new(cls) -> Key:
        secret = secrets.randbelow(_N - 1) + 1
        return cls(secret, _multiply(secret, _G))

    def point(self) -> bytes:
        return b"\x04" + self.public[0].to_bytes(32, "big") + self.public[1].to_bytes(32, "big")

    def sign(self, message: bytes) -> bytes:
        digest = int.from_bytes(hashlib.sha256(message).digest(), "big")
        nonce = secrets.randbelow(_N - 1) + 1
        r = _multiply(nonce, _G)[0] % _N
        s = pow(nonce, -1, _N) * (digest + r * self.secret) % _N
        return _sequence(_integer(r), _integer(s))

    def pem(self) -> str:
        inner = _sequence(
            _integer(1), _der(0x04, self.secret.to_bytes(32, "big")), _der(0xA1, _der(0x03, b"\0", self.point()))
        )
        return _pem("PRIVATE KEY", _sequence(_integer(0), _EC_P256, _der(0x04, inner)))


def _pem(kind: str, body: bytes) -> str:
    return f"-----BEGIN {kind}-----\n{encodebytes(body).decode()}-----END {kind}-----\n"


def _name(text: str) -> bytes:
    return _sequence(_der(0x31, _sequence(_oid("2.5.4.3"), _der(0x0C, text.encode()))))


def _extension(oid: str, value: bytes) -> bytes:
    return _sequence(_oid(oid), _der(0x01, b"\xff"), _der(0x04, value))


def _certificate(
    issuer: str, signer: Key, subject: str, key: Key, extensions: list[bytes], days: tuple[int, int] = (-1, 30)
) -> str:
    now = datetime.now(UTC)
    validity = [_der(0x17, f"{now + timedelta(days=day):%y%m%d%H%M%SZ}".encode()) for day in days]
    to_be_signed = _sequence(
        _der(0xA0, _integer(2)),
        _integer(secrets.randbits(64)),
        _ECDSA_SHA256,
        _name(issuer),
        _sequence(*validity),
        _name(subject),
        _sequence(_EC_P256, _der(0x03, b"\0", key.point())),
        _der(0xA3, _sequence(*extensions)),
    )
    return _pem("CERTIFICATE", _sequence(to_be_signed, _ECDSA_SHA256, _der(0x03, b"\0", signer.sign(to_be_signed))))


class Authority:
    """A CA of its own. `ca_file` is what clients have to trust."""

    def __init__(self, folder: Path, name: str = "gitsyncd test CA") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._name = name
        self._key = Key.new()
        self.ca_file = folder / "ca.pem"
        may_sign = _extension("2.5.29.19", _sequence(_der(0x01, b"\xff")))
        usage = _extension("2.5.29.15", _der(0x03, b"\x01\x06"))
        self.ca_file.write_text(_certificate(name, self._key, name, self._key, [may_sign, usage]), encoding="ascii")

    def server_certificate(self, *hosts: str, days: tuple[int, int] = (-1, 30)) -> tuple[Path, Path]:
        """Files of a certificate and its key, for these names and addresses; valid from and to so many days from now."""
        key = Key.new()
        names = []
        for host in hosts:
            try:
                names.append(_der(0x87, ip_address(host).packed))
            except ValueError:
                names.append(_der(0x82, host.encode()))
        extensions = [_extension("2.5.29.17", _sequence(*names))]
        certificate = _certificate(self._name, self._key, hosts[0], key, extensions, days)
        certificate_file, key_file = self._folder / f"{hosts[0]}.pem", self._folder / f"{hosts[0]}.key"
        certificate_file.write_text(certificate, encoding="ascii")
        key_file.write_text(key.pem(), encoding="ascii")
        key_file.chmod(0o600)
        return certificate_file, key_file
