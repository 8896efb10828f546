"""Field managers in memory, by the rules of server-side apply, as far as whole manifests of maps need them.

Maps are granular, lists and everything else are one value. A set of fields is a set of paths in here and FieldsV1 in
`metadata.managedFields`.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from typing import Any

Json = Mapping[str, Any]
Path = tuple[str, ...]

_OF_THE_SERVER = frozenset(
    {"uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "managedFields", "name", "namespace"}
)
_MISSING = object()


class FieldManagers:
    """Who owns what, after each kind of write."""

    def applied(self, before: Json, given: Json, manager: str) -> tuple[dict[str, Any], set[str]]:
        """The object after one forced apply, and the managers that an unforced one would conflict with."""
        wanted = set(leaves(given))
        after: dict[str, Any] = deepcopy(dict(before)) if before else {"metadata": {}}
        owned = _owned(before)
        mine = owned.pop((manager, "Apply"), set())
        conflicts = set()
        for (name, _), fields in owned.items():
            lost = {path for path in fields & wanted if value_at(before, path) != value_at(given, path)}
            if lost:
                conflicts.add(name)
                fields.difference_update(lost)
        others = set().union(*owned.values())
        for path in mine - wanted - others:
            _remove(after, path)
        for path in wanted:
            _set(after, path, deepcopy(value_at(given, path)))
        for key in ("apiVersion", "kind"):
            after[key] = given[key]
        for key in ("name", "namespace"):
            if key in given["metadata"]:
                after["metadata"][key] = given["metadata"][key]
        _write(after, {(manager, "Apply"): wanted, **owned})
        return after, conflicts

    def updated(self, before: Json, after: dict[str, Any], manager: str) -> None:
        """After a write that was no apply: what it changed is the writer's, what it removed is nobody's."""
        there = set(leaves(after))
        changed = {path for path in there if value_at(before, path) != value_at(after, path)}
        owned = _owned(before)
        for fields in owned.values():
            fields.difference_update(changed)
            fields.intersection_update(there)
        mine = owned.setdefault((manager, "Update"), set())
        mine |= changed
        _write(after, owned)


def leaves(value: Json, prefix: Path = ()) -> Iterator[Path]:
    """Paths of everything that a manager can own."""
    for key, below in value.items():
        path = (*prefix, key)
        if path in {("apiVersion",), ("kind",), ("status",)} or (
            len(path) == 2 and path[0] == "metadata" and key in _OF_THE_SERVER
        ):
            continue
        if isinstance(below, Mapping) and below:
            yield from leaves(below, path)
        elif path != ("metadata",):
            yield path


def value_at(obj: Any, path: Path) -> Any:
    for key in path:
        obj = obj.get(key, _MISSING) if isinstance(obj, Mapping) else _MISSING
    return obj


def _set(obj: dict[str, Any], path: Path, value: Any) -> None:
    for key in path[:-1]:
        below = obj.get(key)
        if not isinstance(below, dict):
            below = obj[key] = {}
        obj = below
    obj[path[-1]] = value


def _remove(obj: dict[str, Any], path: Path) -> None:
    """With the maps that it leaves empty."""
    if value_at(obj, path) is _MISSING:
        return
    inner = value_at(obj, path[:-1])
    inner.pop(path[-1])
    if not inner and len(path) > 1:
        _remove(obj, path[:-1])


def _owned(obj: Json) -> dict[tuple[str, str], set[Path]]:
    entries = (obj.get("metadata") or {}).get("managedFields", ())
    return {(entry["manager"], entry["operation"]): set(_decode(entry["fieldsV1"])) for entry in entries}


def _write(obj: dict[str, Any], owned: Mapping[tuple[str, str], set[Path]]) -> None:
    obj["metadata"]["managedFields"] = [
        {
            "manager": manager,
            "operation": operation,
            "apiVersion": obj["apiVersion"],
            "time": "2026-01-01T00:00:00Z",
            "fieldsType": "FieldsV1",
            "fieldsV1": _encode(fields),
        }
        for (manager, operation), fields in sorted(owned.items())
        if fields
    ]


def _encode(fields: set[Path]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for path in sorted(fields):
        at = tree
        for key in path:
            at = at.setdefault(f"f:{key}", {})
    return tree


def _decode(tree: Json, prefix: Path = ()) -> Iterator[Path]:
    for key, below in tree.items():
        if key == ".":
            continue
        path = (*prefix, key.removeprefix("f:"))
        if any(inner != "." for inner in below):
            yield from _decode(below, path)
        else:
            yield path
