"""Watches on a real API server that is hurt: restarts, frozen processes, paths that swallow everything."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

import pytest

from gitsyncd.edges.kube.client import Client
from gitsyncd.edges.kube.connect import AccessSource
from gitsyncd.edges.kube.objects import list_all
from gitsyncd.edges.kube.watch import Pulse, watch
from gitsyncd.model.answers import WatchEvent
from gitsyncd.model.errors import ClusterDenied, ClusterUnreachable, Expired, GitsyncdError
from gitsyncd.model.ids import ObjectType, ResourceType
from gitsyncd.model.target import Cluster as ClusterFacts
from gitsyncd.model.target import Server
from tests.sandbox import Cluster
from tests.sandbox.fixtures import MakeCluster

pytestmark = pytest.mark.real

CONFIG_MAPS = ResourceType(type=ObjectType(api_version="v1", kind="ConfigMap"), plural="configmaps", namespaced=True)
SERVICES = ResourceType(type=ObjectType(api_version="v1", kind="Service"), plural="services", namespaced=True)


class BlackHole:
    """A path to a server that can stop carrying anything, while both ends still get their bytes acknowledged."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._carrying = asyncio.Event()
        self._carrying.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def swallow(self) -> None:
        self._carrying.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        for source, sink in ((reader, back), (there, writer)):
            self._tasks.add(asyncio.create_task(self._carry(source, sink)))

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                await self._carrying.wait()
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.transport.abort()


@pytest.fixture(scope="module")
def cluster(make_shared_cluster: MakeCluster) -> Cluster:
    """Its API server is stopped and frozen here, and every request is on record."""
    return make_shared_cluster(audit=True)


@pytest.fixture
async def clients() -> AsyncIterator[list[Client]]:
    made: list[Client] = []
    yield made
    for client in made:
        await client.close()


def client_of(clients: list[Client], cluster: Cluster, *, port: int = 0, token_file: Path | None = None) -> Client:
    cert, key = cluster.admin_certificate
    by_token: dict[str, Any] = {"token_file": token_file}
    by_certificate: dict[str, Any] = {"client_cert_file": cert, "client_key_file": key}
    connection = Server(
        url=f"https://127.0.0.1:{port or cluster.port}",
        ca_file=cluster.ca_file,
        **(by_token if token_file else by_certificate),
    )
    source = AccessSource(ClusterFacts(name="eu", connection=connection))
    clients.append(Client(source, cluster="eu", agent="edge", parallel=4))
    return clients[-1]


def version_now(cluster: Cluster) -> str:
    listing: dict[str, Any] = cluster.request("GET", "/api/v1/configmaps?limit=1")
    return str(listing["metadata"]["resourceVersion"])


def make(cluster: Cluster, namespace: str, name: str) -> None:
    cluster.request("POST", f"/api/v1/namespaces/{namespace}/configmaps", {"metadata": {"name": name}})


async def first(feed: AsyncIterator[WatchEvent]) -> WatchEvent:
    return await anext(feed)


async def how_it_ended(feed: AsyncIterator[WatchEvent]) -> GitsyncdError | None:
    """None for an end in good order."""
    try:
        async for _ in feed:
            pass
    except GitsyncdError as error:
        return error
    return None


async def seconds(step: Any) -> tuple[float, Any]:
    loop = asyncio.get_running_loop()
    begin = loop.time()
    answer = await step
    return loop.time() - begin, answer


async def until(fact: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not fact():  # noqa: ASYNC110 - what is waited for rings no bell
            await asyncio.sleep(0.01)


async def opened(client: Client, wanted: int) -> None:
    """Wait until so many watches were accepted."""
    await until(lambda: client.sent["watch", "200"] >= wanted)


async def test_an_event_of_several_hundred_kilobytes_arrives_whole(
    cluster: Cluster, clients: list[Client], namespace: str
) -> None:
    cluster.create_namespace(namespace)
    client = client_of(clients, cluster)
    feed = watch(
        client, Pulse(client), CONFIG_MAPS, selector="", resource_version=version_now(cluster), namespace=namespace
    )

    cluster.request(
        "POST",
        f"/api/v1/namespaces/{namespace}/configmaps",
        {"metadata": {"name": "big"}, "data": {"k": "x" * 900_000}},
    )
    event = await first(feed)
    await feed.aclose()

    assert json.loads(event.object)["data"]["k"] == "x" * 900_000


async def test_an_api_server_that_restarts_ends_the_watch_and_the_next_one_begins_at_a_new_list(
    cluster: Cluster, clients: list[Client], namespace: str
) -> None:
    """A server remembers no change from before its start: what the old watch had not seen, it must not pass over."""
    cluster.create_namespace(namespace)
    client = client_of(clients, cluster)
    pulse = Pulse(client)
    version = version_now(cluster)
    make(cluster, namespace, "unseen")
    ending = asyncio.create_task(
        how_it_ended(
            watch(client, pulse, CONFIG_MAPS, selector="", resource_version=version_now(cluster), namespace=namespace)
        )
    )
    await opened(client, 1)

    await asyncio.to_thread(cluster.stop_apiserver)
    error = await asyncio.wait_for(ending, 10)
    refused = await how_it_ended(watch(client, pulse, CONFIG_MAPS, selector="", resource_version=version))
    await asyncio.to_thread(cluster.start_apiserver)
    behind = await how_it_ended(watch(client, pulse, CONFIG_MAPS, selector="", resource_version=version))
    version = version_now(cluster)
    make(cluster, namespace, "meanwhile")
    feed = watch(client, pulse, CONFIG_MAPS, selector="", resource_version=version, namespace=namespace)
    event = await asyncio.wait_for(first(feed), 10)
    await feed.aclose()

    assert isinstance(error, ClusterUnreachable)
    assert isinstance(refused, ClusterUnreachable)
    assert "connection refused" in refused.message
    assert isinstance(behind, Expired)
    assert (event.kind, event.name) == ("ADDED", "meanwhile")


async def test_a_path_that_swallows_everything_is_noticed_by_one_probe_for_all_watches(
    cluster: Cluster, clients: list[Client]
) -> None:
    async with BlackHole(cluster.port) as path:
        client = client_of(clients, cluster, port=path.port)
        pulse = Pulse(client, silence_s=1.0)
        endings = [
            asyncio.create_task(
                how_it_ended(watch(client, pulse, kind, selector="a=b", resource_version=version_now(cluster)))
            )
            for kind in (CONFIG_MAPS, SERVICES)
        ]
        await opened(client, 2)

        path.swallow()
        took, errors = await seconds(asyncio.wait_for(asyncio.gather(*endings), 20))

    assert [type(error) for error in errors] == [ClusterUnreachable, ClusterUnreachable]
    assert "nothing was heard for 1 s" in errors[0].message
    # A second of silence, five for the probe: one probe, not one after the other.
    assert took < 8


async def test_silence_of_a_living_server_costs_no_request(cluster: Cluster, clients: list[Client]) -> None:
    client = client_of(clients, cluster)
    pulse = Pulse(client, silence_s=0.1)
    ending = asyncio.create_task(
        how_it_ended(watch(client, pulse, CONFIG_MAPS, selector="a=b", resource_version=version_now(cluster)))
    )
    await opened(client, 1)
    probes = 0
    probe = client.probe

    async def counting() -> None:
        nonlocal probes
        await probe()
        probes += 1

    client.probe = counting  # type: ignore[method-assign]
    before = len([event for event in cluster.audit(user_agent="gitsyncd/") if event.verb != "watch"])
    await until(lambda: probes >= 5)

    assert not ending.done()
    assert len([event for event in cluster.audit(user_agent="gitsyncd/") if event.verb != "watch"]) == before
    assert dict(client.sent) == {("watch", "200"): 1}
    assert "TLS handshake error" not in cluster.log("kube-apiserver")
    ending.cancel()
    await asyncio.gather(ending, return_exceptions=True)


@pytest.mark.slow
async def test_a_frozen_api_server_is_noticed_within_a_minute(cluster: Cluster, clients: list[Client]) -> None:
    client = client_of(clients, cluster)
    pulse = Pulse(client)
    ending = asyncio.create_task(
        how_it_ended(watch(client, pulse, CONFIG_MAPS, selector="a=b", resource_version=version_now(cluster)))
    )
    await opened(client, 1)

    with cluster.frozen():
        took, error = await seconds(asyncio.wait_for(ending, 60))

    assert isinstance(error, ClusterUnreachable)
    assert "nothing was heard for 40 s" in error.message
    assert took < 55


@pytest.mark.slow
async def test_a_kind_that_has_moved_sends_a_bookmark_within_75_seconds(
    cluster: Cluster, clients: list[Client]
) -> None:
    client = client_of(clients, cluster)
    feed = watch(client, Pulse(client), CONFIG_MAPS, selector="a=b", resource_version=version_now(cluster))
    told = asyncio.create_task(first(feed))
    await opened(client, 1)
    # Not selected, so it is no event; but the kind's version is past the one that the watch began at. What the server
    # had seen before the watch was open would not count.
    cluster.request("POST", "/api/v1/namespaces/default/configmaps", {"metadata": {"generateName": "moved-"}})

    event = await asyncio.wait_for(told, 75)
    await feed.aclose()

    assert event.kind == "BOOKMARK"
    assert event.resource_version


async def test_renewed_credentials_end_the_watch_in_good_order(
    cluster: Cluster, clients: list[Client], tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    write(token_file, cluster.admin_token)
    client = client_of(clients, cluster, token_file=token_file)
    ending = asyncio.create_task(
        how_it_ended(watch(client, Pulse(client), CONFIG_MAPS, selector="a=b", resource_version=version_now(cluster)))
    )
    await opened(client, 1)

    write(token_file, cluster.service_account_token("default", "edge"))
    for _ in range(2):  # at the first look the file may still be in the making
        client._looked_at = 0.0
        await client.wire()
    error = await asyncio.wait_for(ending, 5)

    assert error is None


async def test_a_token_that_was_revoked_is_expired_until_its_file_has_a_new_one(
    cluster: Cluster, clients: list[Client], tmp_path: Path, namespace: str
) -> None:
    cluster.create_namespace(namespace)
    cluster.grant(f"{namespace}:edge", "cluster-admin")
    token_file = tmp_path / "token"
    write(token_file, cluster.service_account_token(namespace, "edge"))
    client = client_of(clients, cluster, token_file=token_file)
    await list_all(client, SERVICES)

    cluster.revoke_service_account_tokens(namespace, "edge")

    async def denied() -> ClusterDenied:
        while True:
            try:
                await list_all(client, SERVICES)
            except ClusterDenied as error:
                return error
            await asyncio.sleep(0.2)

    error = await asyncio.wait_for(denied(), 30)
    write(token_file, cluster.service_account_token(namespace, "edge"))
    page = await list_all(client, SERVICES)

    assert error.expired is True
    assert page.resource_version


def write(file: Path, text: str) -> None:
    file.write_text(text)
