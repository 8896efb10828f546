"""What the paths say of a daemon in a world of memory: also when it stalls, and when something in it is broken."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import orjson
import pytest

from gitsyncd import endpoints
from gitsyncd.edges.web.http import Answer
from gitsyncd.engine.loop_lag import SAMPLE_EVERY_S, STALLED_S, LoopLag
from gitsyncd.model.errors import SourceUnreachable
from tests.engine.virtualtime import stall
from tests.engine.world import World


async def told(world: World, path: str, *, accept: str = "", lag: LoopLag | None = None, **facts: Any) -> Answer:
    known = endpoints.Facts(fleet=world.parts, status=world.control.status.of, ready=lambda: True)
    routes = endpoints._routes(replace(known, **facts), lag or LoopLag(), world.log)
    return await routes[path](accept)


async def test_a_loop_that_stalled_is_not_healthy_until_it_turns_again() -> None:
    async with World(["web"]) as world:
        lag = LoopLag()
        with lag.measured():
            assert (await told(world, "/healthz", lag=lag)).status == 200

            stall(SAMPLE_EVERY_S + STALLED_S)
            assert (await told(world, "/healthz", lag=lag)).status == 503

            await world.rest(2 * SAMPLE_EVERY_S)
            assert (await told(world, "/healthz", lag=lag)).status == 200


@pytest.mark.parametrize(("ready", "status"), [(True, 200), (False, 503)])
async def test_ready_is_what_the_daemon_says(ready: bool, status: int) -> None:
    async with World(["web"]) as world:
        assert (await told(world, "/readyz", ready=lambda: ready)).status == status
        assert f"gitsyncd_ready {int(ready)}\n" in (await told(world, "/metrics", ready=lambda: ready)).body.decode()


async def test_parts_that_are_replaced_are_those_that_are_measured() -> None:
    async with World(["web"]) as first, World(["api"]) as second:
        parts = [first.parts]
        before = await told(first, "/metrics", fleet=parts[0])
        parts[0] = second.parts
        after = await told(first, "/metrics", fleet=parts[0])

        assert b'{target="web@c1"}' in before.body and b'{target="web@c1"}' not in after.body
        assert b'{target="api@c1"}' in after.body


async def test_a_defect_is_an_answer_without_words_of_its_own_and_a_line_in_the_log() -> None:
    def broken() -> Any:
        raise RuntimeError("with a value that nobody may see")

    async with World(["web"]) as world:
        answer = await told(world, "/api/v1/status", status=broken)

        assert (answer.status, answer.body) == (500, b"internal error: see the log of the daemon\n")
        (line,) = world.events("internal error", loop="http")
        assert "RuntimeError" in line["error"] and "value" not in line["error"]


async def test_status_is_the_document_of_the_command_without_addresses() -> None:
    world = World(["web"])
    url = "https://git.example/fleet.git"
    world.repo.fault = lambda _: SourceUnreachable(f"{url} answers 500", hint=f"see {url}/info and ssh://u:pw@h/p")
    async with world:
        await world.until(lambda: world.events("source unreachable"))
        document = orjson.loads((await told(world, "/api/v1/status")).body)

        assert document["sources"][0]["error"] == "(url of fleet) answers 500"
        assert "(url of fleet)" in document["targets"][0]["problems"][0]["hint"]
        assert "pw@" not in str(document)
        assert document["targets"][0].keys() == world.control.status.of()["targets"][0].keys()


ADDRESSES: list[tuple[str, str]] = [
    ("see https://git.example.com/a/b.git?x=1 now", "see https://git.example.com/… now"),
    ("https://user:pw@git.example.com:8443/a", "https://git.example.com:8443/…"),
    ("'ssh://git@h/a/b', (https://x/y)", "'ssh://h/…', (https://x/…)"),
    ("no connection to https://10.0.0.1:6443", "no connection to https://10.0.0.1:6443"),
    ("https://u:pw@h", "https://h"),
    ("main@sha1:0123 of web@eu-1: a/b", "main@sha1:0123 of web@eu-1: a/b"),
    ("file:///srv/other", "file:///…"),
]


@pytest.mark.parametrize(("text", "shown"), ADDRESSES)
def test_of_other_addresses_only_the_host_is_left(text: str, shown: str) -> None:
    nothing = cast("Any", SimpleNamespace(configuration=SimpleNamespace(sources=())))

    assert endpoints.without_addresses(text, nothing) == shown


async def test_where_nothing_shall_listen_nothing_is_said() -> None:
    async with World(["web"]) as world:
        known = endpoints.Facts(fleet=world.parts, status=dict, ready=lambda: True)
        async with endpoints.serve(known, log=world.log):
            pass

        assert world.events("http listening", "http unavailable") == []
