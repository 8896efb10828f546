"""Registries as they are: Debian's docker-registry, and one of the test's own that does what others do, right and wrong."""

from __future__ import annotations

import asyncio
import json
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from gitsyncd.core.reference import ImageName
from gitsyncd.edges.registry import connection
from gitsyncd.edges.registry.client import Registry
from gitsyncd.edges.registry.connection import Pause, Reach
from gitsyncd.edges.registry.credentials import Bearer, Credentials, DockerConfig, Password
from gitsyncd.model.errors import ImageNotFound, RegistryDenied, RegistryError, RegistryThrottled, RegistryUnreachable
from gitsyncd.model.image import Found, Origin
from tests.gitserver.certificates import Authority
from tests.registry import server
from tests.registry.images import DOCKER, OCI, digest, image, index
from tests.registry.peculiar import Answer, Peculiar, Shelf, always, listing

MADE = datetime(2026, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)
SECRET = "c0rrect-horse"


def name(host: str, repository: str = "team/front") -> ImageName:
    return ImageName(host=host, repository=repository)


@asynccontextmanager
async def asked(host: str, **reach: Any) -> AsyncIterator[Registry]:
    registry = Registry(host, Reach(**reach), agent="gitsyncd/test (edge)")
    try:
        yield registry
    finally:
        await registry.close()


# --- docker-registry -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[server.Registry]:
    with server.Registry(tmp_path_factory.mktemp("registry") / "debian") as registry:
        yield registry


@pytest.fixture
def login(tmp_path: Path) -> Password:
    (tmp_path / "password").write_text(f"{SECRET}\n")
    return Password(username="robot", file=tmp_path / "password")


@pytest.mark.real
class TestDebian:
    """Against the real one."""

    async def test_all_tags_are_listed(self, debian: server.Registry, login: Password) -> None:
        one = image()
        wanted = {f"1.{minor}.0" for minor in range(30)}
        for tag in wanted:
            debian.push("team/many", tag, one)

        async with asked(debian.server, credentials=login, ca_file=debian.ca_file) as registry:
            assert set(await registry.tags(name(debian.server, "team/many"))) == wanted

    @pytest.mark.parametrize("kinds", [OCI, DOCKER], ids=["oci", "docker"])
    async def test_an_image_for_one_platform(
        self, debian: server.Registry, login: Password, kinds: dict[str, str]
    ) -> None:
        pushed = debian.push("team/front", "1.2.3", image("one", kinds=kinds, platform="linux/arm/v7"))

        async with asked(debian.server, credentials=login, ca_file=debian.ca_file) as registry:
            found = await registry.look(name(debian.server), "1.2.3")

        assert found == Found(tag="1.2.3", digest=pushed, created=MADE, platforms=frozenset({"linux/arm/v7"}))

    @pytest.mark.parametrize("kinds", [OCI, DOCKER], ids=["oci", "docker"])
    async def test_an_image_for_several_platforms(
        self, debian: server.Registry, login: Password, kinds: dict[str, str]
    ) -> None:
        images = {
            "linux/amd64": image("amd", kinds=kinds),
            "linux/arm64/v8": image("arm", kinds=kinds, platform="linux/arm64", created="2026-02-03T00:00:00Z"),
        }
        pushed = debian.push("team/several", "2.0.0", index(images, kinds=kinds))

        async with asked(debian.server, credentials=login, ca_file=debian.ca_file) as registry:
            found = await registry.look(name(debian.server, "team/several"), "2.0.0")
            preferred = await registry.look(name(debian.server, "team/several"), "2.0.0", prefer=("linux/arm64",))

        both = frozenset({"linux/amd64", "linux/arm64"})
        assert found == Found(tag="2.0.0", digest=pushed, created=MADE, platforms=both)
        assert preferred is not None
        assert preferred.created == datetime(2026, 2, 3, tzinfo=UTC)

    async def test_a_tag_that_is_not_there_is_none_and_a_repository_is_an_error(
        self, debian: server.Registry, login: Password
    ) -> None:
        pushed = debian.push("team/gone", "1.0.0", image("gone"))

        async with asked(debian.server, credentials=login, ca_file=debian.ca_file) as registry:
            assert await registry.look(name(debian.server, "team/gone"), "9.9.9") is None
            debian.delete("team/gone", pushed)
            assert await registry.look(name(debian.server, "team/gone"), "1.0.0") is None
            assert await registry.tags(name(debian.server, "team/gone")) == []
            with pytest.raises(ImageNotFound, match="no such repository"):
                await registry.tags(name(debian.server, "team/never"))

    async def test_a_wrong_password_none_and_one_that_was_mended(
        self, debian: server.Registry, login: Password, tmp_path: Path
    ) -> None:
        debian.push("team/front", "1.2.3", image("one"))
        async with asked(debian.server, ca_file=debian.ca_file) as registry:
            with pytest.raises(RegistryDenied, match="none are configured"):
                await registry.tags(name(debian.server))

        login.file.write_text("wrong")
        async with asked(debian.server, credentials=login, ca_file=debian.ca_file) as registry:
            with pytest.raises(RegistryDenied, match="refuses the credentials of user 'robot'") as caught:
                await registry.tags(name(debian.server))
            assert str(login.file) in caught.value.hint
            login.file.write_text(SECRET)
            assert "1.2.3" in await registry.tags(name(debian.server))

        config = tmp_path / "config.json"
        packed = b64encode(f"robot:{SECRET}".encode()).decode()
        config.write_text(json.dumps({"auths": {debian.server: {"auth": packed}}}))
        async with asked(debian.server, credentials=DockerConfig(file=config), ca_file=debian.ca_file) as registry:
            assert "1.2.3" in await registry.tags(name(debian.server))

    async def test_a_certificate_that_is_not_trusted(self, debian: server.Registry, login: Password) -> None:
        async with asked(debian.server, credentials=login) as registry:
            with pytest.raises(RegistryDenied, match="certificate is not trusted"):
                await registry.tags(name(debian.server))

    async def test_a_registry_that_went_away_and_came_back(self, tmp_path: Path, login: Password) -> None:
        with server.Registry(tmp_path / "own") as own:
            own.push("team/front", "1.0.0", image())
            async with asked(own.server, credentials=login, ca_file=own.ca_file) as registry:
                assert await registry.tags(name(own.server)) == ["1.0.0"]
                own.stop()
                with pytest.raises(RegistryUnreachable):
                    await registry.tags(name(own.server))
                own.start()
                assert await registry.tags(name(own.server)) == ["1.0.0"]


# --- others ----------------------------------------------------------------------------------------------------------


async def tags_of(answer: Callable[[str, str], Answer], credentials: Credentials | None = None) -> list[str]:
    with Peculiar(answer) as peculiar:
        async with asked(peculiar.host, allow_plain_http=True, credentials=credentials) as registry:
            return await registry.tags(name(peculiar.host))


async def test_a_token_is_fetched_once_with_the_password_and_used_until_it_is_refused(login: Password) -> None:
    refused: set[str] = set()
    count = 0

    def answer(path: str, authorization: str) -> Answer:
        nonlocal count
        if path.startswith("/token?"):
            count += 1
            return 200, {}, json.dumps({"token": f"t{count}", "expires_in": 300}).encode()
        if not authorization.startswith("Bearer ") or authorization in refused:
            realm = (
                f'Bearer realm="http://{peculiar.host}/token",service="reg,istry",scope="repository:team/front:pull"'
            )
            return 401, {"WWW-Authenticate": realm}, b""
        return 200, {}, listing("1.0.0")

    with Peculiar(answer) as peculiar:
        async with asked(peculiar.host, allow_plain_http=True, credentials=login) as registry:
            for _ in range(3):
                assert await registry.tags(name(peculiar.host)) == ["1.0.0"]
            refused.add("Bearer t1")
            assert await registry.tags(name(peculiar.host)) == ["1.0.0"]

    basic = "Basic " + b64encode(f"robot:{SECRET}".encode()).decode()
    assert [(path.partition("?")[0], sent) for path, sent in peculiar.heard if not path.startswith("/token")] == [
        ("/v2/team/front/tags/list", sent) for sent in ("", *["Bearer t1"] * 4, "Bearer t2")
    ]
    tokens = [(parse_qs(urlsplit(path).query), sent) for path, sent in peculiar.heard if path.startswith("/token")]
    assert tokens == [({"service": ["reg,istry"], "scope": ["repository:team/front:pull"]}, basic)] * 2


@pytest.mark.parametrize("prefix", ["", "mirror/"], ids=["our words", "the registry's"])
async def test_each_repository_has_a_token_of_its_own(login: Password, prefix: str) -> None:
    """A registry may answer 403 to a token for another repository, and then nothing would ask for the right one."""

    def answer(path: str, authorization: str) -> Answer:
        if path.startswith("/token?"):
            [scope] = parse_qs(urlsplit(path).query)["scope"]
            return 200, {}, json.dumps({"token": f"for-{scope}", "expires_in": 300}).encode()
        repository = path.partition("?")[0].removeprefix("/v2/").removesuffix("/tags/list")
        scope = f"repository:{prefix}{repository}:pull"
        challenge = f'Bearer realm="http://{peculiar.host}/token",service="s",scope="{scope}"'
        if not authorization or (prefix and authorization == f"Bearer for-repository:{repository}:pull"):
            return 401, {"WWW-Authenticate": challenge}, b""
        return (200, {}, listing("1.0.0")) if authorization == f"Bearer for-{scope}" else (403, {}, b"")

    both = ("team/front", "team/back")
    with Peculiar(answer) as peculiar:
        async with asked(peculiar.host, allow_plain_http=True, credentials=login) as registry:
            for repository in both * 2:
                assert await registry.tags(name(peculiar.host, repository)) == ["1.0.0"]
            fetched = [path for path, _ in peculiar.heard if path.startswith("/token")]
            wanted = [parse_qs(urlsplit(path).query)["scope"][0] for path in fetched]

    scopes = [f"repository:{prefix}{repository}:pull" for repository in both]
    assert wanted == (scopes if not prefix else [scopes[0], "repository:team/back:pull", scopes[1]])


async def test_an_identity_token_is_exchanged_by_the_token_server_alone(tmp_path: Path) -> None:
    """As `az acr login` leaves them in a docker configuration."""

    def answer(path: str, authorization: str) -> Answer:
        if path.startswith("/token"):
            is_right = parse_qs(urlsplit(path).query).get("refresh_token") == [SECRET]
            return (200, {}, b'{"access_token": "t", "expires_in": 300}') if is_right else (401, {}, b"")
        if authorization != "Bearer t":
            return 401, {"WWW-Authenticate": f'Bearer realm="http://{peculiar.host}/token",service="s"'}, b""
        return 200, {}, listing("1.0.0")

    file = tmp_path / "config.json"
    with Peculiar(answer) as peculiar:
        packed = b64encode(b"00000000-0000-0000-0000-000000000000:").decode()
        file.write_text(json.dumps({"auths": {peculiar.host: {"auth": packed, "identitytoken": SECRET}}}))
        async with asked(peculiar.host, allow_plain_http=True, credentials=DockerConfig(file=file)) as registry:
            assert await registry.tags(name(peculiar.host)) == ["1.0.0"]
        file.write_text(json.dumps({"auths": {peculiar.host: {"auth": packed, "identitytoken": "wr0ng"}}}))
        async with asked(peculiar.host, allow_plain_http=True, credentials=DockerConfig(file=file)) as registry:
            with pytest.raises(RegistryDenied, match="refuses the credentials of an identity token") as caught:
                await registry.tags(name(peculiar.host))

    path, form = peculiar.forms[0]
    assert path == "/token"
    assert parse_qs(form) == {
        "grant_type": ["refresh_token"],
        "refresh_token": [SECRET],
        "client_id": ["gitsyncd"],
        "service": ["s"],
        "scope": ["repository:team/front:pull"],
    }
    assert {sent for _, sent in peculiar.heard} == {"", "Bearer t"}
    assert "wr0ng" not in f"{caught.value} {caught.value.hint}"


async def test_an_identity_token_is_not_sent_on_where_a_token_server_redirects(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    with Peculiar(always(200, b'{"token": "t"}')) as other:

        def answer(path: str, _: str) -> Answer:
            if path.startswith("/token"):
                return 307, {"Location": f"http://{other.host}/token"}, b""
            return 401, {"WWW-Authenticate": f'Bearer realm="http://{peculiar.host}/token"'}, b""

        with Peculiar(answer) as peculiar:
            file.write_text(json.dumps({"auths": {peculiar.host: {"identitytoken": SECRET}}}))
            async with asked(peculiar.host, allow_plain_http=True, credentials=DockerConfig(file=file)) as registry:
                with pytest.raises(RegistryUnreachable, match="answers 307"):
                    await registry.tags(name(peculiar.host))

    assert (other.heard, other.forms) == ([], [])


async def test_a_token_of_ones_own_is_sent_at_once(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("mine\n")
    with Peculiar(always(body=listing("1"))) as peculiar:
        bearer = Bearer(file=tmp_path / "token")
        async with asked(peculiar.host, allow_plain_http=True, credentials=bearer) as registry:
            assert await registry.tags(name(peculiar.host)) == ["1"]
    assert [sent for _, sent in peculiar.heard] == ["Bearer mine"]


async def test_pages_are_followed_on_the_same_server_alone() -> None:
    def answer(path: str, _: str) -> Answer:
        last = int(path.partition("last=")[2] or 0)
        links = {"Link": f'</v2/team/front/tags/list?n=1000&last={last + 1}>; rel="next"'} if last < 4 else {}
        return 200, links, listing(f"{last}.0", "same")

    assert sorted(await tags_of(answer)) == ["0.0", "1.0", "2.0", "3.0", "4.0", "same"]
    elsewhere = '<http://127.0.0.2:1/v2/team/front/tags/list>; rel="next"'
    with pytest.raises(RegistryError, match="has no end"):
        await tags_of(always(body=listing("1"), Link=elsewhere))


async def test_pages_without_end_end() -> None:
    with pytest.raises(RegistryError, match="has no end"):
        await tags_of(always(body=listing("1"), Link='</v2/team/front/tags/list?n=1000>; rel="next"'))


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (always(404), ImageNotFound, "no such repository"),
        (always(403), RegistryDenied, "none are configured"),
        (always(500), RegistryUnreachable, "status 500"),
        (always(301), RegistryUnreachable, "status 301"),
        (always(body=b"<html>"), RegistryError, "not JSON"),
        (always(body=b"[1]"), RegistryError, "another shape"),
        (always(body=b'{"tags": "1.0"}'), RegistryError, "list of tags is none"),
        (always(302, Location="/v2/team/front/tags/list"), RegistryUnreachable, "redirects more than"),
        (always(401, WWW_Authenticate='Bearer realm="ftp://x/"'), RegistryDenied, "without TLS"),
        (always(body=b" " * (17 << 20)), RegistryError, "more than 16 MiB"),
        (always(body=listing(*(f"t{number}" for number in range(100_001)))), RegistryError, "more than 100,000"),
    ],
)
async def test_what_goes_wrong_is_named(
    answer: Callable[[str, str], Answer], kind: type[RegistryError], words: str
) -> None:
    with pytest.raises(kind, match=words) as caught:
        await tags_of(answer)

    assert caught.value.hint


async def test_what_cannot_be_a_tag_is_left_out() -> None:
    body = json.dumps({"tags": ["1.0", "", "a b", "x" * 129, "-1", 5, None, "../../x"]}).encode()

    assert await tags_of(always(body=body)) == ["1.0"]
    assert await tags_of(always(body=b'{"tags": null}')) == []


# --- HEAD before GET -------------------------------------------------------------------------------------------------


async def test_a_tag_that_stands_for_the_same_image_costs_no_further_get() -> None:
    shelf = Shelf()
    shelf.put("1.0.0", index({"linux/amd64": image("one")}))
    with Peculiar(shelf.get, head=shelf.head) as peculiar:
        async with asked(peculiar.host, allow_plain_http=True) as registry:
            first = await registry.look(name(peculiar.host), "1.0.0")
            spent = len(peculiar.heard)
            again = [await registry.look(name(peculiar.host), "1.0.0") for _ in range(5)]
            assert (spent, len(peculiar.heard), len(peculiar.heads)) == (3, 3, 6)
            assert again == [first] * 5

            digest_now = shelf.put("1.0.0", image("two", created="2026-05-05T00:00:00Z"))
            moved = await registry.look(name(peculiar.host), "1.0.0")

    assert moved is not None
    assert (moved.digest, moved.created) == (digest_now, datetime(2026, 5, 5, tzinfo=UTC))


@pytest.mark.parametrize("kinds", [OCI, DOCKER], ids=["oci", "docker"])
async def test_what_an_image_is_made_from_is_known_by_its_labels(kinds: dict[str, str]) -> None:
    labels = {
        "org.opencontainers.image.source": "https://git.example.com/team/front",
        "org.opencontainers.image.revision": "c0ffee",
    }
    shelf = Shelf()
    shelf.put("1.0.0", image("one", labels=labels, kinds=kinds))
    shelf.put("1.1.0", index({"linux/amd64": image("two", labels=labels, kinds=kinds)}, kinds=kinds))
    with Peculiar(shelf.get, head=shelf.head) as peculiar:
        async with asked(peculiar.host, allow_plain_http=True) as registry:
            found = [await registry.look(name(peculiar.host), tag) for tag in ("1.0.0", "1.1.0")]

    made = Origin(source="https://git.example.com/team/front", revision="c0ffee")
    assert [each.made_from for each in found if each] == [made, made]


async def test_what_was_asked_for_another_platform_is_asked_again() -> None:
    one, other = image("amd"), image("arm", platform="linux/arm64", created="2026-05-05T00:00:00Z")
    shelf = Shelf()
    shelf.put("1.0.0", index({"linux/amd64": one, "linux/arm64": other}))
    with Peculiar(shelf.get, head=shelf.head) as peculiar:
        async with asked(peculiar.host, allow_plain_http=True) as registry:
            found = [
                await registry.look(name(peculiar.host), "1.0.0", prefer=prefer)
                for prefer in [(), ("linux/arm64",), ()]
            ]

    assert [each.created for each in found if each] == [MADE, datetime(2026, 5, 5, tzinfo=UTC), MADE]


@pytest.mark.parametrize(
    "head",
    [
        lambda answer: (405, {}, b""),
        lambda answer: (404, {}, b""),
        lambda answer: (400, {}, b""),
        lambda answer: (200, {}, b""),
        lambda answer: (200, {"Docker-Content-Digest": "sha256:short"}, b""),
    ],
    ids=["405", "404", "400", "no digest", "no such digest"],
)
async def test_a_registry_without_head_is_asked_by_get_alone(head: Callable[[Answer], Answer]) -> None:
    shelf = Shelf(head)
    pushed = shelf.put("1.0.0", image("one"))
    with Peculiar(shelf.get, head=shelf.head) as peculiar:
        async with asked(peculiar.host, allow_plain_http=True) as registry:
            for _ in range(3):
                found = await registry.look(name(peculiar.host), "1.0.0")
                assert found is not None
                assert found.digest == pushed

    assert len(peculiar.heads) == 1
    # the configuration once, the manifest each time
    assert len(peculiar.heard) == 4


async def test_a_moment_without_head_is_not_remembered() -> None:
    bad = True
    shelf = Shelf(lambda answer: (503, {}, b"") if bad else answer)
    shelf.put("1.0.0", image("one"))
    with Peculiar(shelf.get, head=shelf.head) as peculiar:
        async with asked(peculiar.host, allow_plain_http=True) as registry:
            first = await registry.look(name(peculiar.host), "1.0.0")
            bad = False
            again = [await registry.look(name(peculiar.host), "1.0.0") for _ in range(3)]

    assert again == [first] * 3
    assert (len(peculiar.heads), len(peculiar.heard)) == (4, 2)


async def test_a_tag_that_is_deleted_between_head_and_get_is_none() -> None:
    shelf = Shelf()
    shelf.put("1.0.0", image("one"))
    with Peculiar(lambda _path, _authorization: (404, {}, b""), head=shelf.head) as peculiar:
        async with asked(peculiar.host, allow_plain_http=True) as registry:
            assert await registry.look(name(peculiar.host), "1.0.0") is None


async def test_a_tag_that_is_deleted_costs_no_get_once_head_is_known() -> None:
    shelf = Shelf()
    shelf.put("1.0.0", image("one"))
    with Peculiar(shelf.get, head=shelf.head) as peculiar:
        async with asked(peculiar.host, allow_plain_http=True) as registry:
            assert await registry.look(name(peculiar.host), "1.0.0") is not None
            spent = len(peculiar.heard)
            assert await registry.look(name(peculiar.host), "9.9.9") is None

    assert len(peculiar.heard) == spent


# --- pauses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("said", "seconds"), [("17", 17.0), ("999999", 3600.0), ("soon", None), ("", None)])
async def test_a_registry_that_asks_for_a_pause_is_given_it(said: str, seconds: float | None) -> None:
    with pytest.raises(RegistryThrottled) as caught:
        await tags_of(always(429, Retry_After=said))

    assert caught.value.retry_after_s == seconds


async def test_nothing_leaves_for_a_server_before_its_pause_is_over() -> None:
    now = 1000.0
    pause = Pause(lambda: now)
    status = 429
    with Peculiar(lambda _path, _authorization: (status, {"Retry-After": "60"}, listing("1.0.0"))) as peculiar:
        one, other = (
            Registry(peculiar.host, Reach(allow_plain_http=True), agent="gitsyncd/test (edge)", pause=pause)
            for _ in range(2)
        )
        try:
            with pytest.raises(RegistryThrottled) as first:
                await one.tags(name(peculiar.host))
            status, now = 200, now + 45
            with pytest.raises(RegistryThrottled) as second:
                await other.tags(name(peculiar.host, "team/back"))
            with pytest.raises(RegistryThrottled):
                await one.look(name(peculiar.host), "1.0.0")
            assert (len(peculiar.heard), peculiar.heads) == (1, [])
            now += 15
            assert await other.tags(name(peculiar.host)) == ["1.0.0"]
        finally:
            await one.close()
            await other.close()

    assert (first.value.retry_after_s, second.value.retry_after_s) == (60.0, 15.0)
    # one pause is one line in the log, however often it is met
    assert str(first.value) == str(second.value)


async def test_a_pause_of_the_token_server_is_kept_too(login: Password) -> None:
    def answer(path: str, _: str) -> Answer:
        if path.startswith("/token"):
            return 429, {"Retry-After": "30"}, b""
        return 401, {"WWW-Authenticate": f'Bearer realm="http://{peculiar.host}/token"'}, b""

    with Peculiar(answer) as peculiar:
        async with asked(peculiar.host, allow_plain_http=True, credentials=login) as registry:
            with pytest.raises(RegistryThrottled):
                await registry.tags(name(peculiar.host))
            with pytest.raises(RegistryThrottled):
                await registry.tags(name(peculiar.host))

    assert len(peculiar.heard) == 2


async def test_a_pause_that_is_asked_of_a_head_is_one() -> None:
    with Peculiar(always(200), head=always(429, Retry_After="30")) as peculiar:
        async with asked(peculiar.host, allow_plain_http=True) as registry:
            with pytest.raises(RegistryThrottled):
                await registry.look(name(peculiar.host), "1.0.0")

    assert peculiar.heard == []


Speak = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def says_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def trickles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Begins an answer and goes on for ever, a byte at a time."""
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    with suppress(ConnectionError):
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)


@asynccontextmanager
async def speaking(speak: Speak) -> AsyncIterator[str]:
    """The address of a server that does this on every connection."""

    talks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.current_task())  # type: ignore[arg-type]
        try:
            await speak(reader, writer)
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as serving:
        yield f"127.0.0.1:{serving.sockets[0].getsockname()[1]}"
    await asyncio.gather(*talks)


@pytest.mark.parametrize("speak", [says_nothing, trickles])
async def test_a_server_that_takes_too_long_is_given_up(speak: Speak, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_SILENCE_S", 0.3)
    monkeypatch.setattr(connection, "_WHOLE_S", 0.6)

    async with speaking(speak) as host, asked(host, allow_plain_http=True) as registry:
        with pytest.raises(RegistryUnreachable, match="nothing came in time"):
            await registry.tags(name(host))


async def test_a_redirect_to_another_server_gets_no_credentials_and_cannot_ask_for_any(login: Password) -> None:
    one = image()
    (kind, manifest), blob = one.manifests[0], one.blobs[0]
    challenge = {"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:9/steal"'}
    with Peculiar(lambda path, _: (200, {}, blob) if "stolen" not in path else (401, challenge, b"")) as other:
        where = "blob"

        def answer(path: str, authorization: str) -> Answer:
            if not authorization:
                return 401, {"WWW-Authenticate": 'Basic realm="x"'}, b""
            if "/blobs/" in path:
                return 307, {"Location": f"http://{other.host}/{where}"}, b""
            return 200, {"Content-Type": kind}, manifest

        with Peculiar(answer) as peculiar:
            async with asked(peculiar.host, allow_plain_http=True, credentials=login) as registry:
                found = await registry.look(name(peculiar.host), "1.0.0")
                assert found is not None
                assert found.created == MADE
            where = "stolen"
            async with asked(peculiar.host, allow_plain_http=True, credentials=login) as registry:
                with pytest.raises(RegistryDenied):
                    await registry.look(name(peculiar.host), "1.0.0")

    assert {path for path, _ in other.heard} == {"/blob", "/stolen"}
    assert {sent for _, sent in other.heard} == {""}


async def test_a_redirect_from_tls_to_none_is_refused(tmp_path: Path, login: Password) -> None:
    authority = Authority(tmp_path / "pki")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*authority.server_certificate("127.0.0.1"))
    with Peculiar(always(302, Location="http://127.0.0.1:9/"), tls) as peculiar:
        async with asked(peculiar.host, ca_file=authority.ca_file, credentials=login) as registry:
            with pytest.raises(RegistryDenied, match="without TLS"):
                await registry.tags(name(peculiar.host))


def serving(documents: dict[str, tuple[str, bytes]], said: str = "") -> Callable[[str, str], Answer]:
    """By the end of the path: the tag, or a digest."""

    def answer(path: str, _: str) -> Answer:
        kind, body = documents.get(path.rpartition("/")[2], ("", b""))
        if not body:
            return 404, {}, b""
        return 200, {"Content-Type": kind} | ({"Docker-Content-Digest": said} if said else {}), body

    return answer


async def look(documents: dict[str, tuple[str, bytes]], said: str = "") -> Found | None:
    with Peculiar(serving(documents, said)) as peculiar:
        async with asked(peculiar.host, allow_plain_http=True) as registry:
            return await registry.look(name(peculiar.host), "1.0.0")


async def test_a_registry_that_lies_about_what_a_digest_is_of_is_not_believed() -> None:
    one, other = image("one"), image("other", created="2030-01-01T00:00:00Z")
    kind, manifest = one.manifests[0]
    config = digest(one.blobs[0])

    with pytest.raises(RegistryError, match="another digest"):
        await look({"1.0.0": (kind, manifest), config: ("", other.blobs[0])})
    with pytest.raises(RegistryError, match="another digest"):
        await look({"1.0.0": (kind, manifest), config: ("", one.blobs[0])}, said=digest(b"x"))
    with pytest.raises(RegistryError, match="named and not there"):
        await look({"1.0.0": (kind, manifest)})


@pytest.mark.parametrize("status", [404, 410, 412, 451])
@pytest.mark.parametrize("head", [200, None])
async def test_an_image_that_is_not_handed_out_says_nothing_of_the_others(status: int, head: int | None) -> None:
    shelf = Shelf()
    shelf.put("1.0.0", image("one"))
    shelf.put("1.1.0", image("forbidden"))

    def get(path: str, authorization: str) -> Answer:
        return (status, {}, b"{}") if path.endswith("/1.1.0") else shelf.get(path, authorization)

    with Peculiar(get, head=shelf.head if head else get) as peculiar:
        async with asked(peculiar.host, allow_plain_http=True) as registry:
            found = [await registry.look(name(peculiar.host), tag) for tag in ("1.1.0", "1.0.0", "1.1.0")]

    assert [each.tag if each else None for each in found] == [None, "1.0.0", None]


async def test_attestations_and_unknown_platforms_of_an_index_are_no_platforms() -> None:
    one = image()
    beside = [
        {
            "mediaType": OCI["manifest"],
            "digest": digest(b"a"),
            "size": 1,
            "platform": {"os": "unknown", "architecture": "unknown"},
        },
        {"mediaType": OCI["manifest"], "digest": "sha256:short", "platform": {"os": "linux", "architecture": "arm64"}},
        {"digest": digest(b"b")},
        "nonsense",
    ]
    several = index({"linux/amd64": one}, beside=beside)
    kind, body = several.manifests[-1]
    documents = {
        "1.0.0": (kind, body),
        digest(one.manifests[0][1]): one.manifests[0],
        digest(one.blobs[0]): ("", one.blobs[0]),
    }

    found = await look(documents)

    assert found is not None
    assert found.platforms == {"linux/amd64"}
    assert found.created == MADE


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{}", "of a kind that is not known"),
        (b'{"mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"}', "of a kind that is not known"),
        (b'{"config": {"digest": "sha256:../../etc"}}', "of a kind that is not known"),
        (b'{"manifests": {}}', "lists nothing"),
        (b"\xff", "not JSON"),
    ],
)
async def test_a_manifest_that_is_none_is_named(body: bytes, words: str) -> None:
    with pytest.raises(RegistryError, match=words):
        await look({"1.0.0": ("application/json", body)})


@pytest.mark.parametrize("created", [None, "", "yesterday", "2026-13-01T00:00:00Z", "0001-01-01T00:00:00Z"])
async def test_a_time_that_is_none_is_no_reason_to_fail(created: str | None) -> None:
    one = image(created=created)

    found = await look({"1.0.0": one.manifests[0], digest(one.blobs[0]): ("", one.blobs[0])})

    assert found is not None
    assert found.created is None or found.created.year == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("nonsense", "no configuration of docker"),
        ("[]", "no configuration of docker"),
        ('{"auths": {"HOST": {"auth": "%%%"}}}', "not base64"),
        ('{"credHelpers": {"HOST": "ecr-login"}}', "credential helper"),
        ('{"auths": {"HOST": {}}, "credsStore": "desktop"}', "credential helper"),
    ],
)
async def test_a_docker_configuration_that_cannot_be_used_is_named(tmp_path: Path, content: str, words: str) -> None:
    with Peculiar(always(body=listing())) as peculiar:
        file = tmp_path / "config.json"
        file.write_text(content.replace("HOST", peculiar.host))
        async with asked(peculiar.host, allow_plain_http=True, credentials=DockerConfig(file=file)) as registry:
            with pytest.raises(RegistryDenied, match=words):
                await registry.tags(name(peculiar.host))
