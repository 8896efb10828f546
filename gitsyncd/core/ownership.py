"""Whose fields are whose: what others added to an object, who wrote a field, and how our entry takes over another's.

Facts only, for every class of writer. Whether an addition is removed, reported or ignored is policy and decided by the
plan. Reading and comparing sets of fields is `fields`; the names behind the classes are `writers`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from gitsyncd.core.fields import (
    MAX_DEPTH,
    MAX_PATHS,
    SELF,
    FieldPath,
    Fields,
    Json,
    children,
    depth_within,
    entries,
    fields_of,
    is_ours,
    our_entry,
    own_fields_among,
    path_text,
    paths,
    union,
)
from gitsyncd.core.writers import WriterTable, classify
from gitsyncd.model.observed import Addition, Blame, Writer

RESTARTED_AT: Final = "f:kubectl.kubernetes.io/restartedAt"

# Written by controllers into `metadata.annotations` of objects that others own. Only prefixes that people have no
# reason to write by hand: `service.beta.kubernetes.io/` or `cert-manager.io/` are where people say what they want.
CONTROLLER_ANNOTATIONS: Final = tuple(
    f"f:{prefix}"
    for prefix in (
        "deployment.kubernetes.io/", "autoscaling.alpha.kubernetes.io/", "control-plane.alpha.kubernetes.io/",
        "endpoints.kubernetes.io/", "batch.kubernetes.io/", "pv.kubernetes.io/", "volume.kubernetes.io/",
        "volume.beta.kubernetes.io/", "volumes.kubernetes.io/", "csi.volume.kubernetes.io/",
        "node.alpha.kubernetes.io/", "storage.alpha.kubernetes.io/", "rollout.argoproj.io/", "openshift.io/sa.",
        "field.cattle.io/publicEndpoints",
        "lifecycle.cattle.io/", "cloud.google.com/", "networking.gke.io/", "autoscaling.gke.io/", "gke.io/",
        "ingress.kubernetes.io/", "vpcresources.k8s.aws/", "elbv2.k8s.aws/", "metallb.io/", "metallb.universe.tf/",
        "projectcalico.org/", "cni.projectcalico.org/", "ovn.org/",
    )
)  # fmt: skip

# Never removed, whoever wrote them: a finalizer or an owner reference that is taken away breaks a promise between
# controllers, and the server puts the label back by itself.
_NEVER_REMOVED: Final = frozenset(
    {
        ("f:status",),
        ("f:metadata", "f:finalizers"),
        ("f:metadata", "f:ownerReferences"),
        ("f:metadata", "f:labels", "f:kubernetes.io/metadata.name"),
    }
)
_ANNOTATIONS: Final = ("f:metadata", "f:annotations")
_TEMPLATE_ANNOTATIONS: Final = ("f:template", "f:metadata", "f:annotations")
_KEYED_METADATA: Final = ("f:annotations", "f:labels")


# --- Additions -------------------------------------------------------------------------------------------------------
def additions(obj: Json, manager: str, table: WriterTable) -> tuple[Addition, ...]:
    """What other managers own of the object itself, our entry does not, and is really there; one item per entry.

    Each names the topmost element that its manager added, not every leaf below it. Fields that are never removed are
    left out, but for the mark of `kubectl rollout restart`, which is an addition of its own with `keep`.

    A field of ours that somebody changed is theirs until we take it back, and so stands here too: only while our entry
    is the one that our last apply left (`entry_hash`) is everything here something that Git does not name.
    """
    all_entries = tuple(entries(obj))
    others = tuple(entry for entry in all_entries if not entry.get("subresource") and not is_ours(entry, manager))
    if not others:
        return ()
    entry = our_entry(obj, manager)
    ours: Fields = {} if entry is None else own_fields_among(entry, all_entries)
    return tuple(addition for other in others for addition in _additions_of(obj, other, ours, table))


def _additions_of(obj: Json, entry: Json, ours: Fields, table: WriterTable) -> Iterator[Addition]:
    added: list[FieldPath] = []
    kept: list[FieldPath] = []
    _collect(fields_of(entry), ours, obj, (), added, kept)
    for found, keep in ((added, False), (kept, True)):
        if found:
            yield Addition(
                manager=_text(entry.get("manager")),
                writer=classify(entry.get("manager"), entry.get("operation"), None, table),
                operation=_text(entry.get("operation")),
                at=written_at(entry),
                fields=tuple(map(path_text, found)),
                keys=tuple(found),
                keep=keep,
            )


def _collect(
    theirs: Fields, ours: Fields, live: Any, prefix: FieldPath, added: list[FieldPath], kept: list[FieldPath]
) -> None:
    """Walk what `theirs` names of `live` and `ours` does not."""
    present = children(live, theirs)
    for key, below in theirs.items():
        if len(added) >= MAX_PATHS:
            return
        if key not in present:
            continue
        keys = (*prefix, key)
        if _never_removed(keys):
            if key == RESTARTED_AT and key not in ours and len(kept) < MAX_PATHS:
                kept.append(keys)
            continue
        inner = isinstance(below, dict) and any(child != SELF for child in below) and len(keys) < MAX_DEPTH
        if key not in ours and (not inner or (SELF in below and key not in _KEYED_METADATA)):
            added.append(keys)
        elif inner and ours.get(key, True):  # a leaf of ours owns all that is below it
            mine = ours.get(key)
            _collect(below, mine if isinstance(mine, dict) else {}, present[key], keys, added, kept)


def _never_removed(keys: FieldPath) -> bool:
    if len(keys) > 3:
        return keys[-1] == RESTARTED_AT and keys[-4:-1] == _TEMPLATE_ANNOTATIONS
    if keys in _NEVER_REMOVED:
        return True
    return keys[:2] == _ANNOTATIONS and len(keys) == 3 and keys[2].startswith(CONTROLLER_ANNOTATIONS)


# --- Blame -----------------------------------------------------------------------------------------------------------
def blame(obj: Json, changed: Sequence[str], manager: str, table: WriterTable) -> Blame:
    """Who wrote the fields at these paths, from the live object as it is before we put it right.

    The most recent of the managers that own one of the paths now; or we ourselves, when our own entry still owns all of
    them: then another client used our name, or the server changed the value. A field that was removed has no owner, so
    else it is whoever wrote the object last, if that was not before our own last write; or nobody.
    """
    ours = our_entry(obj, manager)
    others = [entry for entry in entries(obj) if entry is not ours]
    mine = tuple(paths(fields_of(ours)))
    # Where something below a path is still ours, the path stands for the order of a list: owning another of its
    # elements is no sign of having changed it.
    wanted = {path: not any(owned != path and _above(path, owned) for owned in mine) for path in changed}
    owners = [entry for entry in others if _owns_any(paths(fields_of(entry)), wanted)]
    if owners:
        return _blame(max(owners, key=_when), manager, table)
    if ours is not None and wanted and all(_owns_any(mine, {path: whole}) for path, whole in wanted.items()):
        return _blame(ours, manager, table)
    since = _when(ours) if ours is not None else _LONG_AGO
    later = [entry for entry in others if not entry.get("subresource") and _when(entry) >= since]
    return _blame(max(later, key=_when), manager, table) if later else Blame(manager=None)


def _blame(entry: Json, manager: str, table: WriterTable) -> Blame:
    name, operation = entry.get("manager"), entry.get("operation")
    if is_ours(entry, manager):
        writer = Writer.US
    else:
        writer = classify(name, operation, entry.get("subresource"), table)
    return Blame(manager=_text(name) or None, writer=writer, operation=_text(operation), at=written_at(entry))


def _owns_any(owned: Iterable[str], wanted: Mapping[str, bool]) -> bool:
    """Whether a manager of these leaves owns one of the paths, as such or as part of a whole, or, where that is said to
    count, something below it.
    """
    return any(
        _above(leaf, path) or (below_counts and _above(path, leaf))
        for leaf in owned
        for path, below_counts in wanted.items()
    )


def _above(path: str, other: str) -> bool:
    """Whether `other` is `path` or lies below it."""
    return other.startswith(path) and (len(other) == len(path) or other[len(path)] in ".[")


_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)


def _when(entry: Json) -> datetime:
    return written_at(entry) or _LONG_AGO


def written_at(entry: Json) -> datetime | None:
    """The entry's time in UTC; the server keeps whole seconds."""
    text = entry.get("time")
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


# --- Take-over -------------------------------------------------------------------------------------------------------
Take = Callable[[str, str], bool]
"""Manager and operation of an entry to whether it is to be taken over."""


def writers_beyond(obj: Json, manifest: Json) -> frozenset[tuple[str, str]]:
    """Manager and operation of every entry that holds a field which `manifest` does not name.

    Keys of list elements that the server defaults (a port's protocol) count as not named: asking once too often is
    harmless.
    """
    return frozenset(
        (_text(entry.get("manager")), _text(entry.get("operation")))
        for entry in entries(obj)
        if not entry.get("subresource") and not _names_all(manifest, fields_of(entry))
    )


def _names_all(value: Any, fields_v1: Fields, depth: int = 0) -> bool:
    if depth > MAX_DEPTH:
        return False
    present = children(value, fields_v1)
    for key, below in fields_v1.items():
        if key == SELF:
            continue
        if key not in present:
            return False
        if isinstance(below, dict) and below and not _names_all(present[key], below, depth + 1):
            return False
    return True


def take_over(obj: Json, manager: str, take: Take) -> tuple[Json, ...] | None:
    """New `metadata.managedFields` in which our Apply entry also owns what the entries to be taken over own.

    The next apply then removes all of it that Git does not name, as it does with fields that Git named before. What is
    never removed (finalizers, owner references, annotations of controllers) stays with its owner, as do subresources.
    None when there is nothing to take.

    Our entry is made when there is none, and then has the version and the time of the most recent entry taken. Sets at
    different versions of a kind cannot be joined, since the same path may be another field there: entries at another
    version than ours are left alone, and our next apply decides about ours by the version that it was written at.
    """
    before = tuple(entries(obj))
    ours = our_entry(obj, manager)
    taken = {id(entry): parts for entry, parts in _to_take(before, ours, manager, take)}
    if not taken:
        return None
    target = ours or _made_from([entry for entry in before if id(entry) in taken], manager)
    joined = fields_of(target)
    after: list[Json] = [] if ours is not None else [target]
    for entry in before:
        parts = taken.get(id(entry))
        if parts is None:
            after.append(entry)
            continue
        stays, goes = parts
        joined = union(joined, goes)
        if stays:
            after.append({**entry, "fieldsV1": stays})
    return tuple({**entry, "fieldsV1": joined} if entry is target else entry for entry in after)


def needs_take_over(obj: Json, manager: str, take: Take) -> bool:
    """Whether `take_over` would do something."""
    return next(_to_take(tuple(entries(obj)), our_entry(obj, manager), manager, take), None) is not None


def _to_take(
    before: Sequence[Json], ours: Json | None, manager: str, take: Take
) -> Iterator[tuple[Json, tuple[Fields, Fields]]]:
    """The entries to take with what stays and what goes of each; those of which nothing goes are not among them."""
    wanted = [
        entry
        for entry in before
        if not entry.get("subresource")
        and not is_ours(entry, manager)
        and isinstance(entry.get("apiVersion"), str)
        and take(_text(entry.get("manager")), _text(entry.get("operation")))
        and depth_within(fields_of(entry))
    ]
    if not wanted or (ours is not None and not depth_within(fields_of(ours))):
        return
    version = (ours or max(wanted, key=_when)).get("apiVersion")
    for entry in wanted:
        if entry.get("apiVersion") == version:
            parts = _divided(fields_of(entry))
            if parts[1]:
                yield entry, parts


def _made_from(taken: Iterable[Json], manager: str) -> Json:
    newest = max(taken, key=_when)
    made = {key: newest[key] for key in ("apiVersion", "time") if key in newest}
    return {"manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", **made, "fieldsV1": {}}


def _divided(fields_v1: Fields, prefix: FieldPath = ()) -> tuple[Fields, Fields]:
    """What is never removed, and the rest."""
    stays: dict[str, Any] = {}
    goes: dict[str, Any] = {}
    for key, below in fields_v1.items():
        keys = (*prefix, key)
        if _never_removed(keys):
            stays[key] = below
        elif isinstance(below, dict) and below:
            kept, rest = _divided(below, keys)
            if kept:
                stays[key] = kept
            if rest:
                goes[key] = rest
        else:
            goes[key] = below
    if stays and goes.keys() == {SELF}:  # what holds something that stays, stays with it
        return fields_v1, {}
    return stays, goes
