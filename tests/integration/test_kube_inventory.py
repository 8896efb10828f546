"""What the agent keeps for itself in a real cluster: sharded, compared and swapped, never lost between two writers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from gitsyncd.edges.kube.cluster import KubeCluster
from gitsyncd.model.errors import Changed, ClusterDenied, StateError
from gitsyncd.model.ids import ObjectId
from gitsyncd.model.inventory import Entry, EntryState, Inventory
from gitsyncd.model.target import Agent, Server
from gitsyncd.model.target import Cluster as ClusterFacts
from tests.sandbox import Cluster
from tests.sandbox.fixtures import MakeCluster

pytestmark = pytest.mark.real

LIVE = Entry(
    api_version="apps/v1",
    state=EntryState.LIVE,
    uid="6f1b9a64-7d3c-4a7e-9a5e-0c8b5a0f2b11",
    digest="d" * 64,
    entry_hash="e" * 64,
    projection_hash="p" * 64,
    commit="c" * 40,
    path="clusters/eu/web/front.yaml",
)

Connect = Callable[..., KubeCluster]


def entries(count: int, start: int = 0) -> dict[ObjectId, Entry]:
    return {
        ObjectId(group="apps", kind="Deployment", namespace="web", name=f"front-{number}"): LIVE
        for number in range(start, start + count)
    }


def inventory(count: int) -> Inventory:
    return Inventory(target="web@eu", entries=entries(count), cluster_uid="some-uid", commit="c" * 40)


@pytest.fixture
async def connect(bare_cluster: Cluster, namespace: str, tmp_path: Path) -> AsyncIterator[Connect]:
    """Agents that keep their inventory in one namespace, which does not exist yet."""
    made: list[KubeCluster] = []

    def by_token(name: str = "edge", *, user: str = "admin", cluster: Cluster = bare_cluster) -> KubeCluster:
        token_file = tmp_path / f"{user}-{cluster.name}"
        token_file.write_text(cluster.tokens[user])
        connection = Server(url=cluster.server, ca_file=cluster.ca_file, token_file=token_file)
        agent = Agent(name=name, state_dir=tmp_path, cluster_namespace=namespace, socket=tmp_path / "socket")
        made.append(KubeCluster(ClusterFacts(name="eu", connection=connection), agent))
        made[-1].allow_writes(float("inf"))
        return made[-1]

    yield by_token
    for edge in made:
        await edge.close()


def config_maps(cluster: Cluster, namespace: str) -> dict[str, Any]:
    listing = cluster.request("GET", f"/api/v1/namespaces/{namespace}/configmaps")
    return {item["metadata"]["name"]: item for item in listing["items"]}


class Held:
    """Keeps back the answer to the next list until it is let go."""

    def __init__(self, edge: KubeCluster) -> None:
        self.answered, self.go = asyncio.Event(), asyncio.Event()
        self._client = edge._client
        self._send = edge._client.send
        edge._client.send = self  # type: ignore[method-assign]

    async def __call__(self, call: Any) -> bytes:
        answer = await self._send(call)
        if call.verb == "list":
            self._client.send = self._send  # type: ignore[method-assign]
            self.answered.set()
            await self.go.wait()
        return answer


async def test_a_cluster_without_inventories_has_none(connect: Connect) -> None:
    assert await connect().load_inventories() == {}


async def test_a_first_save_makes_the_namespace_and_another_process_reads_what_was_saved(
    connect: Connect, bare_cluster: Cluster, namespace: str
) -> None:
    saved = await connect().save_inventory("web", inventory(3))

    loaded = await connect().load_inventories()

    assert saved.serial == 1
    assert loaded == {"web": saved}
    (found,) = config_maps(bare_cluster, namespace).values()
    assert found["metadata"]["name"] == "gitsyncd.edge.web.0"
    assert found["metadata"]["labels"]["gitsyncd.dev/inventory"] == "edge"
    assert found["metadata"]["annotations"] == {"gitsyncd.dev/target": "web"}
    assert "gitsyncd.dev/agent" not in found["metadata"]["labels"]
    assert found["data"]["serial"] == "1"


async def test_saving_what_is_saved_already_writes_nothing(connect: Connect) -> None:
    edge = connect()
    saved = await edge.save_inventory("web", inventory(3))
    before = dict(edge.requests)

    again = await edge.save_inventory("web", saved)

    assert again == saved
    assert dict(edge.requests) == before


async def test_five_thousand_entries_take_several_shards_and_a_change_writes_two(
    connect: Connect, bare_cluster: Cluster, namespace: str
) -> None:
    edge = connect()
    saved = await edge.save_inventory("web", inventory(5000))
    shards = config_maps(bare_cluster, namespace)
    versions = {name: item["metadata"]["resourceVersion"] for name, item in shards.items()}
    somebody = list(saved.entries)[3000]

    changed = await edge.save_inventory("web", replace(saved, entries={**saved.entries, somebody: replace(LIVE, commit="f" * 40)}))  # fmt: skip

    now = {name: item["metadata"]["resourceVersion"] for name, item in config_maps(bare_cluster, namespace).items()}
    moved = sorted(name for name in now if now[name] != versions[name])
    assert len(shards) >= 5
    assert max(len(orjson.dumps(item)) for item in shards.values()) < 512 * 1024
    assert len(moved) == 2
    assert moved[0] == "gitsyncd.edge.web.0"
    assert (saved.serial, changed.serial) == (1, 2)
    assert await connect().load_inventories() == {"web": changed}


async def test_of_two_writers_one_loses_before_it_has_written_anything(
    connect: Connect, bare_cluster: Cluster, namespace: str
) -> None:
    one, two = connect(), connect()
    base = await one.save_inventory("web", inventory(3000))
    await two.load_inventories()
    won = await one.save_inventory("web", replace(base, entries={**base.entries, **entries(1, 9000)}))
    before = config_maps(bare_cluster, namespace)

    for attempt in range(2):  # and it stays so until it has looked again
        with pytest.raises(Changed):
            await two.save_inventory("web", replace(base, entries={**base.entries, **entries(2000, 10_000 + attempt)}))

    assert config_maps(bare_cluster, namespace) == before
    assert await two.load_inventories() == {"web": won}
    again = await two.save_inventory("web", replace(won, commit="f" * 40))
    assert again.serial == won.serial + 1


async def test_of_two_writers_of_a_first_inventory_one_loses(connect: Connect) -> None:
    one, two = connect(), connect()

    results = await asyncio.gather(
        one.save_inventory("web", inventory(1)), two.save_inventory("web", inventory(2)), return_exceptions=True
    )

    assert sorted(type(result).__name__ for result in results) == ["Changed", "Inventory"]


async def test_an_inventory_deleted_behind_our_back_is_not_written_over(
    connect: Connect, bare_cluster: Cluster, namespace: str
) -> None:
    edge = connect()
    saved = await edge.save_inventory("web", inventory(1))
    bare_cluster.request("DELETE", f"/api/v1/namespaces/{namespace}/configmaps/gitsyncd.edge.web.0")

    with pytest.raises(Changed):
        await edge.save_inventory("web", replace(saved, commit="f" * 40))

    assert config_maps(bare_cluster, namespace) == {}


async def test_a_damaged_config_map_is_named_and_harms_no_other_target_and_the_next_save_makes_it_whole(
    connect: Connect, bare_cluster: Cluster, namespace: str
) -> None:
    db = await connect().save_inventory("db", replace(inventory(1), target="db@eu"))
    await connect().save_inventory("web", inventory(1))
    path = f"/api/v1/namespaces/{namespace}/configmaps/gitsyncd.edge.web.0"
    merge = "application/merge-patch+json"
    bare_cluster.request("PATCH", path, {"data": {"entries": "{"}}, content_type=merge)

    edge = connect()
    loaded = await edge.load_inventories()
    whole = await edge.save_inventory("web", replace(loaded["web"], entries=inventory(1).entries, trusted=True))

    assert loaded["db"] == db
    assert "'gitsyncd.edge.web.0'" in loaded["web"].damage
    assert (await connect().load_inventories())["web"] == whole
    assert (whole.damage, set(whole.entries)) == ("", set(inventory(1).entries))


async def test_targets_and_agents_do_not_see_each_other_and_a_dropped_one_is_gone(
    connect: Connect, bare_cluster: Cluster, namespace: str
) -> None:
    edge, other = connect("edge"), connect("other")
    await edge.save_inventory("web", inventory(3000))
    db = await edge.save_inventory("db", replace(inventory(1), target="db@eu"))
    await other.save_inventory("web", inventory(1))

    await edge.drop_inventory("web")

    assert await connect("edge").load_inventories() == {"db": db}
    assert sorted(config_maps(bare_cluster, namespace)) == ["gitsyncd.edge.db.0", "gitsyncd.other.web.0"]


async def test_a_dropped_target_can_begin_again(connect: Connect) -> None:
    edge = connect()
    await edge.save_inventory("web", inventory(2))
    await edge.drop_inventory("web")

    again = await edge.save_inventory("web", inventory(1))

    assert await connect().load_inventories() == {"web": again}


async def test_the_digest_key_is_made_once_and_the_same_for_all(connect: Connect) -> None:
    edges = [connect() for _ in range(5)]

    keys = await asyncio.gather(*(edge.digest_key(create=True) for edge in edges))

    assert len(set(keys)) == 1
    assert len(keys[0]) == 32
    assert await connect("other").digest_key(create=True) != keys[0]


async def test_a_key_that_somebody_broke_is_named(connect: Connect, bare_cluster: Cluster, namespace: str) -> None:
    await connect().digest_key(create=True)
    path = f"/api/v1/namespaces/{namespace}/secrets/gitsyncd.edge.key"
    merge = "application/merge-patch+json"
    bare_cluster.request("PATCH", path, {"data": {"key": "c2hvcnQ="}}, content_type=merge)

    with pytest.raises(StateError) as caught:
        await connect().digest_key(create=True)

    assert "'gitsyncd.edge.key' does not hold a key of 32 bytes" in caught.value.message


async def test_an_agent_that_may_not_make_its_namespace_says_how_to(
    make_cluster: MakeCluster, connect: Connect
) -> None:
    cluster = make_cluster()
    cluster.kubectl("create", "clusterrole", "maps", "--verb=*", "--resource=configmaps")
    cluster.grant("carol", "maps")

    with pytest.raises(ClusterDenied) as caught:
        await connect(user="carol", cluster=cluster).save_inventory("web", inventory(1))

    assert "may not be created" in caught.value.message
    assert caught.value.hint.startswith("kubectl create namespace test-")


async def test_a_load_does_not_take_back_what_another_target_wrote_while_the_list_was_on_its_way(
    connect: Connect,
) -> None:
    edge = connect()
    for target in ("api", "web"):
        await edge.save_inventory(target, replace(inventory(1), target=target))
    held = Held(edge)
    loading = asyncio.create_task(edge.load_inventories())
    await held.answered.wait()
    written = await edge.save_inventory("web", inventory(2))
    held.go.set()

    assert (await loading)["web"] == written
    assert (await edge.save_inventory("web", inventory(3))).serial == written.serial + 1


async def test_a_load_does_not_vouch_for_a_target_whose_write_failed_meanwhile(connect: Connect) -> None:
    edge = connect()
    saved = await edge.save_inventory("web", inventory(1))
    held = Held(edge)
    loading = asyncio.create_task(edge.load_inventories())
    await held.answered.wait()
    other = connect()
    await other.load_inventories()
    await other.save_inventory("web", inventory(2))
    with pytest.raises(Changed):
        await edge.save_inventory("web", inventory(3))
    held.go.set()

    assert (await loading)["web"] == saved
    with pytest.raises(Changed):
        await edge.save_inventory("web", inventory(3))
    assert len((await edge.load_inventories())["web"].entries) == 2
