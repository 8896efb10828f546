"""What people and reports must not see of objects: values of Secrets.

Redaction happens where facts are turned into something to show; whoever decides works with the values themselves. Does
not belong here: credentials in URLs and answers, which the edge that holds them keeps to itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from gitsyncd.core.fields import FieldChange, FieldPath
from gitsyncd.core.marks import LAST_APPLIED

MARK: Final = "***"

# kubectl's annotation holds the whole object as somebody once sent it, the data of a Secret included.
_ALWAYS: Final[tuple[FieldPath, ...]] = (("f:metadata", "f:annotations", f"f:{LAST_APPLIED}"),)
_IN_SECRETS: Final[tuple[FieldPath, ...]] = (("f:data",), ("f:stringData",), *_ALWAYS)


def redact_values(group: str, kind: str, changes: Iterable[FieldChange]) -> tuple[FieldChange, ...]:
    """The same changes with `***` for every secret value. A missing side stays None."""
    secret = secret_paths(group, kind)
    return tuple(
        replace(
            change,
            before=_without(change.before, change.keys, secret),
            after=_without(change.after, change.keys, secret),
        )
        for change in changes
    )


def redact_value(group: str, kind: str, keys: FieldPath, value: Any) -> Any:
    """One value that stands at `keys` of an object, with `***` for what of it is secret. None stays None."""
    return _without(value, keys, secret_paths(group, kind))


def secret_paths(group: str, kind: str) -> tuple[FieldPath, ...]:
    """Below which paths everything is secret."""
    return _IN_SECRETS if kind == "Secret" and not group else _ALWAYS


def _without(value: Any, keys: FieldPath, secret: Sequence[FieldPath]) -> Any:
    if value is None:
        return None
    for path in secret:
        if keys[: len(path)] == path:
            return MARK
        if path[: len(keys)] == keys:
            value = _masked(value, path[len(keys) :])
    return value


def _masked(value: Any, path: FieldPath) -> Any:
    """A copy of `value` with what lies at `path` replaced; the value itself when nothing lies there."""
    if not path:
        return MARK
    name = path[0].removeprefix("f:")
    if not isinstance(value, Mapping) or value.get(name) is None:
        return value
    return {**value, name: _masked(value[name], path[1:])}
