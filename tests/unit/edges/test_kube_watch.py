"""A watch: lines cut out cheaply and trusted in nothing, and silence that means different things."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator

import orjson
import pytest
from aiohttp import web

from gitsyncd.edges.kube.client import Client
from gitsyncd.edges.kube.connect import AccessSource
from gitsyncd.edges.kube.watch import Pulse, parse_event, watch
from gitsyncd.model.answers import WatchEvent
from gitsyncd.model.errors import ClusterError, ClusterUnreachable, Expired
from gitsyncd.model.ids import ObjectType, ResourceType
from gitsyncd.model.target import Cluster, Server
from tests.gitserver.certificates import Authority
from tests.unit.edges.kube_server import Answer, Scripted

OBJECT = (
    b'{"kind":"ConfigMap","metadata":{"name":"a","namespace":"web","uid":"u","resourceVersion":"7"},"data":{"k":"}"}}'
)


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED", "DELETED"])
def test_an_event_carries_identity_and_the_object_as_it_came(kind: str) -> None:
    event = parse_event(b'{"type":"%s","object":%s}' % (kind.encode(), OBJECT), "eu")

    assert event == WatchEvent(kind=kind, namespace="web", name="a", uid="u", resource_version="7", object=OBJECT)


@pytest.mark.parametrize(
    "line",
    [b'{"object":%s,"type":"ADDED"}', b'{ "type": "ADDED", "object": %s }', b'{"type":"ADDED","object":%s,"more":1}'],
)
def test_an_event_written_otherwise_carries_the_same_object(line: bytes) -> None:
    event = parse_event(line % OBJECT, "eu")

    assert event is not None
    assert orjson.loads(event.object) == orjson.loads(OBJECT)


def test_a_bookmark_has_a_version_only() -> None:
    event = parse_event(b'{"type":"BOOKMARK","object":{"kind":"ConfigMap","metadata":{"resourceVersion":"9"}}}', "eu")

    assert event == WatchEvent(kind="BOOKMARK", namespace="", name="", uid="", resource_version="9", object=b"")


@pytest.mark.parametrize(
    ("code", "error"), [(410, Expired), (500, ClusterError), ("x", ClusterError), (None, ClusterError)]
)
def test_an_error_event_is_raised_as_what_it_stands_for(code: object, error: type[ClusterError]) -> None:
    status = {"kind": "Status", "code": code, "message": "too old resource version"}

    with pytest.raises(error) as caught:
        parse_event(json.dumps({"type": "ERROR", "object": status}).encode(), "eu")

    assert type(caught.value) is error


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"5",
        b'"x"',
        b"null",
        b"{}",
        b'{"type":"ADDED"}',
        b'{"type":"ADDED","object":null}',
        b'{"type":[],"object":{}}',
        b'{"type":"ERROR","object":7}',
        b'{"type":"ADDED","object":{"metadata":{"name":"a"}}}',
        b"\xff\xfe",
    ],
)
def test_a_line_that_is_no_event_is_an_error_of_ours(line: bytes) -> None:
    with pytest.raises(ClusterUnreachable):
        parse_event(line, "eu")


def test_an_empty_line_is_nothing() -> None:
    assert parse_event(b"", "eu") is None


# --- Streams ------------------------------------------------------------------------------------------------------------

CONFIG_MAPS = ResourceType(type=ObjectType(api_version="v1", kind="ConfigMap"), plural="configmaps", namespaced=True)
EVENT = b'{"type":"ADDED","object":%s}\n' % OBJECT
BOOKMARK = b'{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}\n'


def streams(*pieces: bytes, then_ends: bool = False) -> Answer:
    """Sends the pieces one by one and then nothing more."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for piece in pieces:
            await response.write(piece)
            await asyncio.sleep(0.01)
        while not then_ends and request.transport is not None:  # noqa: ASYNC110 - a lost peer rings no bell
            await asyncio.sleep(0.01)
        return response

    return answer


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
async def server(authority: Authority) -> AsyncIterator[Scripted]:
    scripted = Scripted(authority.server_certificate("127.0.0.1"))
    await scripted.start()
    yield scripted
    await scripted.stop()


@pytest.fixture
async def client(server: Scripted, authority: Authority) -> AsyncIterator[Client]:
    connection = Server(url=f"https://127.0.0.1:{server.port}", ca_file=authority.ca_file)
    made = Client(AccessSource(Cluster(name="eu", connection=connection)), cluster="eu", agent="edge", parallel=4)
    yield made
    await made.close()


def watching(client: Client, pulse: Pulse | None = None) -> AsyncGenerator[WatchEvent, None]:
    return watch(client, pulse or Pulse(client), CONFIG_MAPS, selector="a=b", resource_version="7")


async def test_a_watch_asks_for_what_it_needs(client: Client, server: Scripted) -> None:
    server.script = [streams(then_ends=True)]

    events = [event async for event in watching(client)]

    query = server.seen[0].query
    assert events == []
    assert server.seen[0].path == "/api/v1/configmaps"
    assert {key: query[key] for key in ("watch", "allowWatchBookmarks", "resourceVersion", "labelSelector")} == {
        "watch": "1",
        "allowWatchBookmarks": "true",
        "resourceVersion": "7",
        "labelSelector": "a=b",
    }
    assert 1800 <= int(query["timeoutSeconds"]) <= 3600


async def test_events_cut_anywhere_are_put_together(client: Client, server: Scripted) -> None:
    whole = EVENT + BOOKMARK + EVENT
    server.script = [streams(whole[:5], whole[5:130], whole[130:131], whole[131:], then_ends=True)]

    events = [event async for event in watching(client)]

    assert [event.kind for event in events] == ["ADDED", "BOOKMARK", "ADDED"]
    assert events[2].object == OBJECT


async def test_a_watch_that_misses_its_next_bookmark_ends_in_good_order(client: Client, server: Scripted) -> None:
    server.script = [streams(BOOKMARK)]

    async with asyncio.timeout(5):
        events = [event async for event in watching(client, Pulse(client, watch_silence_s=0.2))]

    assert [event.kind for event in events] == ["BOOKMARK"]


async def test_a_watch_that_never_had_a_bookmark_is_not_missing_one(client: Client, server: Scripted) -> None:
    server.script = [streams(EVENT)]
    feed = watching(client, Pulse(client, watch_silence_s=0.05))
    await anext(feed)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.5):
            await anext(feed)
            raise AssertionError("nothing more was sent")
    await feed.aclose()

    assert len(server.seen) == 1


async def test_a_stream_that_breaks_is_told_from_one_that_ends(client: Client, server: Scripted) -> None:
    async def breaks(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(EVENT)
        assert request.transport is not None
        request.transport.abort()
        return response

    server.script = [breaks]

    with pytest.raises(ClusterUnreachable) as caught:
        async for _ in watching(client):
            pass

    assert "broke" in caught.value.message


async def test_a_refused_watch_is_refused_as_any_request(client: Client, server: Scripted) -> None:
    async def gone(_: web.Request) -> web.StreamResponse:
        return web.Response(status=410, body=b'{"kind":"Status","code":410}')

    server.script = [gone]

    with pytest.raises(Expired):
        await anext(watching(client))


async def test_a_watch_that_nobody_reads_any_more_leaves_no_connection(client: Client, server: Scripted) -> None:
    server.script = [streams(EVENT)]
    feed = watching(client)
    await anext(feed)
    wire = await client.wire()

    await feed.aclose()

    connector = wire.watches.connector
    assert connector is not None
    assert not connector._acquired
    assert wire.streams == set()
