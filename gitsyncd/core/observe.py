"""From a live object, whatever is in it, to the record that planning works with.

One place for what is read from an object and how; what follows from it is decided in `plan`. Health is not judged here:
it needs the time, and only some callers want it.
"""

from __future__ import annotations

from typing import Any

from gitsyncd.core.controls import live_controls
from gitsyncd.core.fields import Json, digest, entries, fields_of, is_ours, metadata, own_fields_among, project
from gitsyncd.core.marks import AGENT_LABEL, ID_ANNOTATION, TARGET_ANNOTATION
from gitsyncd.core.ownership import additions, needs_take_over
from gitsyncd.core.writers import WriterTable, is_client_side_tool
from gitsyncd.model.ids import ObjectId, group_of
from gitsyncd.model.observed import Mark, Observed


def observe(
    obj: Json, *, manager: str, table: WriterTable, key: bytes = b"", object_id: ObjectId | None = None
) -> Observed:
    """The record of one live object. Never raises, whatever JSON the object holds.

    `manager` is our field manager, `gitsyncd/<agent>`. `key` makes the hashes of Secrets useless for guessing; other
    kinds do not use it. `object_id` is needed where the server leaves kind and apiVersion out, as in items of lists;
    else they are read from the object. `health` is left to the caller.
    """
    meta = metadata(obj)
    identity = object_id or identify(obj)
    all_entries = tuple(entries(obj))
    ours = next((entry for entry in all_entries if is_ours(entry, manager)), None)
    entry_hash = projection_hash = ""
    if ours is not None:
        entry_hash = digest([ours.get("apiVersion"), ours.get("fieldsV1")])
        secret = identity.kind == "Secret" and not identity.group
        mask = own_fields_among(ours, all_entries) if len(all_entries) > 1 else fields_of(ours)
        projection_hash = digest(project(obj, mask), key if secret else b"")
    others = any(entry is not ours and not entry.get("subresource") for entry in all_entries)
    labels, annotations = _strings(meta.get("labels")), _strings(meta.get("annotations"))
    live = live_controls(annotations, labels)
    return Observed(
        uid=_text(meta.get("uid")),
        resource_version=_text(meta.get("resourceVersion")),
        mark=_mark(labels, annotations, identity),
        entry_hash=entry_hash,
        projection_hash=projection_hash,
        additions=additions(obj, manager, table) if others else (),
        takeover=others and needs_take_over(obj, manager, is_client_side_tool),
        reconcile_disabled=live.reconcile_disabled,
        prune_disabled=live.prune_disabled,
        prune_needs_approval=live.prune_needs_approval,
        scaled=any(entry.get("subresource") == "scale" for entry in all_entries),
        controlled=_controlled(meta.get("ownerReferences")),
        deleting=meta.get("deletionTimestamp") is not None,
    )


def identify(obj: Json) -> ObjectId:
    """Who the object says it is. Parts that are missing or no text are empty."""
    meta = metadata(obj)
    return ObjectId(
        group=group_of(_text(obj.get("apiVersion") if isinstance(obj, dict) else None)),
        kind=_text(obj.get("kind") if isinstance(obj, dict) else None),
        namespace=_text(meta.get("namespace")),
        name=_text(meta.get("name")),
    )


def _mark(labels: Json, annotations: Json, identity: ObjectId) -> Mark | None:
    if AGENT_LABEL not in labels:
        return None
    return Mark(
        agent=_text(labels[AGENT_LABEL]),
        target=_text(annotations.get(TARGET_ANNOTATION)),
        describes_itself=annotations.get(ID_ANNOTATION) == str(identity),
    )


def _controlled(references: Any) -> bool:
    return isinstance(references, list) and any(
        isinstance(reference, dict) and reference.get("controller") is True for reference in references
    )


def _strings(found: Any) -> Json:
    return found if isinstance(found, dict) else {}


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
