"""One request to merge, on whichever forge: opened, kept up to date, closed; and every way in which a forge says no."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import web

from gitsyncd.edges.forge.client import ForgeClient
from gitsyncd.model.errors import ConfigError, ForgeDenied, ForgeError, ForgeRefused, ForgeUnreachable
from gitsyncd.model.update import Forge, MergeRequest, PullRequest
from tests.forge.server import TOKEN, ForgeServer
from tests.gitserver.certificates import Authority

pytestmark = pytest.mark.real

REQUEST = MergeRequest(head="updates", base="main", title="Update front", body="| a |\n| b |", labels=("images", "bot"))


class Rig:
    def __init__(self, server: ForgeServer, folder: Path, ca: Path) -> None:
        self.server = server
        self.token = folder / "token"
        self.token.write_text(f"{TOKEN}\n")
        self.ca = ca

    def client(self, *, url: str = "", timeout: float = 20) -> ForgeClient:
        access = PullRequest(forge=Forge(self.server.kind), token_file=self.token)
        return ForgeClient(
            url or self.server.repository,
            access,
            ca_file=self.ca,
            timeout=timedelta(seconds=timeout),
            agent="gitsyncd/test (edge)",
        )


@pytest.fixture(params=["github", "gitlab", "gitea"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    authority = Authority(tmp_path / "ca")
    async with ForgeServer(request.param, authority) as server:
        yield Rig(server, tmp_path, authority.ca_file)


async def test_it_is_opened_once_and_kept_up_to_date(rig: Rig) -> None:
    first = await rig.client().ensure(REQUEST)
    again = await rig.client().ensure(REQUEST)
    rig.server.requests[0]["labels"].append("of a person")
    moved = await rig.client().ensure(replace(REQUEST, title="Update 2 images", body="another"))

    assert first == again == moved
    [made] = rig.server.requests
    assert (made["head"], made["base"], made["state"]) == ("updates", "main", "open")
    assert (made["title"], made["body"]) == ("Update 2 images", "another")
    assert set(made["labels"]) == {"images", "bot", "of a person"}


async def test_what_is_as_it_should_be_is_only_looked_at(rig: Rig) -> None:
    await rig.client().ensure(REQUEST)
    rig.server.asked.clear()
    await rig.client().ensure(REQUEST)

    assert {method for method, _ in rig.server.asked} == {"GET"}


async def test_requests_of_others_are_left_alone_however_many_there_are(rig: Rig) -> None:
    for number in range(120):
        rig.server._new(f"feature-{number}", "main", "x", "y")
    rig.server._new("updates", "release", "x", "y")

    await rig.client().ensure(REQUEST)

    mine = [each for each in rig.server.requests if each["head"] == "updates" and each["base"] == "main"]
    assert len(mine) == 1
    assert {each["title"] for each in rig.server.requests if each is not mine[0]} == {"x"}


@pytest.mark.parametrize("most", [1, 7, 50])
async def test_a_page_that_the_server_keeps_short_is_not_the_last_one(rig: Rig, most: int) -> None:
    rig.server.most = most
    for number in range(20):
        rig.server._new(f"feature-{number}", "main", "x", "y")
        rig.server.labels[f"label-{number}"] = 100 + number
    rig.server.labels["images"] = 200

    first = await rig.client().ensure(REQUEST)
    again = await rig.client().ensure(replace(REQUEST, title="Update 2 images"))

    assert first == again
    assert [each["title"] for each in rig.server.requests if each["head"] == "updates"] == ["Update 2 images"]
    assert rig.server.labels["images"] == 200


async def test_more_than_anybody_would_have_open_are_said_to_be_too_many(rig: Rig) -> None:
    async def endless(_request: web.Request) -> web.StreamResponse:
        kept = rig.server._new("feature", "main", "x", "y")
        return web.json_response([rig.server._merge(kept) if rig.server.kind == "gitlab" else rig.server._pull(kept)])

    rig.server.fault = endless

    with pytest.raises(ForgeRefused, match="lists more than 1,000"):
        await rig.client().ensure(REQUEST)


@pytest.mark.parametrize("source", ["somebody/fleet", "team/fleet-copy", ""])
async def test_one_from_a_fork_that_has_a_branch_of_that_name_is_another_one(rig: Rig, source: str) -> None:
    theirs = rig.server._new("updates", "main", "x", "y", source)

    assert await rig.client().withdraw("updates", "main", "It has arrived otherwise.") is False
    await rig.client().ensure(REQUEST)
    await rig.client().ensure(replace(REQUEST, title="Update 2 images"))
    assert await rig.client().withdraw("updates", "main", "It has arrived otherwise.") is True

    assert (theirs["title"], theirs["state"], theirs["labels"], theirs["comments"]) == ("x", "open", [], [])
    assert [(each["source"], each["state"]) for each in rig.server.requests[1:]] == [("team/fleet", "closed")]


async def test_one_that_somebody_closed_is_another_one(rig: Rig) -> None:
    await rig.client().ensure(REQUEST)
    rig.server.requests[0]["state"] = "closed"

    await rig.client().ensure(REQUEST)

    assert [each["state"] for each in rig.server.requests] == ["closed", "open"]


async def test_what_there_is_nothing_of_any_more_is_closed_with_a_word(rig: Rig) -> None:
    await rig.client().ensure(REQUEST)

    assert await rig.client().withdraw("updates", "main", "It has arrived otherwise.") is True
    assert await rig.client().withdraw("updates", "main", "It has arrived otherwise.") is False
    [made] = rig.server.requests
    assert (made["state"], made["comments"]) == ("closed", ["It has arrived otherwise."])


# --- refusals --------------------------------------------------------------------------------------------------------
async def refused(rig: Rig, kind: type[ForgeError]) -> ForgeError:
    with pytest.raises(kind) as caught:
        await rig.client(timeout=1).ensure(REQUEST)
    assert caught.value.hint
    assert TOKEN not in str(caught.value) + caught.value.hint
    return caught.value


async def test_a_token_that_is_refused_works_once_it_is_replaced(rig: Rig) -> None:
    rig.token.write_text("another")
    error = await refused(rig, ForgeDenied)
    assert "refuses the token" in error.message

    rig.token.write_text(TOKEN)
    assert await rig.client().ensure(REQUEST)


@pytest.mark.parametrize(
    ("status", "headers", "kind", "words"),
    [
        (403, {}, ForgeDenied, "refuses the token"),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "9999999999"}, ForgeUnreachable, "asks to slow down"),
        (429, {"Retry-After": "60"}, ForgeUnreachable, "asks to slow down (429), for 60 s"),
        (404, {}, ForgeDenied, "shows no such repository"),
        (422, {}, ForgeRefused, "does not accept the request (422): Validation Failed; no commits"),
        (500, {}, ForgeUnreachable, "answers with status 500"),
        (301, {"Location": "https://elsewhere.example/"}, ForgeRefused, "a redirect (301), which is not followed"),
    ],
)
async def test_each_way_to_say_no_has_its_meaning(
    rig: Rig, status: int, headers: dict[str, str], kind: type[ForgeError], words: str
) -> None:
    async def answer(_request: web.Request) -> web.StreamResponse:
        body = {"message": "Validation Failed", "errors": [{"message": "no commits"}]}
        return web.json_response(body, status=status, headers=headers)

    rig.server.fault = answer

    assert words in (await refused(rig, kind)).message


@pytest.mark.parametrize(
    "body", ["", "no JSON", "{}", "5", "[5]", "[{}]", '[{"head": 5}]', "[" * 100_000, '[{"number": "x"}]', "null"]
)
async def test_an_answer_that_is_none_of_a_forge(rig: Rig, body: str) -> None:
    async def answer(_request: web.Request) -> web.StreamResponse:
        return web.Response(text=body)

    rig.server.fault = answer

    await refused(rig, ForgeUnreachable)


async def test_an_endless_answer_and_a_silent_one_end(rig: Rig) -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"[" * 65536)

    async def silent(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(10)
        return web.Response()

    for fault in (endless, silent):
        rig.server.fault = fault
        await refused(rig, ForgeUnreachable)


async def test_a_certificate_of_somebody_else_gets_no_token(rig: Rig, tmp_path: Path) -> None:
    rig.ca = Authority(tmp_path / "other").ca_file

    await refused(rig, ForgeDenied)

    assert rig.server.tokens == set()


@pytest.mark.parametrize("content", ["", "two words", "\x00\x01", "ü"])
async def test_a_token_file_with_something_else(rig: Rig, content: str) -> None:
    rig.token.write_text(content)
    await refused(rig, ForgeDenied)
    rig.token.unlink()
    await refused(rig, ForgeDenied)


# --- where -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("forge", "url", "base"),
    [
        ("github", "https://github.com/team/fleet.git", "https://api.github.com"),
        ("github", "git@github.com:team/fleet.git", "https://api.github.com"),
        ("github", "https://git.example.com/team/fleet", "https://git.example.com/api/v3"),
        ("gitlab", "ssh://git@git.example.com:2222/team/sub/fleet.git", "https://git.example.com/api/v4"),
        ("gitea", "https://git.example.com:3000/team/fleet.git", "https://git.example.com:3000/api/v1"),
    ],
)
def test_the_api_is_where_each_forge_has_it(tmp_path: Path, forge: str, url: str, base: str) -> None:
    access = PullRequest(forge=Forge(forge), token_file=tmp_path / "token")

    client = ForgeClient(url, access, ca_file=None, timeout=timedelta(seconds=1), agent="a")

    assert client._base == base


@pytest.mark.parametrize("url", ["file:///srv/fleet.git", "https://git.example.com/fleet.git"])
def test_what_is_on_no_forge(tmp_path: Path, url: str) -> None:
    access = PullRequest(forge=Forge.GITEA, token_file=tmp_path / "token")

    with pytest.raises(ConfigError):
        ForgeClient(url, access, ca_file=None, timeout=timedelta(seconds=1), agent="a")
