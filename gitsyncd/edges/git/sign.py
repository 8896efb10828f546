"""Signatures of commits, as `git verify-commit` checks them: by SSH keys (PROTOCOL.sshsig of OpenSSH), or by OpenPGP.

Keys are read at each use and kept nowhere. Does not belong here: what is signed.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gitsyncd.edges.git.credentials import read_file
from gitsyncd.edges.git.openpgp import UnusableKey, openpgp_signature
from gitsyncd.model.errors import SourceDenied
from gitsyncd.model.update import KeyKind, SigningKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

_MAGIC: Final = b"SSHSIG"
_VERSION: Final = 1
_NAMESPACE: Final = b"git"
_HASH: Final = b"sha512"
_LINE: Final = 70
_LEAST_RSA_BITS: Final = 2048


def signature(payload: bytes, key: SigningKey, *, shown: str, now: datetime) -> bytes:
    """The value of the header `gpgsig` for a commit that is `payload` without it. Raises `SourceDenied`."""
    content = read_file(key.file, what="signing key", key=f"sign.{key.kind}_key_file", shown=shown)
    if key.kind is KeyKind.SSH:
        return ssh_signature(payload, _private_key(content + b"\n", key.file, shown))
    try:
        return openpgp_signature(payload, content, now)
    except UnusableKey as error:
        raise SourceDenied(
            f"{shown}: the signing key {key.file} cannot be used: {error}",
            hint="Name an RSA or Ed25519 key without passphrase in `sign.openpgp_key_file`, as "
            "`gpg --export-secret-keys` writes it.",
        ) from error


def _private_key(content: bytes, file: Path, shown: str) -> PrivateKeyTypes:
    from cryptography.exceptions import UnsupportedAlgorithm  # 10 MB, for updates that sign alone
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_ssh_private_key

    load = load_ssh_private_key if b"BEGIN OPENSSH PRIVATE KEY" in content else load_pem_private_key
    try:
        return load(content, None)
    except TypeError:
        why = "it has a passphrase"
    except (ValueError, UnsupportedAlgorithm):
        why = "it holds no private key that is understood"
    raise SourceDenied(
        f"{shown}: the signing key {file} cannot be used: {why}",
        hint="Name an ed25519, ECDSA or RSA key without passphrase in `sign.ssh_key_file`, as `ssh-keygen` makes it.",
    )


def ssh_signature(payload: bytes, key: PrivateKeyTypes) -> bytes:
    """An armoured SSH signature in the namespace `git`. Raises `SourceDenied` for a key of another kind."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat  # see _private_key

    digest = hashlib.sha512(payload).digest()
    signed = _MAGIC + _string(_NAMESPACE) + _string(b"") + _string(_HASH) + _string(digest)
    algorithm, value = _sign(signed, key)
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    blob = (
        _MAGIC
        + _VERSION.to_bytes(4, "big")
        + _string(base64.b64decode(public.split(b" ")[1]))
        + _string(_NAMESPACE)
        + _string(b"")
        + _string(_HASH)
        + _string(_string(algorithm) + _string(value))
    )
    text = base64.b64encode(blob)
    lines = [text[at : at + _LINE] for at in range(0, len(text), _LINE)]
    return b"\n".join([b"-----BEGIN SSH SIGNATURE-----", *lines, b"-----END SSH SIGNATURE-----"])


def _sign(data: bytes, key: PrivateKeyTypes) -> tuple[bytes, bytes]:
    """Name of the algorithm and its signature, as RFC 8709, RFC 5656 and RFC 8332 write them."""
    from cryptography.hazmat.primitives import hashes  # see _private_key
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

    if isinstance(key, ed25519.Ed25519PrivateKey):
        return b"ssh-ed25519", key.sign(data)
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _LEAST_RSA_BITS:
        return b"rsa-sha2-512", key.sign(data, padding.PKCS1v15(), hashes.SHA512())
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        name, hashed = _CURVES[key.curve.name]
        r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(getattr(hashes, hashed)())))
        return name, _mpint(r) + _mpint(s)
    raise SourceDenied(
        "the signing key is of a kind that is not used",
        hint="Name an ed25519, ECDSA or RSA key (of 2,048 bits or more) in `sign.ssh_key_file`.",
    )


_CURVES: Final = {
    "secp256r1": (b"ecdsa-sha2-nistp256", "SHA256"),
    "secp384r1": (b"ecdsa-sha2-nistp384", "SHA384"),
    "secp521r1": (b"ecdsa-sha2-nistp521", "SHA512"),
}


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data


def _mpint(number: int) -> bytes:
    """RFC 4251: with a zero before a first bit that would be a sign."""
    return _string(number.to_bytes(number.bit_length() // 8 + 1, "big"))
