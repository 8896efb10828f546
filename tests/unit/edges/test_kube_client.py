"""The client against a server that does what a test tells it: retries, deadlines, credentials, and what never happens."""

from __future__ import annotations

import asyncio
import asyncio.sslproto
import contextlib
import gzip
import json
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.connector import Connection

from gitsyncd.edges.kube import client as client_module
from gitsyncd.edges.kube import objects as objects_module
from gitsyncd.edges.kube.client import Call, Client
from gitsyncd.edges.kube.connect import Access, AccessSource
from gitsyncd.edges.kube.discover import discover
from gitsyncd.edges.kube.fence import Fence
from gitsyncd.edges.kube.objects import list_all, read
from gitsyncd.model.errors import (
    ClusterDenied,
    ClusterError,
    ClusterUnreachable,
    ConfigError,
    KindUnknown,
    LeaseLost,
    Rejected,
    Throttled,
)
from gitsyncd.model.ids import ObjectId, ObjectType, ResourceType
from gitsyncd.model.target import Cluster, Server
from tests.gitserver.certificates import Authority
from tests.unit.edges.kube_server import Answer, Scripted

GET = Call(method="GET", verb="get", path="/api/v1/namespaces/a")
POST = Call(method="POST", verb="create", path="/api/v1/namespaces", body=b"{}", idempotent=False)
CONFIG_MAPS = ResourceType(type=ObjectType(api_version="v1", kind="ConfigMap"), plural="configmaps", namespaced=True)


def write(file: Path, text: str) -> None:
    file.write_text(text)


def says(body: bytes = b"{}", status: int = 200, **headers: str) -> Answer:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(body=body, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return answer


async def hangs_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.abort()
    raise ConnectionResetError


async def breaks_off(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Length": "100"})
    await response.prepare(request)
    await response.write(b"{")
    return await hangs_up(request)


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
def token_file(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    write(file, "first")
    return file


@pytest.fixture
async def client(server: Scripted, authority: Authority, token_file: Path) -> AsyncIterator[Client]:
    connection = Server(url=f"https://127.0.0.1:{server.port}", ca_file=authority.ca_file, token_file=token_file)
    made = Client(AccessSource(Cluster(name="eu", connection=connection)), cluster="eu", agent="edge", parallel=4)
    yield made
    await made.close()


@pytest.fixture
def fresh_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are looked at before every request, not once a second."""
    monkeypatch.setattr(client_module, "_FRESHNESS_S", 0.0)


async def test_requests_say_who_asks(client: Client, server: Scripted) -> None:
    server.script = [says()]

    await client.send(GET)

    headers = server.seen[0].headers
    assert headers["User-Agent"].startswith("gitsyncd/")
    assert headers["User-Agent"].endswith(" (edge)")
    assert headers["Authorization"] == "Bearer first"


@pytest.mark.parametrize(
    "hiccup",
    [hangs_up, breaks_off, says(status=503), says(status=502), says(status=504), says(status=429, Retry_After="0")],
    ids=["hangs up", "breaks off", "503", "502", "504", "429"],
)
async def test_a_hiccup_is_not_noticed(client: Client, server: Scripted, hiccup: Answer) -> None:
    server.script = [hiccup, says(b'{"a":1}')]

    body = await client.send(GET)

    assert body == b'{"a":1}'
    assert len(server.seen) == 2


@pytest.mark.parametrize("hiccup", [hangs_up, breaks_off, says(status=503)], ids=["hangs up", "breaks off", "503"])
async def test_a_create_that_may_have_arrived_is_not_sent_again(
    client: Client, server: Scripted, hiccup: Answer
) -> None:
    server.script = [hiccup, says()]

    with pytest.raises(ClusterUnreachable):
        await client.send(POST)

    assert len(server.seen) == 1


async def test_a_server_that_stays_away_is_an_error_within_seconds(client: Client, server: Scripted) -> None:
    server.script = [says(status=503)]

    with pytest.raises(ClusterUnreachable) as caught:
        await asyncio.wait_for(client.send(GET), 10)

    assert "not available (503)" in caught.value.message
    assert caught.value.subject == "eu"


async def test_a_long_pause_that_the_server_asks_for_is_passed_on(client: Client, server: Scripted) -> None:
    server.script = [says(status=429, Retry_After="60")]

    with pytest.raises(Throttled) as caught:
        await asyncio.wait_for(client.send(GET), 5)

    assert caught.value.retry_after_s == 60
    assert len(server.seen) == 1


async def test_a_redirect_is_not_followed_and_takes_no_credentials_along(client: Client, server: Scripted) -> None:
    server.script = [says(status=307, Location="https://127.0.0.1:1/steal"), says()]

    with pytest.raises(ClusterUnreachable) as caught:
        await client.send(GET)

    assert "redirect" in caught.value.message
    assert len(server.seen) == 1


async def test_a_server_that_never_answers_runs_into_the_deadline(client: Client, server: Scripted) -> None:
    ended = asyncio.Event()

    async def never(_: web.Request) -> web.StreamResponse:
        await ended.wait()
        return web.Response()

    server.script = [never]
    call = Call(method="GET", verb="get", path="/slow", timeout=aiohttp.ClientTimeout(total=0.2))

    with pytest.raises(ClusterUnreachable) as caught:
        await client.send(call)

    assert "no answer within the time limit" in caught.value.message
    ended.set()


async def test_an_answer_above_its_cap_is_refused(
    client: Client, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "MAX_ANSWER_BYTES", 1000)
    # Compressed on the way: it is the opened size that counts.
    server.script = [says(gzip.compress(b"x" * 100_000), Content_Encoding="gzip")]

    with pytest.raises(ClusterUnreachable):
        await client.send(Call(method="GET", verb="get", path="/big", idempotent=False))


async def test_a_new_token_is_used_as_soon_as_its_file_has_stayed_the_same(
    client: Client, server: Scripted, token_file: Path, fresh_files: None
) -> None:
    server.script = [says()]
    await client.send(GET)

    write(token_file, "second")
    for _ in range(3):
        await client.send(GET)

    used = [request.headers["Authorization"] for request in server.seen]
    assert used == ["Bearer first", "Bearer first", "Bearer second", "Bearer second"]
    assert len(server.connections) == 2  # nothing travels on the old connection any more


async def test_files_that_did_not_change_keep_the_connection(
    client: Client, server: Scripted, fresh_files: None
) -> None:
    server.script = [says()]

    for _ in range(5):
        await client.send(GET)

    assert len(server.connections) == 1


async def test_a_half_written_file_is_not_adopted(
    client: Client, server: Scripted, token_file: Path, fresh_files: None
) -> None:
    server.script = [says()]
    await client.send(GET)

    for piece in ("", "sec", "secon"):
        write(token_file, piece)
        await client.send(GET)
    write(token_file, "")
    await client.send(GET)
    await client.send(GET)
    write(token_file, "second")
    await client.send(GET)
    await client.send(GET)

    assert [r.headers["Authorization"] for r in server.seen] == ["Bearer first"] * 7 + ["Bearer second"]


async def test_a_401_reads_the_credentials_once_more_and_tries_again(
    client: Client, server: Scripted, token_file: Path
) -> None:
    server.script = [says(), says(status=401), says(b'{"a":1}')]
    await client.send(GET)

    write(token_file, "second")
    body = await client.send(GET)

    assert body == b'{"a":1}'
    assert server.seen[-1].headers["Authorization"] == "Bearer second"


async def test_a_401_with_unchanged_credentials_is_expired_and_not_repeated(client: Client, server: Scripted) -> None:
    server.script = [says(status=401)]

    with pytest.raises(ClusterDenied) as caught:
        await client.send(GET)

    assert caught.value.expired is True
    assert len(server.seen) == 1


async def test_credentials_that_all_requests_find_expired_are_read_once_for_all(
    client: Client, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = [says()]
    await client.send(GET)
    readings = 0
    load = client._source.load

    async def counting() -> Access:
        nonlocal readings
        readings += 1
        return await load()

    monkeypatch.setattr(client._source, "load", counting)
    server.script = [says(status=401)]

    answers = await asyncio.gather(*(client.send(GET) for _ in range(4)), return_exceptions=True)

    assert [type(answer) for answer in answers] == [ClusterDenied] * 4
    assert readings == 1


async def test_files_that_nobody_can_use_are_read_once_for_all(authority: Authority, tmp_path: Path) -> None:
    connection = Server(url="https://127.0.0.1:1", ca_file=authority.ca_file, token_file=tmp_path / "none")
    source = AccessSource(Cluster(name="eu", connection=connection))
    client = Client(source, cluster="eu", agent="edge", parallel=4)
    readings = 0
    load = source.load

    async def counting() -> Access:
        nonlocal readings
        readings += 1
        await asyncio.sleep(0)
        return await load()

    source.load = counting  # type: ignore[method-assign]

    answers = await asyncio.gather(*(client.send(GET) for _ in range(4)), return_exceptions=True)

    assert [type(answer) for answer in answers] == [ConfigError] * 4
    assert readings == 1


async def test_a_server_of_another_authority_is_not_talked_to(
    server: Scripted, token_file: Path, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other")
    connection = Server(url=f"https://127.0.0.1:{server.port}", ca_file=other.ca_file, token_file=token_file)
    client = Client(AccessSource(Cluster(name="eu", connection=connection)), cluster="eu", agent="edge", parallel=4)

    with pytest.raises(ClusterDenied) as caught:
        await client.send(GET)

    assert "not trusted" in caught.value.message
    assert "ca_file" in caught.value.hint
    assert server.seen == []
    await client.close()


async def test_a_certificate_for_another_name_is_not_trusted(authority: Authority, token_file: Path) -> None:
    scripted = Scripted(authority.server_certificate("api.example.com"))
    scripted.script = [says()]
    await scripted.start()
    connection = Server(url=f"https://127.0.0.1:{scripted.port}", ca_file=authority.ca_file, token_file=token_file)
    client = Client(AccessSource(Cluster(name="eu", connection=connection)), cluster="eu", agent="edge", parallel=4)

    with pytest.raises(ClusterDenied) as caught:
        await client.send(GET)

    assert "not trusted" in caught.value.message
    assert scripted.seen == []
    await client.close()
    await scripted.stop()


@pytest.mark.parametrize(
    ("start", "says_what"),
    [(b"", "broke"), (b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request", "no TLS connection")],
    ids=["closes", "plain HTTP"],
)
async def test_an_address_that_does_not_speak_tls_is_told(authority: Authority, start: bytes, says_what: str) -> None:
    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        await writer.drain()
        writer.close()

    plain = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = plain.sockets[0].getsockname()[1]
    connection = Server(url=f"https://127.0.0.1:{port}", ca_file=authority.ca_file)
    client = Client(AccessSource(Cluster(name="eu", connection=connection)), cluster="eu", agent="edge", parallel=4)

    with pytest.raises(ClusterUnreachable) as caught:
        await client.send(POST)

    assert says_what in caught.value.message or "no connection" in caught.value.message
    await client.close()
    plain.close()
    await plain.wait_closed()


async def test_an_address_where_nobody_listens_is_told_at_once(client: Client, server: Scripted) -> None:
    await server.stop()
    loop = asyncio.get_running_loop()
    begin = loop.time()

    with pytest.raises(ClusterUnreachable) as caught:
        await client.send(GET)

    assert "connection refused" in caught.value.message
    assert loop.time() - begin < 1.0
    await server.start()  # the fixture stops it


async def test_no_more_requests_are_in_flight_than_allowed(client: Client, server: Scripted) -> None:
    together, most = 0, 0

    async def answer(_: web.Request) -> web.StreamResponse:
        nonlocal together, most
        together += 1
        most = max(most, together)
        await asyncio.sleep(0.005)
        together -= 1
        return web.Response(body=b"{}")

    server.script = [answer]

    await asyncio.gather(*(client.send(GET) for _ in range(40)))

    assert most == 4


async def test_every_request_is_counted_by_verb_and_code(client: Client, server: Scripted) -> None:
    server.script = [says(), says(status=404), breaks_off, says()]

    await client.send(GET)
    with pytest.raises(KindUnknown):
        await client.send(GET)
    await client.send(GET)

    assert client.sent == {("get", "200"): 2, ("get", "404"): 1, ("get", "error"): 1}


async def test_asyncio_still_takes_its_tls_buffer_size_from_where_we_set_it(client: Client, server: Scripted) -> None:
    server.script = [says()]

    await client.send(GET)

    wire = await client.wire()
    connector = wire.requests.connector
    assert connector is not None
    (connection,) = [protocol for pool in connector._conns.values() for protocol, _ in pool]
    assert connection.transport is not None
    protocol = connection.transport._ssl_protocol  # type: ignore[attr-defined]
    assert isinstance(protocol, asyncio.sslproto.SSLProtocol)
    assert len(protocol._ssl_buffer) == 16 * 1024  # type: ignore[attr-defined]


async def test_a_missing_file_is_an_error_of_configuration(authority: Authority, tmp_path: Path) -> None:
    connection = Server(url="https://127.0.0.1:1", ca_file=authority.ca_file, token_file=tmp_path / "none")
    client = Client(AccessSource(Cluster(name="eu", connection=connection)), cluster="eu", agent="edge", parallel=4)

    with pytest.raises(ConfigError):
        await client.send(GET)


# --- What others take for an answer -------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [b"<html>", b"[]", b"", b"5"])
async def test_a_page_in_place_of_an_object_is_no_object(client: Client, server: Scripted, body: bytes) -> None:
    server.script = [says(body)]

    with pytest.raises(ClusterUnreachable):
        await read(client, CONFIG_MAPS, ObjectId(group="", kind="ConfigMap", namespace="web", name="a"))


async def test_a_plain_404_is_an_unknown_kind_and_not_an_absent_object(client: Client, server: Scripted) -> None:
    server.script = [says(b"404 page not found\n", status=404)]

    with pytest.raises(KindUnknown):
        await read(client, CONFIG_MAPS, ObjectId(group="", kind="ConfigMap", namespace="web", name="a"))


@pytest.mark.parametrize("body", [b"{}", b'{"items":5,"metadata":{}}', b'{"items":[5],"metadata":{}}', b'{"items":[]}', b'{"items":[],"metadata":{}}'])  # fmt: skip
async def test_a_list_that_is_none_is_never_an_empty_list(client: Client, server: Scripted, body: bytes) -> None:
    server.script = [says(body)]

    with pytest.raises(ClusterUnreachable):
        await list_all(client, CONFIG_MAPS)


async def test_a_page_that_fails_fails_the_list(client: Client, server: Scripted) -> None:
    first = b'{"items":[{"metadata":{"name":"a"}}],"metadata":{"resourceVersion":"1","continue":"t"}}'
    server.script = [says(first), says(status=500)]

    with pytest.raises(ClusterError):
        await list_all(client, CONFIG_MAPS)


async def test_a_list_whose_token_expired_begins_again(client: Client, server: Scripted) -> None:
    first = b'{"items":[{"metadata":{"name":"a"}}],"metadata":{"resourceVersion":"1","continue":"t"}}'
    last = b'{"items":[{"metadata":{"name":"b"}}],"metadata":{"resourceVersion":"2"}}'
    server.script = [says(first), says(status=410), says(first), says(last)]

    page = await list_all(client, CONFIG_MAPS)

    assert [(item["kind"], item["metadata"]["name"]) for item in page.items] == [("ConfigMap", "a"), ("ConfigMap", "b")]
    assert page.resource_version == "2"
    assert [request.query.get("continue") for request in server.seen] == [None, "t", None, "t"]


async def test_a_list_that_never_ends_is_given_up(
    client: Client, server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(objects_module, "MAX_PAGES", 5)
    server.script = [says(b'{"items":[],"metadata":{"resourceVersion":"1","continue":"t"}}')]

    with pytest.raises(ClusterUnreachable) as caught:
        await list_all(client, CONFIG_MAPS)

    assert "does not end after 5 pages" in caught.value.message
    assert len(server.seen) == 5


async def test_a_server_without_aggregated_discovery_is_too_old(client: Client, server: Scripted) -> None:
    server.script = [says(b'{"kind":"APIGroupList","groups":[]}')]

    with pytest.raises(ClusterError) as caught:
        await discover(client)

    assert "1.30 or newer" in caught.value.hint


async def test_kinds_of_a_stale_group_and_what_cannot_be_listed_are_absent(client: Client, server: Scripted) -> None:
    served = {"resource": "foos", "responseKind": {"kind": "Foo"}, "scope": "Namespaced", "verbs": ["get", "list"]}
    document = {
        "kind": "APIGroupDiscoveryList",
        "items": [
            {
                "metadata": {"name": "example.com"},
                "versions": [
                    {"version": "v2", "freshness": "Current", "resources": [served]},
                    {"version": "v1", "resources": [served, {**served, "responseKind": {"kind": "Review"}, "verbs": ["create"]}]},
                    {"version": "v0", "freshness": "Stale", "resources": [served]},
                ],
            },
            {"metadata": {"name": "empty.example.com"}, "versions": None},
        ],
    }  # fmt: skip
    server.script = [says(b'{"kind":"APIGroupDiscoveryList"}'), says(json.dumps(document).encode())]

    found = await discover(client)

    assert {str(kind): resource.preferred for kind, resource in found.resources.items()} == {
        "Foo.example.com/v2": True,
        "Foo.example.com/v1": False,
    }
    assert found.stale == {"example.com"}


@pytest.mark.parametrize("body", [b"", b"[]", b'{"kind":"APIGroupDiscoveryList","items":[5]}', b'{"kind":"APIGroupDiscoveryList","items":[{"metadata":{},"versions":[{}]}]}'])  # fmt: skip
async def test_a_discovery_that_is_none_is_an_error_of_ours(client: Client, server: Scripted, body: bytes) -> None:
    server.script = [says(body)]

    with pytest.raises(ClusterUnreachable):
        await discover(client)


async def test_a_kind_that_refuses_a_method_says_so(client: Client, server: Scripted) -> None:
    server.script = [says(b'{"kind":"Status","message":"the server does not allow this method"}', status=405)]

    with pytest.raises(Rejected):
        await client.send(POST)


# --- what leaves without the lease ---------------------------------------------------------------------------------

WRITES = [
    pytest.param("PUT", b"{}", id="with a body"),
    pytest.param("DELETE", b"", id="without one"),
    pytest.param("POST", b"{}", id="one that is not sent twice"),
    pytest.param("POST", b'"' + b"x" * 4_000_000 + b'"', id="a large one that is not sent twice"),
    pytest.param("PUT", b'"' + b"x" * 4_000_000 + b'"', id="more than one call of the system sends"),
]


def write_of(method: str, body: bytes) -> Call:
    return Call(method=method, verb="update", path="/api/v1/namespaces/a", body=body, idempotent=method != "POST")


@pytest.fixture
async def fenced(server: Scripted, authority: Authority, token_file: Path) -> AsyncIterator[tuple[Client, Fence]]:
    fence = Fence(cluster="eu", agent="edge", namespace="gitsyncd")
    connection = Server(url=f"https://127.0.0.1:{server.port}", ca_file=authority.ca_file, token_file=token_file)
    source = AccessSource(Cluster(name="eu", connection=connection))
    made = Client(source, cluster="eu", agent="edge", parallel=4, fence=fence)
    yield made, fence
    await made.close()


@pytest.mark.parametrize(("method", "body"), WRITES)
@pytest.mark.parametrize("kept", [False, True], ids=["first on its connection", "on a kept connection"])
async def test_a_lease_that_is_over_when_the_request_is_about_to_leave_keeps_it_back(
    fenced: tuple[Client, Fence],
    server: Scripted,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    body: bytes,
    kept: bool,
) -> None:
    """As if the process were stopped between the look at the clock and the system call, and went on much later."""
    client, fence = fenced
    server.script = [says()]
    fence.until = float("inf")
    if kept:
        await client.send(GET)
    send, sent = aiohttp.ClientRequest.send, []

    async def stopped(request: aiohttp.ClientRequest, conn: Connection) -> aiohttp.ClientResponse:
        fence.until = float("-inf")
        sent.append(request.method)
        return await send(request, conn)

    monkeypatch.setattr(aiohttp.ClientRequest, "send", stopped)

    with pytest.raises(LeaseLost):
        await client.send(write_of(method, body))

    assert sent == [method]
    assert [request.method for request in server.seen] == ["GET"] * kept
    monkeypatch.undo()
    await client.send(GET)
    fence.until = float("inf")
    await client.send(write_of(method, body))
    assert [request.method for request in server.seen][kept:] == ["GET", method]


async def test_a_large_write_ends_in_the_middle_when_the_lease_does(
    fenced: tuple[Client, Fence], server: Scripted
) -> None:
    client, fence = fenced
    fence.until = float("inf")
    arrived: list[int] = []

    async def slow(request: web.Request) -> web.StreamResponse:
        first = await request.content.readany()
        fence.until = float("-inf")
        with contextlib.suppress(Exception):
            arrived.append(len(first) + len(await request.content.read()))
        return web.Response()

    server.script = [slow]

    with pytest.raises(LeaseLost):
        await client.send(Call(method="PUT", verb="update", path="/api/v1/namespaces/a", body=b"x" * 60_000_000))

    assert arrived == []
