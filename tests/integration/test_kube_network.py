"""A real API server at the end of a road that is long, or leads nowhere for a while."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from gitsyncd.edges.kube.cluster import KubeCluster
from gitsyncd.model.answers import ApplyOptions
from gitsyncd.model.errors import ClusterError, ClusterUnreachable
from gitsyncd.model.ids import ObjectId, ObjectType, ResourceType
from gitsyncd.model.target import Agent, Server
from gitsyncd.model.target import Cluster as ClusterFacts
from tests.sandbox import Cluster
from tests.sandbox.fixtures import MakeCluster

pytestmark = pytest.mark.real

CONFIG_MAPS = ResourceType(type=ObjectType(api_version="v1", kind="ConfigMap"), plural="configmaps", namespaced=True)


class Road:
    """A port that leads to a server: at its own speed, or to nowhere."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._open = asyncio.Event()
        self._open.set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.way_s = 0.0
        self.attempts = 0
        """Connections that were made to it."""
        self.port = 0

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._travel, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def lead_nowhere(self) -> None:
        """Everything is taken and nothing arrives; connections stay."""
        self._open.clear()

    def lead_there(self) -> None:
        """New connections do. What was on its way before is lost, with its connections."""
        for writer in self._writers:
            writer.transport.abort()
        self._open.set()

    async def close(self) -> None:
        """Nobody listens any more, and all connections are cut."""
        assert self._server is not None
        self._server.close()
        self.lead_there()
        await self._server.wait_closed()

    async def _travel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.attempts += 1
        self._writers.add(writer)
        try:
            with contextlib.suppress(OSError):
                await self._open.wait()
                there, back = await asyncio.open_connection("127.0.0.1", self._to)
                self._writers.add(back)
                await asyncio.gather(self._carry(reader, back), self._carry(there, writer))
        finally:
            writer.transport.abort()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        arrivals: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def depart() -> None:
            with contextlib.suppress(OSError):
                while chunk := await reader.read(65536):
                    arrivals.put_nowait((loop.time() + self.way_s, chunk))
            arrivals.put_nowait((0.0, b""))

        departing = asyncio.create_task(depart())
        try:
            while True:
                at, chunk = await arrivals.get()
                if not chunk:
                    break
                await asyncio.sleep(max(0.0, at - loop.time()))
                await self._open.wait()
                writer.write(chunk)
        finally:
            departing.cancel()
            writer.close()


@pytest.fixture
async def road(bare_cluster: Cluster) -> AsyncIterator[Road]:
    made = Road(bare_cluster.port)
    await made.start()
    yield made
    await made.close()


@pytest.fixture
async def kube(bare_cluster: Cluster, road: Road, tmp_path: Path) -> AsyncIterator[KubeCluster]:
    token = tmp_path / "token"
    token.write_text(bare_cluster.admin_token)
    connection = Server(url=f"https://127.0.0.1:{road.port}", ca_file=bare_cluster.ca_file, token_file=token)
    agent = Agent(name="edge", state_dir=Path("/nowhere"), cluster_namespace="gitsyncd", socket=Path("/nowhere/s"))
    edge = KubeCluster(ClusterFacts(name="eu", connection=connection), agent)
    edge.allow_writes(float("inf"))
    yield edge
    await edge.close()


@pytest.fixture
def space(bare_cluster: Cluster, namespace: str) -> str:
    bare_cluster.create_namespace(namespace)
    return namespace


async def turn(kube: KubeCluster, space: str, objects: int) -> list[ClusterError]:
    """Apply so many objects as a turn does; the errors."""
    pending, errors = iter(range(objects)), []

    async def work() -> None:
        for number in pending:
            object_id = ObjectId(group="", kind="ConfigMap", namespace=space, name=f"c{number}")
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": object_id.name, "namespace": space}}
            try:
                await kube.apply(CONFIG_MAPS, object_id, json.dumps(body).encode(), ApplyOptions())
            except ClusterError as error:
                errors.append(error)

    await asyncio.gather(*(work() for _ in range(32)))
    return errors


async def test_a_turn_on_a_road_to_nowhere_tries_a_few_connections_and_not_one_for_each_object(
    kube: KubeCluster, road: Road, space: str
) -> None:
    road.lead_nowhere()

    errors = await asyncio.wait_for(turn(kube, space, 100), 25)

    assert len(errors) == 100
    assert {type(error) for error in errors} == {ClusterUnreachable}
    assert road.attempts <= 10


async def test_a_turn_during_which_the_road_ends_ends_too(kube: KubeCluster, road: Road, space: str) -> None:
    assert await turn(kube, space, 50) == []
    road.lead_nowhere()

    errors = await asyncio.wait_for(turn(kube, space, 500), 25)

    assert len(errors) == 500


async def test_all_who_wait_hear_at_once_that_the_road_is_open_again(kube: KubeCluster, road: Road, space: str) -> None:
    road.lead_nowhere()
    await turn(kube, space, 10)
    waiting = [asyncio.create_task(kube.pause(timedelta(minutes=5))) for _ in range(9)]
    before = road.attempts

    road.lead_there()
    noticed = await asyncio.wait_for(asyncio.gather(*waiting), 15)

    assert noticed == [True] * 9
    assert road.attempts - before <= 3
    assert await turn(kube, space, 10) == []


async def test_an_api_server_that_comes_back_is_noticed_while_everybody_waits(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    cluster = make_cluster()
    token = tmp_path / "token"
    token.write_text(cluster.admin_token)
    connection = Server(url=cluster.server, ca_file=cluster.ca_file, token_file=token)
    agent = Agent(name="edge", state_dir=Path("/nowhere"), cluster_namespace="gitsyncd", socket=Path("/nowhere/s"))
    kube = KubeCluster(ClusterFacts(name="eu", connection=connection), agent)
    kube.allow_writes(float("inf"))
    await kube.identity()
    cluster.stop_apiserver()
    errors = await turn(kube, "default", 20)
    waiting = [asyncio.create_task(kube.pause(timedelta(minutes=5))) for _ in range(9)]
    await asyncio.sleep(0)

    await asyncio.to_thread(cluster.start_apiserver)
    noticed = await asyncio.wait_for(asyncio.gather(*waiting), 30)

    assert len(errors) == 20
    assert noticed == [True] * 9
    assert (await kube.identity()).uid
    await kube.close()


@pytest.mark.slow
async def test_more_are_on_their_way_the_longer_the_road(kube: KubeCluster, road: Road, space: str) -> None:
    road.way_s = 0.05

    assert await turn(kube, space, 600) == []

    assert kube.in_flight_at_most > 20
