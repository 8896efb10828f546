"""The inventory's records: there and back, in shards that stay below their limit and entries that stay where they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitsyncd.edges.kube.inventory import SHARD_BYTES, config_map, place, read_shards, restore, shard_name
from gitsyncd.model.ids import ObjectId
from gitsyncd.model.inventory import Entry, EntryState, Inventory

PENDING = Entry(api_version="apps/v1", state=EntryState.PENDING, path="clusters/eu/web/front.yaml")
LIVE = replace(
    PENDING,
    state=EntryState.LIVE,
    uid="6f1b9a64-7d3c-4a7e-9a5e-0c8b5a0f2b11",
    digest="d" * 64,
    entry_hash="e" * 64,
    projection_hash="p" * 64,
    commit="c" * 40,
    prune=False,
)


def object_id(number: int) -> ObjectId:
    return ObjectId(group="apps", kind="Deployment", namespace="web", name=f"front-{number}")


def maps_of(inventory: Inventory, placed: list[dict[ObjectId, Entry]], serial: int = 7) -> list[dict[str, Any]]:
    """The ConfigMaps as a server would give them back."""
    maps = []
    for number, entries in enumerate(placed):
        name = shard_name("edge", "web", number)
        item = config_map(name=name, agent="edge", target="web", inventory=inventory, serial=serial, shards=len(placed), entries=entries)  # fmt: skip
        item["metadata"] |= {"uid": f"uid-{number}", "resourceVersion": str(number)}
        maps.append(item)
    return maps


def restored(maps: list[dict[str, Any]]) -> Inventory:
    return restore("edge", "web", "eu", read_shards("edge", maps)["web"])[0]


words = st.text("abcdefghijklmnopqrstuvwxyz0123456789-./", min_size=0, max_size=20)
ids = st.builds(
    ObjectId,
    group=st.sampled_from(["", "apps", "example.com"]),
    kind=st.sampled_from(["ConfigMap", "Deployment"]),
    namespace=st.sampled_from(["", "web"]),
    name=st.from_regex(r"[a-z0-9]([a-z0-9:.-]{0,10}[a-z0-9])?", fullmatch=True),
)
entries = st.builds(
    Entry,
    api_version=st.sampled_from(["v1", "apps/v1"]),
    state=st.sampled_from(EntryState),
    uid=words,
    digest=words,
    entry_hash=words,
    projection_hash=words,
    commit=words,
    path=st.text(max_size=20),
    prune=st.booleans(),
)


@given(st.dictionaries(ids, entries, max_size=20))
def test_what_is_written_is_what_is_read(content: Mapping[ObjectId, Entry]) -> None:
    inventory = Inventory(target="web@eu", entries=content, serial=7, cluster_uid="uid", commit="abc")

    assert restored(maps_of(inventory, place(content, []))) == inventory


def test_entries_can_be_read_by_people() -> None:
    text = maps_of(Inventory(target="web@eu"), [{object_id(1): PENDING, object_id(2): PENDING}])[0]["data"]["entries"]

    assert text == (
        "{\n"
        '"Deployment.apps/web/front-1": {"apiVersion":"apps/v1","state":"pending","path":"clusters/eu/web/front.yaml"},\n'
        '"Deployment.apps/web/front-2": {"apiVersion":"apps/v1","state":"pending","path":"clusters/eu/web/front.yaml"}\n'
        "}\n"
    )


def test_an_inventory_of_fifty_thousand_objects_stays_below_half_a_mebibyte_a_shard() -> None:
    pending = {object_id(number): PENDING for number in range(50_000)}
    placed = place(pending, [])

    live = [dict.fromkeys(shard, LIVE) for shard in placed]
    sizes = [len(orjson.dumps(item)) for item in maps_of(Inventory(target="web@eu"), live)]

    # Also after every entry has grown to all that is ever recorded of it.
    assert max(sizes) < 512 * 1024
    assert sum(len(shard) for shard in placed) == 50_000
    assert min(sizes[:-1]) > SHARD_BYTES // 2


def test_an_entry_stays_in_its_shard_and_a_new_one_takes_the_first_room() -> None:
    first = {object_id(number): LIVE for number in range(3000)}
    before = place(first, [])
    gone = list(before[0])[:10]
    after_content = {key: entry for key, entry in first.items() if key not in gone} | {object_id(9999): PENDING}

    after = place(after_content, before)

    assert len(before) > 2
    assert object_id(9999) in after[0]
    assert after[1:] == before[1:]
    assert set(before[0]) - set(after[0]) == set(gone)


def test_an_emptied_inventory_keeps_its_shards_for_what_comes() -> None:
    before = place({object_id(number): LIVE for number in range(3000)}, [])

    after = place({}, before)

    assert after == [{} for _ in before]


@pytest.mark.parametrize("missing", range(3))
def test_a_shard_that_somebody_deleted_is_missed_and_named_and_the_others_are_read(missing: int) -> None:
    inventory = Inventory(target="web@eu", serial=5)
    placed = [{object_id(number): LIVE} for number in range(3)]

    found = restored([item for number, item in enumerate(maps_of(inventory, placed)) if number != missing])

    assert found.damage == f"inventory ConfigMap 'gitsyncd.edge.web.{missing}' is missing"
    assert found.trusted is False
    assert set(found.entries) == {object_id(number) for number in range(3) if number != missing}


@pytest.mark.parametrize(
    "change",
    [
        {"entries": "{"},
        {"entries": "[]"},
        {"entries": '{"ConfigMap/a": {}}'},
        {"entries": '{"nonsense": {"apiVersion":"v1","state":"live"}}'},
        {"entries": '{"ConfigMap/a": {"apiVersion":"v1","state":"dreaming"}}'},
        {"entries": '{"ConfigMap/a": {"apiVersion":"v1","state":"live","uid":5}}'},
        {"entries": '{"ConfigMap/a": {"apiVersion":["v1"],"state":"live"}}'},
        {"entries": '{"ConfigMap/a": {"apiVersion":"v1","state":"live","prune":"no"}}'},
        {"serial": "x"},
        {"shards": ""},
    ],
)
def test_a_config_map_that_cannot_be_read_is_named_and_what_it_says_is_not_trusted(change: dict[str, str]) -> None:
    maps = maps_of(Inventory(target="web@eu"), [{object_id(1): LIVE}])
    maps[0]["data"] |= change

    found = restored(maps)

    assert "'gitsyncd.edge.web.0'" in found.damage
    assert found.trusted is False


def test_a_config_map_without_data_is_unreadable_and_no_crash() -> None:
    maps = maps_of(Inventory(target="web@eu"), [{object_id(1): LIVE}])
    del maps[0]["data"]

    found = restored(maps)

    assert "'gitsyncd.edge.web.0'" in found.damage
    assert found.entries == {}


def test_a_number_beyond_reason_is_no_shard_of_ours() -> None:
    maps = maps_of(Inventory(target="web@eu", serial=5), [{object_id(1): LIVE}])
    far = {**maps[0], "metadata": {**maps[0]["metadata"], "name": "gitsyncd.edge.web.99999999"}}

    found = restored([*maps, far])

    assert (found.damage, found.trusted, len(found.entries)) == ("", True, 1)


@pytest.mark.parametrize("number", ["00", "0000", "01", "9" * 5000])
def test_another_spelling_of_a_number_replaces_no_shard(number: str) -> None:
    maps = maps_of(Inventory(target="web@eu", serial=5), [{object_id(1): LIVE}])
    forged = {**maps[0], "metadata": {**maps[0]["metadata"], "name": f"gitsyncd.edge.web.{number}"}, "data": {}}

    found = restored([*maps, forged])

    assert (found.damage, found.trusted, len(found.entries)) == ("", True, 1)


def test_a_config_map_that_only_wears_the_label_is_none_of_ours() -> None:
    maps = maps_of(Inventory(target="web@eu"), [{}])
    copy = {**maps[0], "metadata": {**maps[0]["metadata"], "name": "copy-of-gitsyncd.edge.web.0"}}

    assert list(read_shards("edge", [*maps, copy])["web"]) == [0]


def test_targets_whose_names_resemble_numbers_and_each_other_are_told_apart() -> None:
    maps = []
    for target in ("web", "web.1", "1"):
        item = config_map(name=shard_name("edge", target, 0), agent="edge", target=target, inventory=Inventory(target=target), serial=1, shards=1, entries={})  # fmt: skip
        item["metadata"] |= {"uid": "u", "resourceVersion": "1"}
        maps.append(item)

    assert {target: list(items) for target, items in read_shards("edge", maps).items()} == {"web": [0], "web.1": [0], "1": [0]}  # fmt: skip
