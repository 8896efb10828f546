"""Who is believed: proofs as each forge and registry makes them, and everything that only looks like one."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode

import pytest

from gitsyncd.core.hook_proof import PROOFS, Way, needs_body, proves, shown
from gitsyncd.model.hook import HookKind

KINDS = list(HookKind)
SECRET = b"It's a Secret to Everybody"
BODY = b"Hello, World!"


def made(kind: HookKind, secret: bytes = SECRET, body: bytes = BODY) -> str:
    """As the sender makes it."""
    proof = PROOFS[kind]
    match proof.way:
        case Way.SIGNATURE:
            return proof.prefix + hmac.new(secret, body, hashlib.sha256).hexdigest()
        case Way.PASSWORD:
            return "Basic " + b64encode(b"anybody:" + secret).decode()
    return secret.decode()


def believed(kind: HookKind, text: str, secret: bytes = SECRET, body: bytes = BODY) -> bool:
    place: tuple[list[str], list[str]] = ([], [text]) if PROOFS[kind].way is Way.QUERY else ([text], [])
    found = shown(kind, *place)
    return found is not None and proves(kind, found, secret, body)


def test_the_example_that_github_publishes_is_believed() -> None:
    # docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries, "Testing the webhook payload validation"
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"

    assert believed(HookKind.GITHUB, signature)
    assert made(HookKind.GITHUB) == signature


def test_every_kind_has_a_proof() -> None:
    assert set(PROOFS) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_whoever_knows_the_secret_is_believed_and_nobody_else(kind: HookKind) -> None:
    assert believed(kind, made(kind))
    assert not believed(kind, made(kind, b"another"))
    assert not believed(kind, made(kind, SECRET[:-1]))
    assert not believed(kind, made(kind, SECRET + b"x"))
    assert not believed(kind, "")
    assert not believed(kind, "sha256=" + "0" * 64)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_secret_believes_nobody(kind: HookKind) -> None:
    assert not believed(kind, made(kind, b""), secret=b"")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if needs_body(kind)])
def test_a_signature_is_of_these_bytes_alone(kind: HookKind) -> None:
    assert not believed(kind, made(kind), body=BODY + b" ")
    assert not believed(kind, made(kind), body=b"")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if needs_body(kind)])
@pytest.mark.parametrize(
    "text", ["sha1=" + "0" * 40, "sha256=", "sha256=" + "0" * 63, "sha256=" + "0" * 65, "sha256=" + "g" * 64,
             "SHA256=" + "0" * 64, " sha256=" + "0" * 64, "sha256=" + "0" * 64 + "\n", "\udcff", "0" * 64 + " "],
)  # fmt: skip
def test_what_is_no_signature_is_refused_before_the_body(kind: HookKind, text: str) -> None:
    assert shown(kind, [text], []) is None


@pytest.mark.parametrize("kind", KINDS)
def test_of_two_proofs_none_counts(kind: HookKind) -> None:
    assert shown(kind, [made(kind)] * 2, [made(kind)] * 2) is None
    assert shown(kind, [], []) is None


@pytest.mark.parametrize("kind", [kind for kind in KINDS if PROOFS[kind].way is not Way.QUERY])
def test_a_secret_in_the_address_counts_only_where_there_is_no_other_way(kind: HookKind) -> None:
    assert shown(kind, [], [made(kind)]) is None


@pytest.mark.parametrize("text", ["Basic", "Basic ", "Basic !!!", "Bearer " + b64encode(b"a:b").decode(), "Basic YQ==",
                                  "Basic " + b64encode(SECRET).decode(), "Basic \udcff", SECRET.decode()])  # fmt: skip
def test_what_is_no_basic_authentication_is_not_believed(text: str) -> None:
    assert not believed(HookKind.AZURE, text)


def test_a_password_may_hold_colons_and_any_bytes() -> None:
    secret = b"a:b:\xff"

    assert believed(HookKind.AZURE, "basic " + b64encode(b":" + secret).decode(), secret)


def test_a_secret_of_any_bytes_is_compared_as_it_came() -> None:
    secret = "geheim\N{POUND SIGN}".encode()

    assert believed(HookKind.GITLAB, secret.decode(), secret)
    assert believed(HookKind.GITLAB, b"\xff".decode("utf-8", "surrogateescape"), b"\xff")
    assert not believed(HookKind.GITLAB, b"\xfe".decode("utf-8", "surrogateescape"), b"\xff")
