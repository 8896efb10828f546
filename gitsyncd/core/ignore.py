"""Fields that Git may name and others may own: what is sent for them once an object is live.

If another manager owns the field it is left out of the apply, so that it stays theirs; else the live value is sent, so
that dropping it does not make the server fall back to a default.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson

from gitsyncd.core.fields import entries, fields_of, is_ours


def keep_live(body: bytes, live: Mapping[str, Any], pointers: Collection[str], manager: str) -> bytes:
    """`body` with each JSON pointer (RFC 6901) left out or set to the live value. `manager` is our field manager."""
    document = orjson.loads(body)
    for pointer in pointers:
        steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:]]
        parent = _walk(document, steps[:-1])
        live_parent = _walk(live, steps[:-1])
        if not steps or parent is None:
            continue
        has_live, value = _get(live_parent, steps[-1])
        if not has_live or _owned_by_other(live, steps, manager):
            _remove(parent, steps[-1])
        else:
            _set(parent, steps[-1], value)
    return orjson.dumps(document)


def _owned_by_other(live: Mapping[str, Any], steps: Sequence[str], manager: str) -> bool:
    """Whether an entry that is not ours holds the field, or anything below it. Steps through lists find no owner."""
    for entry in entries(live):
        fields: Any = fields_of(entry)
        for step in steps:
            fields = fields.get(f"f:{step}") if isinstance(fields, Mapping) else None
        if fields is not None and not is_ours(entry, manager):
            return True
    return False


def _walk(value: Any, steps: Collection[str]) -> Any:
    for step in steps:
        _, value = _get(value, step)
    return value


def _get(parent: Any, step: str) -> tuple[bool, Any]:
    if isinstance(parent, Mapping) and step in parent:
        return True, parent[step]
    if isinstance(parent, list) and step.isdecimal() and int(step) < len(parent):
        return True, parent[int(step)]
    return False, None


def _set(parent: Any, step: str, value: Any) -> None:
    if isinstance(parent, dict):
        parent[step] = value
    elif isinstance(parent, list) and step.isdecimal() and int(step) < len(parent):
        parent[int(step)] = value


def _remove(parent: Any, step: str) -> None:
    if isinstance(parent, dict):
        parent.pop(step, None)
    elif isinstance(parent, list) and step.isdecimal() and int(step) < len(parent):
        del parent[int(step)]
