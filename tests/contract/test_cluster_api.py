"""What the loops rely on, of a cluster in memory and of a real API server alike: so that the one cannot lie."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import orjson
import pytest

from gitsyncd.core.fields import own_fields
from gitsyncd.core.observe import observe
from gitsyncd.core.ownership import take_over
from gitsyncd.core.writers import WriterTable
from gitsyncd.engine.ports import ClusterApi
from gitsyncd.model.answers import ApplyOptions, WatchEvent
from gitsyncd.model.errors import Changed, Conflict, KindUnknown, NotFound
from gitsyncd.model.ids import ObjectId, ObjectType, ResourceType
from gitsyncd.model.inventory import Entry, EntryState, Inventory
from gitsyncd.model.observed import Observed
from tests.contract.conftest import CONFIG_MAPS, SELECTOR, Server

US = "gitsyncd/edge"
NOBODYS = ResourceType(
    type=ObjectType(api_version="nobody.example.com/v1", kind="Thing"), plural="things", namespaced=True
)


async def applied(server: Server, name: str, **data: str) -> Any:
    return await server.api.apply(CONFIG_MAPS, server.id(name), server.body(name, data=data), ApplyOptions())


def version(live: Any) -> str:
    return str(live["metadata"]["resourceVersion"])


def reduced(live: Any) -> Observed:
    return observe(live, manager=US, table=WriterTable.build())


# --- Facts -----------------------------------------------------------------------------------------------------------


async def test_a_cluster_has_an_identity_that_stays(server: Server) -> None:
    first, second = await server.api.identity(), await server.connect().identity()

    assert first.uid
    assert first == second


async def test_discovery_names_kinds_with_their_scope(server: Server) -> None:
    found = await server.api.discover()

    assert found.resources[CONFIG_MAPS.type].namespaced is True
    assert found.resources[CONFIG_MAPS.type].plural == "configmaps"
    assert found.resources[ObjectType(api_version="v1", kind="Namespace")].namespaced is False
    assert {"list", "watch", "patch", "delete"} <= found.resources[CONFIG_MAPS.type].verbs
    assert found.stale == frozenset()


async def test_what_is_not_there_is_none_and_a_kind_that_is_not_served_is_unknown(server: Server) -> None:
    assert await server.api.read(CONFIG_MAPS, server.id("a")) is None
    with pytest.raises(KindUnknown):
        await server.api.read(NOBODYS, replace(server.id("a"), group="nobody.example.com", kind="Thing"))


# --- Applying --------------------------------------------------------------------------------------------------------


async def test_a_first_apply_creates(server: Server) -> None:
    live = await applied(server, "a", color="blue")

    assert live["data"] == {"color": "blue"}
    assert live["metadata"]["uid"]
    assert await server.api.read(CONFIG_MAPS, server.id("a")) == live
    assert own_fields(live, US) == {
        "f:data": {"f:color": {}},
        "f:metadata": {"f:labels": {"f:gitsyncd.dev/agent": {}}},
    }


async def test_a_second_apply_of_the_same_changes_nothing(server: Server) -> None:
    first = await applied(server, "a", color="blue")

    second = await applied(server, "a", color="blue")

    assert second == first


async def test_a_field_that_is_no_longer_applied_disappears(server: Server) -> None:
    first = await applied(server, "a", color="blue", size="1")

    second = await applied(server, "a", color="green")

    assert second["data"] == {"color": "green"}
    assert version(second) != version(first)
    assert second["metadata"]["uid"] == first["metadata"]["uid"]


async def test_a_dry_run_answers_and_writes_nothing(server: Server) -> None:
    first = await applied(server, "a", color="blue")

    answer = await server.api.apply(
        CONFIG_MAPS, server.id("a"), server.body("a", data={"color": "red"}), ApplyOptions(dry_run=True)
    )

    assert answer["data"] == {"color": "red"}
    assert await server.api.read(CONFIG_MAPS, server.id("a")) == first


async def test_an_apply_into_a_namespace_that_is_not_there_is_refused(server: Server) -> None:
    nowhere = replace(server.id("a"), namespace="nowhere-at-all")
    body = orjson.loads(server.body("a"))
    body["metadata"]["namespace"] = "nowhere-at-all"

    with pytest.raises(NotFound):
        await server.api.apply(CONFIG_MAPS, nowhere, orjson.dumps(body), ApplyOptions())


async def test_an_apply_bound_to_another_object_or_state_is_changed(server: Server) -> None:
    live = await applied(server, "a", color="blue")
    server.edit(server.id("a"), {"data": {"color": "red"}}, "kubectl-edit")

    for options in (
        ApplyOptions(uid="00000000-0000-0000-0000-000000000000"),
        ApplyOptions(resource_version=version(live)),
    ):
        with pytest.raises(Changed):
            await server.api.apply(CONFIG_MAPS, server.id("a"), server.body("a", data={"color": "blue"}), options)


async def test_an_apply_bound_to_an_object_that_is_gone_does_not_create_it(server: Server) -> None:
    live = await applied(server, "a", color="blue")
    server.remove(server.id("a"))

    with pytest.raises(Changed):
        await server.api.apply(CONFIG_MAPS, server.id("a"), server.body("a"), ApplyOptions(uid=live["metadata"]["uid"]))

    assert await server.api.read(CONFIG_MAPS, server.id("a")) is None


async def test_an_apply_without_force_meets_another_owner_and_with_it_takes_the_field_back(server: Server) -> None:
    await applied(server, "a", color="blue")
    server.edit(server.id("a"), {"data": {"color": "red"}}, "kubectl-edit")

    with pytest.raises(Conflict):
        await server.api.apply(
            CONFIG_MAPS, server.id("a"), server.body("a", data={"color": "blue"}), ApplyOptions(force=False)
        )
    live = await applied(server, "a", color="blue")

    assert live["data"] == {"color": "blue"}
    assert [entry["manager"] for entry in live["metadata"]["managedFields"]] == [US]


# --- What others do, as planning sees it -----------------------------------------------------------------------------


async def test_the_edit_of_a_field_of_ours_moves_entry_and_projection(server: Server) -> None:
    before = reduced(await applied(server, "a", color="blue", size="1"))

    server.edit(server.id("a"), {"data": {"color": "red"}}, "kubectl-edit")
    after = reduced(await server.api.read(CONFIG_MAPS, server.id("a")))

    assert after.entry_hash != before.entry_hash
    assert after.projection_hash != before.projection_hash
    assert [addition.manager for addition in after.additions] == ["kubectl-edit"]


async def test_a_field_that_somebody_adds_moves_neither_and_is_an_addition(server: Server) -> None:
    before = reduced(await applied(server, "a", color="blue"))

    server.edit(server.id("a"), {"data": {"extra": "1"}}, "kubectl-edit")
    after = reduced(await server.api.read(CONFIG_MAPS, server.id("a")))

    assert (after.entry_hash, after.projection_hash) == (before.entry_hash, before.projection_hash)
    assert [(addition.manager, addition.fields) for addition in after.additions] == [("kubectl-edit", (".data.extra",))]


async def test_a_field_that_somebody_takes_away_is_seen(server: Server) -> None:
    before = reduced(await applied(server, "a", color="blue", size="1"))

    server.edit(server.id("a"), {"data": {"size": None}}, "kubectl-edit")
    after = reduced(await server.api.read(CONFIG_MAPS, server.id("a")))

    assert after.entry_hash != before.entry_hash
    assert after.additions == ()


async def test_an_added_field_that_is_taken_over_goes_with_the_next_apply(server: Server) -> None:
    await applied(server, "a", color="blue")
    server.edit(server.id("a"), {"data": {"extra": "1"}}, "kubectl-edit")
    live = await server.api.read(CONFIG_MAPS, server.id("a"))
    managed = take_over(live or {}, US, lambda manager, _: manager == "kubectl-edit")
    assert managed is not None

    with pytest.raises(Changed):
        await server.api.patch_managed_fields(CONFIG_MAPS, server.id("a"), managed, "1", {})
    await server.api.patch_managed_fields(CONFIG_MAPS, server.id("a"), managed, version(live), {})

    assert (await applied(server, "a", color="blue"))["data"] == {"color": "blue"}


# --- Deleting --------------------------------------------------------------------------------------------------------


async def test_a_delete_is_bound_to_the_uid_and_then_the_object_is_gone(server: Server) -> None:
    live = await applied(server, "a")

    with pytest.raises(Changed):
        await server.api.delete(CONFIG_MAPS, server.id("a"), uid="00000000-0000-0000-0000-000000000000")
    assert await server.api.delete(CONFIG_MAPS, server.id("a"), uid=live["metadata"]["uid"]) is True

    assert await server.api.read(CONFIG_MAPS, server.id("a")) is None
    assert await server.api.delete(CONFIG_MAPS, server.id("a"), uid=live["metadata"]["uid"]) is True


async def test_a_delete_that_a_finalizer_holds_is_not_done(server: Server) -> None:
    live = await applied(server, "a")
    server.edit(server.id("a"), {"metadata": {"finalizers": ["example.com/hold"]}}, "holder")

    assert await server.api.delete(CONFIG_MAPS, server.id("a"), uid=live["metadata"]["uid"]) is False

    held = await server.api.read(CONFIG_MAPS, server.id("a"))
    assert held is not None and held["metadata"]["deletionTimestamp"]
    server.edit(server.id("a"), {"metadata": {"finalizers": None}}, "holder")
    assert await server.api.read(CONFIG_MAPS, server.id("a")) is None


async def test_an_object_that_is_deleted_and_made_again_is_another_one(server: Server) -> None:
    first = await applied(server, "a")
    server.remove(server.id("a"))

    second = await applied(server, "a")

    assert second["metadata"]["uid"] != first["metadata"]["uid"]


# --- Lists and watches -----------------------------------------------------------------------------------------------


async def test_a_list_selects_by_label_and_tells_version_and_kind(server: Server) -> None:
    await applied(server, "a")
    await server.api.apply(CONFIG_MAPS, server.id("b"), server.body("b", labelled=False), ApplyOptions())

    listing = await server.api.list(CONFIG_MAPS, selector=SELECTOR, namespace=server.namespace)
    names = await server.api.list(
        CONFIG_MAPS, selector=SELECTOR, namespace=server.namespace, each=lambda item: item["metadata"]["name"]
    )

    assert [(item["kind"], item["apiVersion"], item["metadata"]["name"]) for item in listing.items] == [
        ("ConfigMap", "v1", "a")
    ]
    assert names.items == ("a",)
    assert int(listing.resource_version) >= int(version(listing.items[0]))


async def test_a_list_of_metadata_has_all_names_and_no_content(server: Server) -> None:
    await applied(server, "a", color="blue")
    await server.api.apply(CONFIG_MAPS, server.id("b"), server.body("b", labelled=False), ApplyOptions())

    listing = await server.api.list_metadata(CONFIG_MAPS, namespace=server.namespace)

    ours = [item for item in listing.items if item["metadata"]["name"] in {"a", "b"}]
    assert sorted(item["metadata"]["name"] for item in ours) == ["a", "b"]
    assert all(item.keys() == {"apiVersion", "kind", "metadata"} for item in ours)
    assert all("managedFields" not in item["metadata"] for item in ours)


async def test_a_watch_tells_in_order_what_happened_after_its_beginning(server: Server) -> None:
    await applied(server, "before")
    begin = (await server.api.list(CONFIG_MAPS, selector=SELECTOR, namespace=server.namespace)).resource_version
    await applied(server, "a", color="blue")
    await applied(server, "a", color="green")
    server.edit(server.id("a"), {"data": {"color": "red"}}, "kubectl-edit")
    server.remove(server.id("a"))

    async with watching(server, begin) as following:
        events = [await following.get() for _ in range(4)]

    assert [event.kind for event in events] == ["ADDED", "MODIFIED", "MODIFIED", "DELETED"]
    assert [orjson.loads(event.object)["data"]["color"] for event in events] == ["blue", "green", "red", "red"]
    assert {event.name for event in events} == {"a"}
    versions = [int(event.resource_version) for event in events]
    assert versions == sorted(set(versions))
    assert all(version(orjson.loads(event.object)) == event.resource_version for event in events)


async def test_a_watch_tells_what_happens_while_it_is_open(server: Server) -> None:
    begin = (await server.api.list(CONFIG_MAPS, selector=SELECTOR, namespace=server.namespace)).resource_version

    async with watching(server, begin) as following:
        answer = await applied(server, "a", color="blue")
        event = await following.get()

    assert (event.kind, event.namespace, event.name) == ("ADDED", server.namespace, "a")
    assert (event.uid, event.resource_version) == (answer["metadata"]["uid"], version(answer))
    assert orjson.loads(event.object) == answer


async def test_requests_and_open_watches_are_counted(server: Server) -> None:
    begin = (await server.api.list(CONFIG_MAPS, selector=SELECTOR, namespace=server.namespace)).resource_version
    before = sum(server.api.requests.values())

    async with watching(server, begin) as following:
        await applied(server, "a")
        await following.get()

        assert server.api.watching == 1
        assert sum(server.api.requests.values()) - before == 2

    assert server.api.watching == 0


async def test_an_apply_that_changes_nothing_is_no_event(server: Server) -> None:
    await applied(server, "a", color="blue")
    begin = (await server.api.list(CONFIG_MAPS, selector=SELECTOR, namespace=server.namespace)).resource_version

    async with watching(server, begin) as following:
        await applied(server, "a", color="blue")
        await applied(server, "end")
        event = await following.get()

    assert event.name == "end"


async def test_a_label_that_is_removed_arrives_as_a_deletion_though_the_object_is_there(server: Server) -> None:
    live = await applied(server, "a")
    begin = (await server.api.list(CONFIG_MAPS, selector=SELECTOR, namespace=server.namespace)).resource_version

    async with watching(server, begin) as following:
        server.edit(server.id("a"), {"metadata": {"labels": {"gitsyncd.dev/agent": None}}}, "kubectl-label")
        gone = await following.get()
        await applied(server, "a")
        back = await following.get()

    assert (gone.kind, gone.uid) == ("DELETED", live["metadata"]["uid"])
    assert back.kind == "ADDED"


async def test_a_watch_of_a_kind_that_is_not_served_is_unknown(server: Server) -> None:
    with pytest.raises(KindUnknown):
        async for _ in server.api.watch(NOBODYS, selector=SELECTOR, resource_version="1", namespace=server.namespace):
            pass


@asynccontextmanager
async def watching(server: Server, begin: str) -> AsyncIterator["Following"]:
    following = Following(server.api, begin, server.namespace)
    try:
        yield following
    finally:
        await following.stop()


class Following:
    """A watch that is read in the background, bookmarks left out."""

    def __init__(self, api: ClusterApi, begin: str, namespace: str) -> None:
        self._queue: asyncio.Queue[WatchEvent] = asyncio.Queue()
        self._task = asyncio.create_task(self._read(api, begin, namespace))

    async def _read(self, api: ClusterApi, begin: str, namespace: str) -> None:
        async for event in api.watch(CONFIG_MAPS, selector=SELECTOR, resource_version=begin, namespace=namespace):
            if event.kind != "BOOKMARK":
                self._queue.put_nowait(event)

    async def get(self) -> WatchEvent:
        async with asyncio.timeout(10):
            return await self._queue.get()

    async def stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


# --- Inventories -----------------------------------------------------------------------------------------------------


def inventory(server: Server, *names: str, commit: str = "") -> Inventory:
    entries: dict[ObjectId, Entry] = {
        server.id(name): Entry(api_version="v1", state=EntryState.LIVE, uid=f"uid-{name}") for name in names
    }
    return Inventory(target="web@eu", entries=entries, cluster_uid="here", commit=commit)


async def test_an_inventory_that_was_saved_is_loaded_by_the_next_daemon(server: Server) -> None:
    assert await server.api.load_inventories() == {}

    saved = await server.api.save_inventory("web", inventory(server, "a", "b", commit="c" * 40))

    assert await server.connect().load_inventories() == {"web": saved}
    assert saved.serial == 1


async def test_saving_the_same_again_counts_no_further(server: Server) -> None:
    first = await server.api.save_inventory("web", inventory(server, "a"))

    second = await server.api.save_inventory("web", first)
    third = await server.api.save_inventory("web", replace(first, entries={}))

    assert (first.serial, second.serial, third.serial) == (1, 1, 2)


async def test_of_two_writers_the_second_is_told_and_writes_nothing_before_it_has_read(server: Server) -> None:
    saved = await server.api.save_inventory("web", inventory(server, "a"))
    other = server.connect()
    await other.load_inventories()
    won = await other.save_inventory("web", replace(saved, commit="1" * 40))

    for _ in range(2):
        with pytest.raises(Changed):
            await server.api.save_inventory("web", replace(saved, commit="2" * 40))
    assert (await server.api.load_inventories())["web"] == won
    last = await server.api.save_inventory("web", replace(won, commit="2" * 40))

    assert last.serial == won.serial + 1
    assert await server.connect().load_inventories() == {"web": last}


async def test_of_two_that_create_one_inventory_one_is_told(server: Server) -> None:
    await server.api.save_inventory("web", inventory(server, "a"))

    with pytest.raises(Changed):
        await server.connect().save_inventory("web", inventory(server, "b"))


async def test_a_dropped_inventory_is_gone_and_can_begin_again(server: Server) -> None:
    await server.api.save_inventory("web", inventory(server, "a"))
    await server.api.drop_inventory("web")
    assert await server.connect().load_inventories() == {}

    again = await server.api.save_inventory("web", inventory(server, "b"))

    assert await server.connect().load_inventories() == {"web": again}


async def test_every_daemon_of_a_name_gets_the_same_key(server: Server) -> None:
    first, second = await server.api.digest_key(create=True), await server.connect().digest_key(create=True)

    assert first == second
    assert len(first) == 32
