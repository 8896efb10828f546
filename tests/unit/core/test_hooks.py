"""Who may ring, by each sender's way to prove it, and what of a payload counts."""

import base64
import hashlib
import hmac
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitsyncd.core.hooks import is_authentic, is_news, pushed_images
from gitsyncd.model.hook import REGISTRY_KINDS, SOURCE_KINDS, HookKind

SECRET = b"s3cret"
BODY = b'{"ref": "refs/heads/main"}'
SIGNED = hmac.new(SECRET, BODY, hashlib.sha256).hexdigest()
BASIC = "Basic " + base64.b64encode(b"anybody:s3cret").decode()

PROOFS: dict[HookKind, tuple[dict[str, str], dict[str, str]]] = {
    HookKind.GITHUB: ({"x-hub-signature-256": f"sha256={SIGNED}"}, {}),
    HookKind.GHCR: ({"x-hub-signature-256": f"sha256={SIGNED}"}, {}),
    HookKind.GITLAB: ({"x-gitlab-token": "s3cret"}, {}),
    HookKind.GITEA: ({"x-gitea-signature": SIGNED}, {}),
    HookKind.BITBUCKET: ({"x-hub-signature": f"sha256={SIGNED}"}, {}),
    HookKind.AZURE: ({"authorization": BASIC}, {}),
    HookKind.GENERIC: ({"x-gitsyncd-signature": f"sha256={SIGNED}"}, {}),
    HookKind.HARBOR: ({"authorization": "s3cret"}, {}),
    HookKind.DOCKER_HUB: ({}, {"token": "s3cret"}),
    HookKind.QUAY: ({}, {"token": "s3cret"}),
}


def test_every_kind_has_its_proof_here() -> None:
    assert set(PROOFS) == set(HookKind) == SOURCE_KINDS | REGISTRY_KINDS


@pytest.mark.parametrize("kind", HookKind)
def test_who_knows_the_secret_may_ring(kind: HookKind) -> None:
    headers, query = PROOFS[kind]

    assert is_authentic(kind, SECRET, headers, query, BODY)


@pytest.mark.parametrize("kind", HookKind)
def test_nobody_else_may(kind: HookKind) -> None:
    headers, query = PROOFS[kind]

    assert not is_authentic(kind, b"another", headers, query, BODY)
    assert not is_authentic(kind, SECRET, {}, {}, BODY)
    assert not is_authentic(kind, b"", headers, query, BODY)
    assert not is_authentic(kind, b"", {}, {}, b"")
    for other, (sent, asked) in PROOFS.items():
        if (sent, asked) != (headers, query):
            assert not is_authentic(kind, SECRET, sent, asked, BODY), other


@pytest.mark.parametrize("kind", [kind for kind in HookKind if SIGNED in str(PROOFS[kind])])
def test_another_body_under_the_same_signature_is_refused(kind: HookKind) -> None:
    headers, query = PROOFS[kind]

    assert not is_authentic(kind, SECRET, headers, query, BODY + b" ")


@given(
    st.sampled_from(HookKind),
    st.dictionaries(st.sampled_from(["authorization", "x-gitlab-token", "x-hub-signature-256"]), st.text()),
    st.binary(),
)
def test_whatever_is_sent_has_an_answer(kind: HookKind, headers: dict[str, str], body: bytes) -> None:
    assert is_authentic(kind, SECRET, headers, {"token": body.decode("latin-1")}, body) is False or "s3cret" in str(
        headers
    ) + str(body)


@pytest.mark.parametrize(
    ("kind", "headers", "expected"),
    [
        (HookKind.GITHUB, {"x-github-event": "push"}, True),
        (HookKind.GITHUB, {"x-github-event": "ping"}, False),
        (HookKind.GITHUB, {}, True),
        (HookKind.GHCR, {"x-github-event": "registry_package"}, True),
        (HookKind.GITLAB, {"x-gitlab-event": "Push Hook"}, True),
        (HookKind.GITLAB, {"x-gitlab-event": "Issue Hook"}, False),
        (HookKind.GITEA, {"x-gitea-event": "issues"}, False),
        (HookKind.BITBUCKET, {"x-event-key": "diagnostics:ping"}, False),
        (HookKind.GENERIC, {}, True),
    ],
)
def test_a_greeting_is_no_news(kind: HookKind, headers: dict[str, str], expected: bool) -> None:
    assert is_news(kind, headers) is expected


@pytest.mark.parametrize(
    ("kind", "document", "expected"),
    [
        (
            HookKind.DOCKER_HUB,
            {"repository": {"repo_name": "team/front"}, "push_data": {"tag": "1"}},
            {"docker.io/team/front"},
        ),
        (HookKind.QUAY, {"docker_url": "quay.io/team/front", "updated_tags": ["1"]}, {"quay.io/team/front"}),
        (HookKind.GHCR, {"registry_package": {"namespace": "Team", "name": "front"}}, {"ghcr.io/team/front"}),
        (HookKind.GHCR, {"package": {"namespace": "team", "name": "front"}}, {"ghcr.io/team/front"}),
        (
            HookKind.HARBOR,
            {
                "type": "PUSH_ARTIFACT",
                "event_data": {"resources": [{"resource_url": "hub.example.com/team/front:1.2"}]},
            },
            {"hub.example.com/team/front"},
        ),
        (HookKind.GENERIC, {"image": "registry.example.com/team/front:1.2"}, {"registry.example.com/team/front"}),
        (HookKind.GENERIC, {}, set()),
    ],
)
def test_what_was_pushed(kind: HookKind, document: Any, expected: set[str]) -> None:
    assert pushed_images(kind, json.dumps(document).encode()) == expected


WORDS = [
    "repository",
    "repo_name",
    "docker_url",
    "registry_package",
    "package",
    "namespace",
    "name",
    "event_data",
    "resources",
    "resource_url",
    "image",
    "x",
]


def anything(chance: random.Random, depth: int = 0) -> Any:
    match chance.randrange(8 if depth < 4 else 6):
        case 0:
            return None
        case 1:
            return chance.random() < 0.5
        case 2:
            return chance.randrange(-5, 5)
        case 3:
            return chance.choice(["", "a/b", "a/b:1", "A B", "@", "\u0000", "x" * 300, "ghcr.io/a/b@sha256:0"])
        case 4:
            return chance.random()
        case 5:
            return chance.choice(WORDS)
        case 6:
            return [anything(chance, depth + 1) for _ in range(chance.randrange(3))]
        case _:
            return {chance.choice(WORDS): anything(chance, depth + 1) for _ in range(chance.randrange(4))}


@pytest.mark.slow
def test_a_hundred_thousand_payloads_have_an_answer() -> None:
    chance = random.Random(20261127)
    for number in range(100_000):
        kind = list(HookKind)[number % len(HookKind)]
        found = pushed_images(kind, json.dumps(anything(chance)).encode())
        assert all(found)


@given(st.sampled_from(HookKind), st.binary())
def test_what_is_no_json_names_nothing(kind: HookKind, body: bytes) -> None:
    assert isinstance(pushed_images(kind, body), frozenset)


@pytest.mark.parametrize("body", [b"[" * 500_000, b"\xff\xfe", b"", b"nul", b'{"image": ' + b"9" * 5000 + b"}"])
def test_what_is_meant_to_break_a_parser_does_not(body: bytes) -> None:
    assert pushed_images(HookKind.GENERIC, body) == frozenset()
