"""What counts as a signature of an image by a key, in cosign's two forms."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from gitsyncd.edges.registry.signature import NotSigned, check_bundle, check_simple, public_key
from tests.registry.signing import PrivateKey, bundle, new_key, payload, public_pem, sign, statement

DIGEST = "sha256:" + "0123456789abcdef" * 4
OTHER = "sha256:" + "f" * 64
OURS, THEIRS = new_key(), new_key()
RSA = rsa.generate_private_key(65537, 2048)
KEYS: dict[str, tuple[PrivateKey, hashes.HashAlgorithm]] = {
    "p256": (OURS, hashes.SHA256()),
    "p384": (ec.generate_private_key(ec.SECP384R1()), hashes.SHA384()),
    "p384, by cosign 2": (ec.generate_private_key(ec.SECP384R1()), hashes.SHA256()),
    "p521": (ec.generate_private_key(ec.SECP521R1()), hashes.SHA512()),
    "rsa": (RSA, hashes.SHA256()),
    "ed25519": (ed25519.Ed25519PrivateKey.generate(), hashes.SHA256()),
}


@pytest.mark.parametrize("kind", KEYS)
def test_a_payload_that_the_key_has_signed_is_a_signature(kind: str) -> None:
    key, hashed = KEYS[kind]
    body = payload(DIGEST)

    check_simple(body, sign(key, body, hashed), DIGEST, public_key(public_pem(key)))


@pytest.mark.parametrize("key", [OURS, RSA, KEYS["ed25519"][0]], ids=["p256", "rsa", "ed25519"])
def test_a_bundle_that_the_key_has_signed_is_a_signature(key: PrivateKey) -> None:
    check_bundle(bundle(key, statement(DIGEST)), DIGEST, public_key(public_pem(key)))


@pytest.mark.parametrize("kind", KEYS)
def test_a_payload_that_another_key_of_the_kind_has_signed_is_none(kind: str) -> None:
    key, hashed = KEYS[kind]
    body = payload(DIGEST)

    with pytest.raises(NotSigned, match="by another key"):
        check_simple(body, sign(THEIRS, body, hashed), DIGEST, public_key(public_pem(key)))


def test_a_payload_is_signed_wherever_the_image_was_when_it_was_signed() -> None:
    body = payload(DIGEST, reference="elsewhere.example/original")

    check_simple(body, sign(OURS, body), DIGEST, public_key(public_pem(OURS)))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (payload(OTHER), "for another image"),
        (payload(DIGEST.upper()), "for another image"),
        (payload(DIGEST, kind="atomic container signature"), "for another image"),
        (b"", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b"[]", "form that is not known"),
        (b"{}", "form that is not known"),
        (b'{"critical": {"type": "cosign container image signature"}}', "form that is not known"),
        (b"[" * 5000, "cannot be read"),
    ],
)
def test_what_the_key_has_signed_and_is_no_payload_for_the_image_is_none(body: bytes, words: str) -> None:
    with pytest.raises(NotSigned, match=words):
        check_simple(body, sign(OURS, body), DIGEST, public_key(public_pem(OURS)))


def changed(signature: str) -> str:
    raw = bytearray(b64decode(signature))
    raw[-1] ^= 1
    return b64encode(raw).decode()


@pytest.mark.parametrize(
    ("alter", "words"),
    [
        (changed, "by another key"),
        (lambda _: "", "by another key"),
        (lambda _: b64encode(b"x" * 70).decode(), "by another key"),
        (lambda signature: signature[:-4], "by another key"),
        (lambda signature: f"{signature}!", "cannot be read"),
        (lambda _: "ä", "cannot be read"),
    ],
)
def test_a_damaged_signature_is_none(alter: Callable[[str], str], words: str) -> None:
    body = payload(DIGEST)

    with pytest.raises(NotSigned, match=words):
        check_simple(body, alter(sign(OURS, body)), DIGEST, public_key(public_pem(OURS)))


def test_a_signature_does_not_go_with_another_payload() -> None:
    with pytest.raises(NotSigned, match="by another key"):
        check_simple(payload(OTHER), sign(OURS, payload(DIGEST)), OTHER, public_key(public_pem(OURS)))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (bundle(OURS, statement(OTHER)), "for another image"),
        (bundle(OURS, statement(DIGEST.replace("sha256", "sha512"))), "for another image"),
        (bundle(OURS, statement(DIGEST, predicate="https://slsa.dev/provenance/v1")), "an attestation"),
        (bundle(OURS, statement(DIGEST, kind="https://in-toto.io/Statement/v9")), "an attestation"),
        (bundle(OURS, payload(DIGEST)), "an attestation"),
        (bundle(OURS, b"no JSON"), "cannot be read"),
        (bundle(OURS, statement(DIGEST), kind="text/plain"), "form that is not known"),
        (bundle(THEIRS, statement(DIGEST)), "by another key"),
        (b"{}", "form that is not known"),
        (b'{"dsseEnvelope": []}', "form that is not known"),
        (b'{"messageSignature": {"signature": "AAAA"}}', "form that is not known"),
        (b"<html>", "cannot be read"),
    ],
)
def test_a_bundle_that_is_no_signature_of_the_image_by_the_key_is_none(body: bytes, words: str) -> None:
    with pytest.raises(NotSigned, match=words):
        check_bundle(body, DIGEST, public_key(public_pem(OURS)))


def test_one_of_several_signatures_of_an_envelope_is_enough_and_a_thousand_are_not_tried() -> None:
    theirs, ours = (json.loads(bundle(key, statement(DIGEST))) for key in (THEIRS, OURS))
    ours["dsseEnvelope"]["signatures"].insert(0, theirs["dsseEnvelope"]["signatures"][0])

    check_bundle(json.dumps(ours).encode(), DIGEST, public_key(public_pem(OURS)))
    ours["dsseEnvelope"]["signatures"] *= 500
    with pytest.raises(NotSigned, match="form that is not known"):
        check_bundle(json.dumps(ours).encode(), DIGEST, public_key(public_pem(OURS)))


def private(key: PrivateKey, kind: PrivateFormat = PrivateFormat.PKCS8, secret: bytes = b"") -> bytes:
    return key.private_bytes(Encoding.PEM, kind, BestAvailableEncryption(secret) if secret else NoEncryption())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no public key"),
        (b"nonsense", "no public key"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "no public key"),
        (private(OURS), "private key"),
        (private(OURS, PrivateFormat.TraditionalOpenSSL), "private key"),
        (private(OURS, secret=b"x"), "private key"),
        (b"-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\nAAAA\n", "private key"),
        (public_pem(OURS) + public_pem(THEIRS), "more than one"),
        (OURS.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH), "no public key"),
        (OURS.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), "no public key"),
        (public_pem(rsa.generate_private_key(65537, 1024)), "kind or size"),
        (public_pem(ec.generate_private_key(ec.SECP256K1())), "kind or size"),
    ],
    ids=lambda value: value if isinstance(value, str) else "key",  # keys are others in each process
)
def test_a_key_that_cannot_be_used_is_named_without_quoting_it(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        public_key(content)

    assert "AAAA" not in str(caught.value)
