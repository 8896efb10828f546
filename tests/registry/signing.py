"""Signatures of images, made as cosign makes them: behind a tag until version 2, as a bundle since version 3."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.registry.images import OCI, Image, described

PrivateKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey

SIMPLE = "application/vnd.dev.cosign.simplesigning.v1+json"
BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
SIGNATURE = "https://sigstore.dev/cosign/sign/v1"


def new_key() -> ec.EllipticCurvePrivateKey:
    """As `cosign generate-key-pair` makes them."""
    return ec.generate_private_key(ec.SECP256R1())


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def sign(key: PrivateKey, message: bytes, hashed: hashes.HashAlgorithm | None = None) -> str:
    """In base64."""
    hashed = hashed or hashes.SHA256()
    if isinstance(key, ed25519.Ed25519PrivateKey):
        signature = key.sign(message)
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        signature = key.sign(message, ec.ECDSA(hashed))
    else:
        signature = key.sign(message, padding.PKCS1v15(), hashed)
    return b64encode(signature).decode()


def payload(of: str, kind: str = "cosign container image signature", reference: str = "r.example/team/front") -> bytes:
    """SimpleSigning for an image with that digest."""
    critical = {
        "identity": {"docker-reference": reference},
        "image": {"docker-manifest-digest": of},
        "type": kind,
    }
    return json.dumps({"critical": critical, "optional": None}).encode()


def simple(*signed: tuple[bytes, str]) -> Image:
    """What lies behind the tag `sha256-….sig`: payloads and their signatures."""
    config = b'{"architecture":"","created":"0001-01-01T00:00:00Z","os":"","rootfs":{"type":"layers","diff_ids":[]}}'
    layers = [
        {**described(SIMPLE, body), "annotations": {"dev.cosignproject.cosign/signature": signature}}
        for body, signature in signed
    ]
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI["manifest"],
        "config": described(OCI["config"], config),
        "layers": layers,
    }
    return Image([config, *(body for body, _ in signed)], [(OCI["manifest"], json.dumps(manifest).encode())])


def statement(of: str, predicate: str = SIGNATURE, kind: str = "https://in-toto.io/Statement/v1") -> bytes:
    """In-toto, for an image with that digest."""
    algorithm, _, value = of.partition(":")
    subject = [{"name": "", "digest": {algorithm: value}}]
    return json.dumps({"_type": kind, "subject": subject, "predicateType": predicate, "predicate": {}}).encode()


def bundle(key: PrivateKey, body: bytes, kind: str = "application/vnd.in-toto+json") -> bytes:
    """A Sigstore bundle with a DSSE envelope around the body."""
    signed = b"DSSEv1 %d %s %d %s" % (len(kind), kind.encode(), len(body), body)
    envelope = {
        "payload": b64encode(body).decode(),
        "payloadType": kind,
        "signatures": [{"sig": sign(key, signed)}],
    }
    return json.dumps(
        {"mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": "x"}}, "dsseEnvelope": envelope}
    ).encode()


def referring(content: bytes, subject: Image, predicate: str = SIGNATURE) -> Image:
    """An artifact with a bundle in it that says to belong to another image."""
    kind, body = subject.manifests[-1]
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI["manifest"],
        "artifactType": BUNDLE,
        "config": described("application/vnd.oci.empty.v1+json", b"{}"),
        "layers": [described(BUNDLE, content)],
        "subject": described(kind, body),
        "annotations": {"dev.sigstore.bundle.content": "dsse-envelope", "dev.sigstore.bundle.predicateType": predicate},
    }
    return Image([b"{}", content], [(OCI["manifest"], json.dumps(manifest).encode())])


def listing(*referrers: Image) -> Image:
    """The index of what belongs to an image: an answer of the registry, or behind the tag `sha256-…`."""
    listed: list[dict[str, Any]] = []
    for each in referrers:
        kind, body = each.manifests[-1]
        manifest = json.loads(body)
        listed.append(
            {**described(kind, body), "artifactType": manifest["artifactType"], "annotations": manifest["annotations"]}
        )
    body = json.dumps({"schemaVersion": 2, "mediaType": OCI["index"], "manifests": listed}).encode()
    return Image([], [(OCI["index"], body)])


def tag_of(of: str) -> str:
    return of.replace(":", "-")


def signature_tag(of: str) -> str:
    return f"{tag_of(of)}.sig"
