"""Signed images on real registries and on one of the tests' own: which count, which do not, and what it costs."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gitsyncd.edges.registry.registries import Registries
from gitsyncd.model.errors import ConfigError, RegistryError, RegistryUnreachable
from gitsyncd.model.image import Found, ImagePolicy, RegistryAccess, Rule, Select
from gitsyncd.model.source import PasswordAuth
from tests.registry import server
from tests.registry.images import DOCKER, OCI, Image, image, index
from tests.registry.peculiar import Answer, Peculiar, Shelf
from tests.registry.signing import (
    SIMPLE,
    PrivateKey,
    bundle,
    listing,
    new_key,
    payload,
    public_pem,
    referring,
    sign,
    signature_tag,
    simple,
    statement,
    tag_of,
)

OURS, THEIRS = new_key(), new_key()
SBOM = "https://cyclonedx.org/bom"


@pytest.fixture
def key(tmp_path: Path) -> Path:
    return name_key(tmp_path / "cosign.pub", OURS)


def name_key(file: Path, key: PrivateKey) -> Path:
    file.write_bytes(public_pem(key))
    return file


def policy(host: str, key: Path) -> ImagePolicy:
    select = Select(rule=Rule.SEMVER, wanted="*")
    return ImagePolicy(name="front", image=f"{host}/team/front", select=select, signing_key=key)


def verdict(found: Found | None) -> str:
    """`signed`, or why not."""
    assert found is not None
    assert found.is_signed == (not found.unsigned)
    return "signed" if found.is_signed else found.unsigned


# --- docker-registry, which keeps no lists of referrers --------------------------------------------------------------


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[server.Registry]:
    with server.Registry(tmp_path_factory.mktemp("registry") / "debian") as registry:
        yield registry


@pytest.mark.real
class TestDebian:
    """Against the real one."""

    @pytest.fixture
    async def registries(self, debian: server.Registry, tmp_path: Path) -> AsyncIterator[Registries]:
        (tmp_path / "password").write_text(debian.password)
        auth = PasswordAuth(username=debian.username, password_file=tmp_path / "password")
        access = RegistryAccess(prefix=debian.server, auth=auth, ca_file=debian.ca_file)
        registries = Registries([access], agent="gitsyncd/test (edge)")
        yield registries
        await registries.close()

    @pytest.mark.parametrize("kinds", [OCI, DOCKER], ids=["oci", "docker"])
    async def test_a_signature_behind_a_tag(
        self, debian: server.Registry, registries: Registries, key: Path, kinds: dict[str, str]
    ) -> None:
        asked = policy(debian.server, key)
        pushed = debian.push("team/front", "1.0.0", index({"linux/amd64": image(kinds["index"])}, kinds=kinds))
        before = verdict(await registries.look(asked, "1.0.0"))
        body = payload(pushed)
        debian.push("team/front", signature_tag(pushed), simple((body, sign(OURS, body))))

        after = verdict(await registries.look(asked, "1.0.0"))
        name_key(key, THEIRS)
        by_another = verdict(await registries.look(asked, "1.0.0"))

        assert (before, after, by_another) == ("no signature", "signed", "a signature is by another key")

    async def test_a_bundle_that_refers_to_the_image(
        self, debian: server.Registry, registries: Registries, key: Path
    ) -> None:
        asked, one = policy(debian.server, key), image("bundled")
        pushed = debian.push("team/front", "2.0.0", one)
        sbom = referring(bundle(OURS, statement(pushed, SBOM)), one, SBOM)
        signed = referring(bundle(OURS, statement(pushed)), one)
        for each in (sbom, signed):
            debian.push("team/front", "any", each)
        debian.push("team/front", tag_of(pushed), listing(sbom))
        attested = verdict(await registries.look(asked, "2.0.0"))
        debian.push("team/front", tag_of(pushed), listing(sbom, signed))

        after = verdict(await registries.look(asked, "2.0.0"))

        assert (attested, after) == ("a signature is an attestation, and no signature", "signed")


# --- one of the tests' own -------------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(
    shelf: Shelf, get: Callable[[str, str], Answer] | None = None
) -> AsyncIterator[tuple[Peculiar, Registries]]:
    with Peculiar(get or shelf.get, head=shelf.head) as peculiar:
        access = RegistryAccess(prefix=peculiar.host, allow_plain_http=True)
        registries = Registries([access], agent="gitsyncd/test (edge)")
        try:
            yield peculiar, registries
        finally:
            await registries.close()


def listed(*referrers: Image) -> Answer:
    return 200, {"Content-Type": OCI["index"]}, listing(*referrers).manifests[-1][1]


async def verdict_of(shelf: Shelf, key: Path) -> str:
    async with serving(shelf) as (peculiar, registries):
        return verdict(await registries.look(policy(peculiar.host, key), "1.0.0"))


async def test_a_list_of_referrers_is_read_and_signatures_come_before_attestations(key: Path) -> None:
    shelf, one = Shelf(), image("one")
    pushed = shelf.put("1.0.0", one)
    sboms = [referring(bundle(OURS, statement(pushed, SBOM)), one, SBOM)] * 60
    signed = referring(bundle(OURS, statement(pushed)), one)
    shelf.put("signed", signed)
    shelf.referrers[pushed] = listed(*sboms, signed)

    assert await verdict_of(shelf, key) == "signed"


async def test_a_list_that_says_nothing_of_what_it_holds_is_read_all_the_same(key: Path) -> None:
    shelf, one = Shelf(), image("one")
    pushed = shelf.put("1.0.0", one)
    signed = referring(bundle(OURS, statement(pushed)), one)
    shelf.put("signed", signed)
    bare = {"manifests": [{"digest": signed.digest, "artifactType": "application/vnd.oci.empty.v1+json"}]}
    shelf.referrers[pushed] = 200, {"Content-Type": OCI["index"]}, json.dumps(bare).encode()

    assert await verdict_of(shelf, key) == "signed"


@pytest.mark.parametrize(
    "answer",
    [
        (404, {}, b""),
        (400, {}, b""),
        (405, {}, b""),
        (406, {}, b""),
        (200, {"Content-Type": "text/html"}, b"<html>"),
    ],
)
async def test_a_registry_without_such_lists_is_asked_for_the_tag_in_its_place(key: Path, answer: Answer) -> None:
    shelf, one = Shelf(), image("one")
    pushed = shelf.put("1.0.0", one)
    signed = referring(bundle(OURS, statement(pushed)), one)
    shelf.put("signed", signed)
    shelf.put(tag_of(pushed), listing(signed))
    shelf.referrers[pushed] = answer

    assert await verdict_of(shelf, key) == "signed"


async def test_the_signature_of_one_image_does_not_serve_another(key: Path) -> None:
    shelf = Shelf()
    good, bad = image("good"), image("bad")
    genuine = shelf.put("0.9.0", good)
    pushed = shelf.put("1.0.0", bad)
    body = payload(genuine)
    shelf.put(signature_tag(pushed), simple((body, sign(OURS, body))))
    stolen = referring(bundle(OURS, statement(genuine)), bad)
    shelf.put("stolen", stolen)
    shelf.referrers[pushed] = listed(stolen)

    assert await verdict_of(shelf, key) == "a signature is for another image"


async def test_ours_among_others_is_enough(key: Path) -> None:
    shelf = Shelf()
    pushed = shelf.put("1.0.0", image("one"))
    body, other = payload(pushed), payload(pushed, reference="r.example/other")
    shelf.put(signature_tag(pushed), simple((other, sign(THEIRS, other)), (other, "???"), (body, sign(OURS, body))))

    assert await verdict_of(shelf, key) == "signed"


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (b"no JSON", "no signature"),
        (b"{}", "no signature"),
        (b'{"layers": [1, {}, {"mediaType": "%s"}]}' % SIMPLE.encode(), "no signature"),
        (
            json.dumps({"layers": [{"mediaType": SIMPLE, "digest": "sha256:" + "0" * 64}]}).encode(),
            "a signature is named and not there",
        ),
        (
            json.dumps({"layers": [{"mediaType": SIMPLE, "digest": "sha256:" + "0" * 64, "size": 1 << 40}]}).encode(),
            "a signature is larger than any",
        ),
        (
            json.dumps({"layers": [{"mediaType": SIMPLE, "digest": "sha256:" + "0" * 64}] * 101}).encode(),
            "none of its first 100 signatures counts",
        ),
        (listing().manifests[-1][1], "no signature"),
    ],
)
async def test_on_any_doubt_an_image_is_unsigned(key: Path, manifest: bytes, words: str) -> None:
    shelf = Shelf()
    pushed = shelf.put("1.0.0", image("one"))
    shelf.put(signature_tag(pushed), Image([], [(OCI["manifest"], manifest)]))
    shelf.put(tag_of(pushed), image("an image of that name"))

    assert await verdict_of(shelf, key) == words


@pytest.mark.parametrize(
    ("part", "answer", "kind", "words"),
    [
        (".sig", (500, {}, b""), RegistryUnreachable, "status 500"),
        ("/referrers/", (503, {}, b""), RegistryUnreachable, "status 503"),
        ("/referrers/", (200, {"Content-Type": OCI["index"]}, b"[]"), RegistryError, "another shape"),
        ("/blobs/", (200, {}, b" " * (65 << 10)), RegistryError, "more than 64 KiB"),
        ("/blobs/", (200, {}, b"{}"), RegistryError, "another digest"),
    ],
)
async def test_a_registry_that_gives_no_answer_is_an_error_and_no_verdict(
    key: Path, part: str, answer: Answer, kind: type[RegistryError], words: str
) -> None:
    shelf = Shelf(lambda said: (501, {}, b""))
    pushed = shelf.put("1.0.0", image("one"))
    body = payload(pushed)
    shelf.put(signature_tag(pushed), simple((body, sign(THEIRS, body))))
    broken = False

    def get(path: str, authorization: str) -> Answer:
        return answer if broken and part in path else shelf.get(path, authorization)

    async with serving(shelf, get) as (peculiar, registries):
        asked = policy(peculiar.host, key)
        await registries.look(ImagePolicy(name="any", image=asked.image, select=asked.select), "1.0.0")
        broken = True
        with pytest.raises(kind, match=words):
            await registries.look(asked, "1.0.0")


async def test_what_is_signed_costs_no_further_request_and_what_is_not_is_asked_again(key: Path) -> None:
    shelf = Shelf()
    pushed = shelf.put("1.0.0", image("one"))
    async with serving(shelf) as (peculiar, registries):
        asked = policy(peculiar.host, key)
        assert verdict(await registries.look(asked, "1.0.0")) == "no signature"
        body = payload(pushed)
        shelf.put(signature_tag(pushed), simple((body, sign(OURS, body))))
        assert verdict(await registries.look(asked, "1.0.0")) == "signed"
        gets, heads = len(peculiar.heard), len(peculiar.heads)

        assert verdict(await registries.look(asked, "1.0.0")) == "signed"

        assert (len(peculiar.heard) - gets, len(peculiar.heads) - heads) == (0, 1)


@pytest.mark.parametrize(
    ("content", "words"),
    [(None, "No such file"), (b"", "no public key"), (b"-----BEGIN PRIVATE KEY-----\nAAAA\n", "private key")],
)
async def test_a_key_file_that_cannot_be_used_is_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    file = tmp_path / "cosign.pub"
    if content is not None:
        file.write_bytes(content)
    shelf = Shelf()
    shelf.put("1.0.0", image("one"))

    with pytest.raises(ConfigError, match=words) as caught:
        await verdict_of(shelf, file)

    assert str(file) in str(caught.value)
    assert "cosign_key_file" in caught.value.hint
    assert "AAAA" not in str(caught.value)


async def test_a_policy_without_a_key_asks_for_no_signature(key: Path) -> None:
    shelf = Shelf()
    shelf.put("1.0.0", image("one"))
    async with serving(shelf) as (peculiar, registries):
        asked = policy(peculiar.host, key)
        found = await registries.look(ImagePolicy(name="any", image=asked.image, select=asked.select), "1.0.0")

        assert found is not None
        assert (found.is_signed, found.unsigned) == (False, "")
        assert not [path for path, _ in peculiar.heard if "referrers" in path or ".sig" in path]
