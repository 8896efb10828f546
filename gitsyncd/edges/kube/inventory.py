"""The inventory as it lies in a cluster: ConfigMaps of some 400 KiB, each entry in the one it was first written to.

One object per target would end at etcd's limit, near five thousand entries. Shard 0 leads: it carries serial, commit
and cluster; every save writes it first, bound to the resourceVersion that was read, and so decides between two writers
before anything else is touched. Its `shards` says how many there are, so that a shard that somebody deleted is missed.

Entries are one line each, for people; Secrets show as hashes alone. This module turns records into ConfigMaps and back
and knows which are to be written; `ledger` sends them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import orjson

from gitsyncd.model.ids import ObjectId
from gitsyncd.model.inventory import Entry, EntryState, Inventory

LABEL = "gitsyncd.dev/inventory"
TARGET = "gitsyncd.dev/target"

SHARD_BYTES = 400 * 1024
"""Where a shard takes no further entry. Below 512 KiB with everything around, and etcd's limit is 1.5 MiB."""

MAX_SHARDS = 1000
"""Some two million objects. A ConfigMap with a higher number is none of ours."""

_OPTIONAL = ("uid", "digest", "entry_hash", "projection_hash", "commit")
_LATER_BYTES = 90
"""What one of these takes when it is filled in: a shard must not grow past its limit by entries that it has."""

_KEYS = {
    "api_version": "apiVersion",
    "entry_hash": "entryHash",
    "projection_hash": "projectionHash",
}
_DEFAULTS: Mapping[str, Any] = {f.name: f.default for f in fields(Entry) if f.name not in {"api_version", "state"}}


@dataclass(slots=True, kw_only=True)
class Shard:
    """One ConfigMap as it was last seen or written."""

    name: str
    uid: str = ""
    resource_version: str = ""
    """Empty: not created yet."""
    entries: Mapping[ObjectId, Entry] = field(default_factory=dict)
    damaged: bool = False
    """It holds what cannot be read, and is written at the next save whatever its entries are."""


def shard_name(agent: str, target: str, number: int) -> str:
    return f"gitsyncd.{agent}.{target}.{number}"


def place(entries: Mapping[ObjectId, Entry], shards: Iterable[Mapping[ObjectId, Entry]]) -> list[dict[ObjectId, Entry]]:
    """The content of each shard: known entries stay where they are, new ones go to the first with room.

    There is always a shard 0, and never fewer shards than before: an emptied one is filled again by what comes next.
    """
    placed: list[dict[ObjectId, Entry]] = []
    known: set[ObjectId] = set()
    for shard in shards:
        kept = {key: entries[key] for key in shard if key in entries and key not in known}
        known.update(kept)
        placed.append(kept)
    placed = placed or [{}]
    fresh = [key for key in entries if key not in known]
    if not fresh:
        return placed
    sizes = [sum(_weight(key, entry) for key, entry in shard.items()) for shard in placed]
    number = 0
    for key in fresh:
        weight = _weight(key, entries[key])
        while number < len(placed) and sizes[number] + weight > SHARD_BYTES:
            number += 1
        if number == len(placed):
            placed.append({})
            sizes.append(0)
        placed[number][key] = entries[key]
        sizes[number] += weight
    return placed


def config_map(
    *,
    name: str,
    agent: str,
    target: str,
    inventory: Inventory,
    serial: int,
    shards: int,
    entries: Mapping[ObjectId, Entry],
) -> dict[str, Any]:
    """One shard, without the metadata that the server gives. Only shard 0 has the keys about the whole."""
    data = {"entries": _encode(entries)}
    if name.endswith(".0"):
        data |= {
            "serial": str(serial),
            "cluster": inventory.cluster_uid,
            "commit": inventory.commit,
            "target": target,
            "shards": str(shards),
        }
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": name,
            "labels": {LABEL: agent, "app.kubernetes.io/managed-by": "gitsyncd"},
            "annotations": {TARGET: target},
        },
        "data": data,
    }


def read_shards(agent: str, config_maps: Iterable[Mapping[str, Any]]) -> dict[str, dict[int, Mapping[str, Any]]]:
    """ConfigMaps by target and number; one that only wears the label, under another name, is none of ours."""
    found: dict[str, dict[int, Mapping[str, Any]]] = {}
    for item in config_maps:
        metadata = item["metadata"]
        target = (metadata.get("annotations") or {}).get(TARGET, "")
        start, _, number = metadata["name"].rpartition(".")
        # As it is written, and no other spelling of the number: `00` would stand for another shard 0.
        spelled = number.isdecimal() and str(int(number[:9])) == number
        ours = target and spelled and start == f"gitsyncd.{agent}.{target}"
        if ours and int(number) < MAX_SHARDS:
            found.setdefault(target, {})[int(number)] = item
    return found


def restore(
    agent: str, target: str, cluster: str, items: Mapping[int, Mapping[str, Any]]
) -> tuple[Inventory, list[Shard]]:
    """The inventory of one target from its ConfigMaps.

    One that is missing or cannot be read is named in `damage`; the inventory then holds what the others say and is not
    trusted. The next save makes all of them whole.
    """
    damage: list[str] = []
    shards: list[Shard] = []
    entries: dict[ObjectId, Entry] = {}
    facts, count = _facts_of_head(items.get(0), damage)
    last = max(items, default=0)
    for number in range(last + 1):
        name = shard_name(agent, target, number)
        item = items.get(number)
        shard = _shard(item, damage) if item is not None else Shard(name=name)
        if item is None:
            damage.append(f"{name!r} is missing")
        entries.update(shard.entries)
        shards.append(shard)
    if count > len(shards):
        damage.append(f"{shard_name(agent, target, len(shards))!r} is missing")
    inventory = Inventory(
        target=f"{target}@{cluster}",
        entries=entries,
        serial=facts["serial"],
        cluster_uid=facts["cluster"],
        commit=facts["commit"],
        trusted=not damage,
        damage=f"inventory ConfigMap {', '.join(damage)}" if damage else "",
    )
    return inventory, shards


def _facts_of_head(head: Mapping[str, Any] | None, damage: list[str]) -> tuple[dict[str, Any], int]:
    """What shard 0 says of the whole, and how many shards there should be. A missing one is named by the caller."""
    unknown: dict[str, Any] = {"serial": 0, "cluster": "", "commit": ""}
    if head is None:
        return unknown, 0
    data = head.get("data") or {}
    try:
        facts = {"serial": int(data["serial"]), "cluster": data["cluster"], "commit": data["commit"]}
        return facts, int(data["shards"])
    except (KeyError, ValueError, TypeError) as error:
        what = f"has no usable {error}" if isinstance(error, KeyError) else "has unusable numbers"
        damage.append(f"{head['metadata']['name']!r} {what}")
        return unknown, 0


def _shard(item: Mapping[str, Any], damage: list[str]) -> Shard:
    metadata = item["metadata"]
    entries: Mapping[ObjectId, Entry] = {}
    readable = True
    try:
        entries = _decode((item.get("data") or {})["entries"])
    except (KeyError, ValueError, TypeError, AttributeError):
        readable = False
        damage.append(f"{metadata['name']!r} cannot be read: `entries` is not what was written")
    return Shard(
        name=metadata["name"],
        uid=metadata["uid"],
        resource_version=metadata["resourceVersion"],
        entries=entries,
        damaged=not readable,
    )


def _encode(entries: Mapping[ObjectId, Entry]) -> str:
    lines = [
        f"{orjson.dumps(str(key)).decode()}: {orjson.dumps(_record(entry)).decode()}" for key, entry in entries.items()
    ]
    return "{\n" + ",\n".join(lines) + "\n}\n" if lines else "{}\n"


def _record(entry: Entry) -> dict[str, Any]:
    """What is at its default is left out."""
    record: dict[str, Any] = {"apiVersion": entry.api_version, "state": entry.state.value}
    for name, default in _DEFAULTS.items():
        if (value := getattr(entry, name)) != default:
            record[_KEYS.get(name, name)] = value
    return record


def _decode(text: str) -> dict[ObjectId, Entry]:
    entries = {}
    for key, record in orjson.loads(text).items():
        known = {name: record[said] for name in _DEFAULTS if (said := _KEYS.get(name, name)) in record}
        if not all(type(value) is type(_DEFAULTS[name]) for name, value in known.items()):
            raise TypeError("a value of another type than was written")
        if not isinstance(record["apiVersion"], str):
            raise TypeError("an apiVersion that is no text")
        entries[ObjectId.parse(key)] = Entry(
            api_version=record["apiVersion"], state=EntryState(record["state"]), **known
        )
    return entries


def _weight(key: ObjectId, entry: Entry) -> int:
    """Bytes of one entry's line, as it will be when all is filled in."""
    later = sum(_LATER_BYTES for name in _OPTIONAL if not getattr(entry, name))
    filled = sum(len(str(getattr(entry, name))) for name in _DEFAULTS)
    return 160 + len(str(key)) + len(entry.api_version) + filled + later
