"""The client against a server that refuses, fails or says nothing, for long: what it sends, and what it keeps to itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from gitsyncd.edges.kube.client import Call, Client
from gitsyncd.edges.kube.connect import AccessSource
from gitsyncd.model.errors import ClusterDenied, ClusterError, ClusterUnreachable, Throttled
from gitsyncd.model.target import Cluster, Server
from tests.gitserver.certificates import Authority
from tests.unit.edges.kube_server import Answer, Scripted

GET = Call(method="GET", verb="get", path="/api/v1/namespaces/a")
PATCH = Call(method="PATCH", verb="patch", path="/api/v1/namespaces/a", body=b"{}")
RENEWAL = Call(method="PATCH", verb="patch", path="/apis/lease", body=b"{}", idempotent=False, urgent=True)


def now() -> float:
    return asyncio.get_running_loop().time()


class Moody:
    """Answers as `mood` says, and remembers when it was asked what."""

    def __init__(self, server: Scripted) -> None:
        self.mood: Answer = says(200)
        self.asked: list[tuple[float, str]] = []
        self.was_asked = asyncio.Event()
        server.script = [self._answer]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((now(), request.path))
        self.was_asked.set()
        return await self.mood(request)

    def asked_since(self, moment: float) -> list[tuple[float, str]]:
        return [(at, path) for at, path in self.asked if at >= moment]


def says(status: int, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=b"{}", status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


async def says_nothing(_: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3600)
    return web.Response()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
async def scripted(authority: Authority) -> AsyncIterator[Scripted]:
    server = Scripted(authority.server_certificate("127.0.0.1"))
    await server.start()
    yield server
    await server.stop()


@pytest.fixture
def server(scripted: Scripted) -> Moody:
    return Moody(scripted)


@pytest.fixture
async def client(scripted: Scripted, authority: Authority, tmp_path: Path) -> AsyncIterator[Client]:
    token = tmp_path / "token"
    token.write_text("secret")
    connection = Server(url=f"https://127.0.0.1:{scripted.port}", ca_file=authority.ca_file, token_file=token)
    made = Client(AccessSource(Cluster(name="eu", connection=connection)), cluster="eu", agent="edge", parallel=32)
    yield made
    await made.close()


async def turn(client: Client, objects: int, call: Call = PATCH) -> list[ClusterError]:
    """The errors of a turn of so many objects."""
    pending, errors = iter(range(objects)), []

    async def work() -> None:
        for _ in pending:
            try:
                await client.send(call)
            except ClusterError as error:
                errors.append(error)

    await asyncio.gather(*(work() for _ in range(32)))
    return errors


# --- nothing comes -------------------------------------------------------------------------------------------------------


async def test_a_turn_against_a_server_that_says_nothing_waits_for_the_first_requests_only(
    client: Client, server: Moody
) -> None:
    server.mood = says_nothing

    errors = await turn(client, 100)

    assert len(errors) == 100
    assert {type(error) for error in errors} == {ClusterUnreachable}
    assert {error.subject for error in errors} == {"eu"}
    assert len(server.asked) == 8 + 1  # those in flight, and the probe that showed that it is not them
    assert now() <= 11


async def test_a_turn_against_a_server_that_is_not_there_makes_no_hundred_attempts(
    client: Client, server: Moody, scripted: Scripted
) -> None:
    await client.send(GET)
    await scripted.stop()

    errors = await turn(client, 100)
    await scripted.start()

    assert len(errors) == 100
    assert all("connection" in error.message for error in errors)
    assert client.sent["patch", "error"] <= 3 * 8
    assert now() < 5


async def test_a_server_that_is_back_is_noticed_within_seconds_after_a_long_time(
    client: Client, server: Moody, scripted: Scripted
) -> None:
    await client.send(GET)
    await scripted.stop()
    await turn(client, 10)
    waiting = [asyncio.create_task(client.pause(3600)) for _ in range(9)]
    await asyncio.sleep(1800)

    await scripted.start()
    back = now()
    noticed = await asyncio.gather(*waiting)

    assert noticed == [True] * 9
    assert now() - back <= 6
    assert [path for _, path in server.asked_since(back)] == ["/version"]
    assert await client.send(GET) == b"{}"


async def test_one_request_that_hangs_does_not_keep_others_from_the_server(client: Client, server: Moody) -> None:
    async def hangs_for_patches(request: web.Request) -> web.StreamResponse:
        return await (says_nothing if request.method == "PATCH" else says(200))(request)

    server.mood = hangs_for_patches
    errors = await turn(client, 8)

    answer = await client.send(GET)

    assert len(errors) == 8
    assert answer == b"{}"


async def test_credentials_that_are_refused_are_an_answer(client: Client, server: Moody) -> None:
    server.mood = says(401)

    errors = await turn(client, 20)

    assert {type(error) for error in errors} == {ClusterDenied}
    assert [path for _, path in server.asked] == [PATCH.path] * 20


# --- too much ------------------------------------------------------------------------------------------------------------


async def test_a_pause_that_the_server_asks_for_is_kept_by_every_request(client: Client, server: Moody) -> None:
    server.mood = says(429, Retry_After="2")
    first = asyncio.create_task(client.send(GET))
    await server.was_asked.wait()
    await asyncio.sleep(0.01)  # of virtual time: the answer has been read
    asked = server.asked[0][0]
    server.mood = says(200)

    await asyncio.gather(first, *(client.send(PATCH) for _ in range(20)))

    assert min(at for at, _ in server.asked_since(asked + 0.001)) >= asked + 2


async def test_a_long_pause_is_kept_too_and_told_at_once(client: Client, server: Moody) -> None:
    server.mood = says(429, Retry_After="60")
    with pytest.raises(Throttled):
        await client.send(GET)
    server.mood = says(200)

    errors = await turn(client, 100)

    assert len(server.asked) == 1
    assert {type(error) for error in errors} == {Throttled}
    assert all(error.retry_after_s >= 60 for error in errors if isinstance(error, Throttled))
    await asyncio.sleep(80)
    assert await client.send(GET) == b"{}"


async def test_a_kind_that_is_not_ready_yet_slows_down_nothing_else(client: Client, server: Moody) -> None:
    status = b'{"kind":"Status","message":"storage is (re)initializing","reason":"TooManyRequests","code":429}'

    async def not_ready(_: web.Request) -> web.StreamResponse:
        return web.Response(body=status, status=429, headers={"Retry-After": "1"})

    server.mood = not_ready
    first = asyncio.create_task(client.send(GET))
    await server.was_asked.wait()
    await asyncio.sleep(0.01)  # of virtual time: the answer has been read
    begun = now()
    server.mood = says(200)

    await client.send(PATCH)

    assert now() == begun
    await first


# --- 503 -----------------------------------------------------------------------------------------------------------------


async def test_a_storm_of_503_is_left_alone_with_ever_longer_pauses(client: Client, server: Moody) -> None:
    server.mood = says(503)
    for _ in range(5):
        await turn(client, 100)
    before = len(server.asked)

    await client.pause(600)

    asked = [path for _, path in server.asked[before:]]
    assert set(asked) == {"/version"}
    assert 600 / 45 <= len(asked) <= 600 / 30 + 6


async def test_one_api_among_many_that_is_not_available_does_not_close_the_door_to_others(
    client: Client, server: Moody
) -> None:
    async def one_is_away(request: web.Request) -> web.StreamResponse:
        return await says(503 if request.path.startswith("/apis/metrics") else 200)(request)

    server.mood = one_is_away
    away = Call(method="GET", verb="get", path="/apis/metrics.k8s.io/v1beta1/pods")
    for _ in range(5):
        await turn(client, 20, away)
        assert await client.send(GET) == b"{}"


async def test_a_first_503_of_every_request_is_not_noticed(client: Client, server: Moody) -> None:
    async def first_no_then_yes(request: web.Request) -> web.StreamResponse:
        return await says(503 if len(server.asked) <= 32 else 200)(request)

    server.mood = first_no_then_yes

    errors = await turn(client, 32)

    assert errors == []
    assert len(server.asked) == 64


# --- the lease -----------------------------------------------------------------------------------------------------------


async def test_a_lease_is_renewed_while_the_circuit_is_open_and_its_answer_closes_it(
    client: Client, server: Moody
) -> None:
    server.mood = says(503)
    for _ in range(5):
        await turn(client, 100)
    server.mood = says(200)
    before = len(server.asked)

    refused = await turn(client, 1)
    renewed = await client.send(RENEWAL)

    assert len(refused) == 1
    assert renewed == b"{}"
    assert [path for _, path in server.asked[before:]] == [RENEWAL.path]
    assert await turn(client, 20) == []


async def test_a_lease_that_is_not_renewed_says_so_each_time_and_keeps_nobody_from_noticing_the_return(
    client: Client, server: Moody, scripted: Scripted
) -> None:
    await client.send(GET)
    await scripted.stop()
    await turn(client, 10)

    errors = await turn(client, 60, RENEWAL)
    waiting = asyncio.create_task(client.pause(3600))
    await asyncio.sleep(0)
    await scripted.start()
    back = now()

    assert len(errors) == 60
    assert await waiting is True
    assert now() - back <= 6


async def test_a_lease_is_renewed_while_the_server_has_asked_for_a_pause_and_while_others_wait_their_turn(
    client: Client, server: Moody
) -> None:
    server.mood = says(429, Retry_After="60")
    with pytest.raises(Throttled):
        await client.send(GET)
    server.mood = says(200)

    assert await client.send(RENEWAL) == b"{}"

    assert await turn(client, 1) != []
