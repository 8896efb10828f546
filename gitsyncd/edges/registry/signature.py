"""Signatures as cosign makes them: whether a key has signed these bytes, and whether they speak of this image.

Two forms: a payload of SimpleSigning beside its signature (github.com/sigstore/cosign, specs/SIGNATURE_SPEC.md), and
since cosign 3 a bundle with a DSSE envelope around an in-toto statement (github.com/sigstore/protobuf-specs,
sigstore_bundle.proto; github.com/secure-systems-lab/dsse, protocol.md). Bytes to verdicts; nothing is asked here.

Only the configured key counts: certificates and transparency logs in a bundle are not looked at. The reference that a
payload names is not compared, as in `cosign verify --key`: a mirror's copy of an image stays signed.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    Key = EllipticCurvePublicKey | Ed25519PublicKey | RSAPublicKey

SIMPLE: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE: Final = "application/vnd.dev.sigstore.bundle"
"""How the media types of bundles begin, `….v0.3+json` and `…+json;version=0.2`."""
ANNOTATION: Final = "dev.cosignproject.cosign/signature"
SIGNING: Final = "https://sigstore.dev/cosign/sign/v1"
"""What a statement says that is a signature. With other predicates it is an attestation, such as an SBOM."""
_SIMPLE_TYPE: Final = "cosign container image signature"
_STATEMENTS: Final = frozenset({"https://in-toto.io/Statement/v1", "https://in-toto.io/Statement/v0.1"})
_IN_TOTO: Final = "application/vnd.in-toto+json"
_MAX_SIGNATURES: Final = 10
_LEAST_RSA_BITS: Final = 2048
_HASHES: Final = {
    "secp256r1": ("SHA256",),
    # By cosign 2 and before whatever the curve was, by cosign 3 as the curve has it.
    "secp384r1": ("SHA384", "SHA256"),
    "secp521r1": ("SHA512", "SHA256"),
}


class NotSigned(ValueError):
    """Why something is no signature of this image by this key, in words that go after "a signature"."""


def public_key(content: bytes) -> Key:
    """From PEM, as `cosign public-key` writes it. Raises `ValueError` with what is wrong, which quotes nothing."""
    from cryptography.exceptions import UnsupportedAlgorithm  # 10 MB, for policies that ask for signatures alone
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if b"PRIVATE KEY-----" in content:
        raise ValueError("it holds a private key, where the public one is wanted")
    if content.count(b"-----BEGIN ") > 1:
        raise ValueError("it holds more than one key")
    try:
        key = load_pem_public_key(content)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("it holds no public key as PEM") from None
    if isinstance(key, ed25519.Ed25519PublicKey):
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in _HASHES:
        return key
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= _LEAST_RSA_BITS:
        return key
    raise ValueError("its key is of a kind or size that is not used for signatures")


def check_simple(payload: bytes, signature: str, digest: str, key: Key) -> None:
    """A payload of SimpleSigning, with its signature in base64. Raises `NotSigned`."""
    if not _is_by(key, _bytes(signature), payload):
        raise NotSigned("is by another key")
    critical = _object(_object(_json(payload)).get("critical"))
    if critical.get("type") != _SIMPLE_TYPE or _object(critical.get("image")).get("docker-manifest-digest") != digest:
        raise NotSigned("is for another image")


def check_bundle(body: bytes, digest: str, key: Key) -> None:
    """A Sigstore bundle. Raises `NotSigned`."""
    envelope = _object(_object(_json(body)).get("dsseEnvelope"))
    kind, listed = envelope.get("payloadType"), envelope.get("signatures")
    if kind != _IN_TOTO or not isinstance(listed, list) or not 0 < len(listed) <= _MAX_SIGNATURES:
        raise NotSigned("is of a form that is not known")
    payload = _bytes(envelope.get("payload"))
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(payload), payload)
    if not any(_is_by(key, _bytes(_object(each).get("sig")), signed) for each in listed):
        raise NotSigned("is by another key")
    statement = _object(_json(payload))
    if statement.get("_type") not in _STATEMENTS or statement.get("predicateType") != SIGNING:
        raise NotSigned("is an attestation, and no signature")
    algorithm, _, value = digest.partition(":")
    subjects = statement.get("subject")
    if not isinstance(subjects, list) or not any(_names(each, algorithm, value) for each in subjects):
        raise NotSigned("is for another image")


def _names(subject: Any, algorithm: str, value: str) -> bool:
    return isinstance(subject, dict) and _object(subject.get("digest")).get(algorithm) == value


def _is_by(key: Key, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature  # see public_key
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding

    def verified(*how: Any) -> bool:
        try:
            key.verify(signature, message, *how)
        except InvalidSignature:
            return False
        return True

    if isinstance(key, ed25519.Ed25519PublicKey):
        return verified()
    if isinstance(key, ec.EllipticCurvePublicKey):
        return any(verified(ec.ECDSA(getattr(hashes, name)())) for name in _HASHES[key.curve.name])
    return verified(padding.PKCS1v15(), hashes.SHA256())


def _bytes(text: Any) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raise NotSigned("cannot be read") from None


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        raise NotSigned("cannot be read") from None


def _object(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise NotSigned("is of a form that is not known")
    return found
