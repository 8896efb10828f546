"""Fields that Git may name and others may own: which those are, and what is sent for them once an object is live.

If another manager owns the field it is left out of the apply, so that it stays theirs; else the live value is sent, so
that dropping it does not make the server fall back to a default.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import orjson

from gitsyncd.core.fields import FieldPath, entries, fields_of, is_ours


def keep_live(body: bytes, live: Mapping[str, Any], pointers: Collection[str], manager: str) -> bytes:
    """`body` with each JSON pointer (RFC 6901) left out or set to the live value. `manager` is our field manager.

    A field that Git does not name and that we do not own is nobody's business of ours: it is not sent either.
    """
    document = orjson.loads(body)
    # From the end of lists, so that leaving one item out does not move the others.
    for steps in sorted({_steps(pointer) for pointer in pointers} - {()}, key=_position, reverse=True):
        parent = _walk(document, steps[:-1])
        in_git, _ = _get(parent, steps[-1])
        in_live, value = _get(_walk(live, steps[:-1]), steps[-1])
        ours, others = _owners(live, steps, manager)
        if others or not in_live:
            _remove(parent, steps[-1])
        elif in_git or ours:
            _set(parent, steps[-1], value)
    return orjson.dumps(document)


def is_yielded(path: FieldPath, pointers: Collection[str]) -> bool:
    """Whether one of the JSON pointers is the field or holds it. Lists on the way hide it, as they hide its owner."""
    named = (tuple(f"f:{step}" for step in _steps(pointer)) for pointer in pointers)
    return any(steps and path[: len(steps)] == steps for steps in named)


def _steps(pointer: str) -> tuple[str, ...]:
    return tuple(step.replace("~1", "/").replace("~0", "~") for step in pointer.split("/")[1:])


def _position(steps: Sequence[str]) -> tuple[int, ...]:
    return tuple(int(step) if step.isdecimal() else -1 for step in steps)


def _owners(live: Mapping[str, Any], steps: Sequence[str], manager: str) -> tuple[bool, bool]:
    """Whether we hold the field or anything below it, and whether somebody else does. Lists on the way hide both."""
    ours = others = False
    for entry in entries(live):
        fields: Any = fields_of(entry)
        for step in steps:
            fields = fields.get(f"f:{step}") if isinstance(fields, Mapping) else None
        if fields is not None:
            mine = is_ours(entry, manager)
            ours, others = ours or mine, others or not mine
    return ours, others


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
