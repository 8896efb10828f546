"""Sets of fields as `managedFields` writes them (FieldsV1): reading, projecting, comparing, joining, naming.

Here: what the notation means, and which of a manager's fields differ between two states of one object. Not here: who
the managers are (`writers`), and whose fields are whose business (`ownership`).

FieldsV1 is a tree of path elements: `f:NAME` a field of a map, `k:{"name":"c"}` the list element with that key,
`v:VALUE` the member of a set, `i:N` an index; `.` stands for the element itself beside its children, and an element
without children is a leaf: all of what lies below belongs to it (kubernetes-sigs/structured-merge-diff,
fieldpath/serialize-pe.go). Paths are tuples of such elements inside the program and text only where people read them.

Live objects come from outside, whatever is in them. Nothing here raises on any JSON value: what has not the shape that
it should have counts as absent, and whoever nests deeper than `MAX_DEPTH` has that part treated as one value.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final

import orjson

from gitsyncd.model.immutable import immutable

Json = Mapping[str, Any]
Fields = Mapping[str, Any]
"""A FieldsV1 set."""
FieldPath = tuple[str, ...]
"""FieldsV1 path elements from the root: `("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}')`."""

MAX_DEPTH: Final = 100
"""Levels. Real objects stay below 40; Python's own stack ends near 1,000."""
MAX_PATHS: Final = 20
"""Paths in one report: enough to see what happened, little enough for a log line."""
SELF: Final = "."
EXISTENCE: Final[Fields] = {SELF: {}}
"""The element itself and nothing below it."""

_NOTHING: Final[Fields] = {}
_DIGEST_BYTES: Final = 16
_MAX_KEY_BYTES: Final = 64  # of blake2b
_CACHED_ELEMENT: Final = 256  # characters; longer path elements are parsed each time, so that the cache stays small
_MAX_PATH_TEXT: Final = 1000  # characters; names of fields may be as long as an object
_KEY_SHAPES: Final = 4  # different sets of key fields within one list; real lists have one
_GO_ESCAPES: Final = {
    '"': '\\"', "\\": "\\\\", "\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v",
}  # fmt: skip


@immutable
class FieldChange:
    """One field that differs between two states of an object. A side where it is missing is None."""

    path: str
    keys: FieldPath
    before: Any
    after: Any


# --- Entries ---------------------------------------------------------------------------------------------------------
def entries(obj: Json) -> Iterator[Json]:
    """The entries of `metadata.managedFields` that have the shape of one."""
    found = metadata(obj).get("managedFields")
    if isinstance(found, list):
        for entry in found:
            if isinstance(entry, dict):
                yield entry


def metadata(obj: Json) -> Json:
    found = obj.get("metadata") if isinstance(obj, dict) else None
    return found if isinstance(found, dict) else _NOTHING


def fields_of(entry: Json | None) -> Fields:
    """The entry's set; empty for an entry without one."""
    found = entry.get("fieldsV1") if entry is not None else None
    return found if isinstance(found, dict) else _NOTHING


def is_ours(entry: Json, manager: str) -> bool:
    """Whether this is the entry of our applies: what goes by our name in other ways is somebody else's doing."""
    return entry.get("manager") == manager and entry.get("operation") == "Apply" and not entry.get("subresource")


def our_entry(obj: Json, manager: str) -> Json | None:
    """The entry of `manager`'s applies to the object itself; None when it has none."""
    return next((entry for entry in entries(obj) if is_ours(entry, manager)), None)


def own_fields(obj: Json, manager: str) -> Fields | None:
    """What our applies own of this object; None without an entry.

    A leaf below which another manager owns something is a map that anybody may add to, such as an `emptyDir: {}` that
    we applied empty: of such a map only the existence is ours.
    """
    entry = our_entry(obj, manager)
    return None if entry is None else own_fields_among(entry, entries(obj))


def own_fields_among(entry: Json, others: Iterable[Json]) -> Fields:
    """As `own_fields`, for a caller that has our entry and the others at hand."""
    ours = fields_of(entry)
    for other in others:
        # At another version the same path may be another field.
        if other is not entry and other.get("apiVersion") == entry.get("apiVersion"):
            ours = _open_leaves(ours, fields_of(other))
    return ours


def _open_leaves(ours: Fields, theirs: Fields, depth: int = 0) -> Fields:
    """`ours`, with leaves that have something of `theirs` below them reduced to their existence."""
    changed: dict[str, Any] = {}
    for key, others in theirs.items():
        mine = ours.get(key)
        if not isinstance(mine, dict) or not isinstance(others, dict) or not others:
            continue
        if not mine:
            if key != SELF and any(child != SELF for child in others):
                changed[key] = EXISTENCE
        elif depth < MAX_DEPTH and (opened := _open_leaves(mine, others, depth + 1)) is not mine:
            changed[key] = opened
    return {**ours, **changed} if changed else ours


# --- Hashes ----------------------------------------------------------------------------------------------------------
def entry_hash(obj: Json, manager: str) -> str:
    """Of our entry: its fields and its apiVersion, not its time. Empty without an entry."""
    entry = our_entry(obj, manager)
    return "" if entry is None else digest([entry.get("apiVersion"), entry.get("fieldsV1")])


def projection_hash(obj: Json, manager: str, key: bytes = b"") -> str:
    """Of the live object projected on what we own of it. Empty without an entry.

    `key` makes it useless for guessing what was hashed; for Secrets it is a must.
    """
    ours = own_fields(obj, manager)
    return "" if ours is None else digest(project(obj, ours), key)


def digest(value: Any, key: bytes = b"") -> str:
    """32 hexadecimal digits of any JSON value, the same for the same value however its maps are ordered."""
    if len(key) > _MAX_KEY_BYTES:
        key = blake2b(key).digest()
    return blake2b(canonical(value), digest_size=_DIGEST_BYTES, key=key).hexdigest()


def canonical(value: Any) -> bytes:
    """JSON with sorted keys, of any depth."""
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError:  # nested deeper than orjson goes (254 levels), or a number beyond 64 bits
        return _canonical_deep(value)


def same(left: Any, right: Any) -> bool:
    """Equality of JSON values: `1` is not `true`, as it is in Python."""
    return left is right or canonical(left) == canonical(right)


def _canonical_deep(value: Any) -> bytes:
    """As `canonical`, slower, and without a stack that could overflow. Unambiguous rather than JSON."""
    parts: list[str] = []
    stack: list[tuple[bool, Any]] = [(True, value)]
    while stack:
        is_value, item = stack.pop()
        if not is_value:
            parts.append(item)
        elif isinstance(item, dict):
            stack.append((False, "}"))
            for name in sorted(item, key=str, reverse=True):
                stack += [(True, item[name]), (False, f"{name!r}:")]
            stack.append((False, "{"))
        elif isinstance(item, list | tuple):
            stack.append((False, "]"))
            stack += [(True, member) for member in reversed(item)]
            stack.append((False, "["))
        else:
            parts.append(f"{item!r},")
    return "".join(parts).encode("utf-8", "backslashreplace")


# --- Projection ------------------------------------------------------------------------------------------------------
def project(value: Any, fields_v1: Any, depth: int = 0) -> Any:
    """Of `value` only what the set names: maps stay maps, keyed lists become `[[element, projected], …]` in live order.

    The order of our elements counts, since it means something to some lists (environment variables refer to earlier
    ones); elements of others between them do not. A value whose shape is not what the set expects is taken whole.
    """
    if not fields_v1 or not isinstance(fields_v1, dict):
        return value
    if depth > MAX_DEPTH:
        return value
    if isinstance(value, dict):
        out = {}
        for key, below in fields_v1.items():
            if key[:2] == "f:":
                name = key[2:]
                if name in value:
                    out[name] = project(value[name], below, depth + 1) if below else value[name]
        return out
    if isinstance(value, list):
        return _project_list(value, fields_v1, depth)
    return value


def _project_list(items: list[Any], fields_v1: Fields, depth: int) -> Any:
    index = _ElementIndex(fields_v1)
    if index.too_odd:
        return items
    members: list[str] = []
    out: list[Any] = []
    for position, item in enumerate(items):
        for key in index.elements(position, item):
            if key[:2] == "v:":
                members.append(key)
            else:
                out.append([key, project(item, fields_v1[key], depth + 1)])
    return [*out, *sorted(members)]  # the order of a set means nothing


class _ElementIndex:
    """Which path elements of one set match an element of a list, without comparing each with each."""

    __slots__ = ("_by_shape", "_positions", "_values", "too_odd")

    def __init__(self, fields_v1: Fields) -> None:
        self._by_shape: dict[tuple[str, ...], dict[tuple[Any, ...], str]] = {}
        self._values: dict[Any, str] = {}
        self._positions: dict[int, str] = {}
        for key in fields_v1:
            kind, parsed = _element(key)
            if kind == "k":
                names, values = parsed
                self._by_shape.setdefault(names, {})[values] = key
            elif kind == "v":
                self._values[parsed] = key
            elif kind == "i":
                self._positions[parsed] = key
        self.too_odd = len(self._by_shape) > _KEY_SHAPES

    def elements(self, position: int, item: Any) -> Iterator[str]:
        if self._by_shape and isinstance(item, dict):
            for names, by_values in self._by_shape.items():
                key = by_values.get(tuple([_token(item.get(name)) for name in names]))
                if key is not None:
                    yield key
        if self._values and (key := self._values.get(_token(item))) is not None:
            yield key
        if self._positions and (key := self._positions.get(position)) is not None:
            yield key


def _element(key: str) -> tuple[str, Any]:
    """Kind and content of a path element: `k` with names and values, `v` with its value, `i` with its number."""
    return _parsed_element(key) if len(key) <= _CACHED_ELEMENT else _parsed_element.__wrapped__(key)


@lru_cache(maxsize=4096)
def _parsed_element(key: str) -> tuple[str, Any]:
    kind, text = key[:2], key[2:]
    if kind == "f:":
        return "f", text
    try:
        value = orjson.loads(text) if kind in {"k:", "v:", "i:"} else None
    except orjson.JSONDecodeError:
        return "", None
    if kind == "k:" and isinstance(value, dict) and value:
        names = tuple(sorted(value))
        return "k", (names, tuple(_token(value[name]) for name in names))
    if kind == "v:":
        return "v", _token(value)
    if kind == "i:" and isinstance(value, int):
        return "i", value
    return "", None


def _token(value: Any) -> Any:
    """Something hashable that is equal for equal JSON values only. Numbers compare as numbers, as the server does."""
    if isinstance(value, str):
        return value
    if value is None or isinstance(value, bool):
        return (type(value), value)
    if isinstance(value, int | float):
        return (int, value)
    return (dict, canonical(value))


def children(value: Any, fields_v1: Fields) -> dict[str, Any]:
    """What `value` has of each element that the set names, by element; for keyed lists in live order."""
    if isinstance(value, dict):
        return {key: value[key[2:]] for key in fields_v1 if key[:2] == "f:" and key[2:] in value}
    if isinstance(value, list):
        index = _ElementIndex(fields_v1)
        if not index.too_odd:
            return {key: item for position, item in enumerate(value) for key in index.elements(position, item)}
    return {}


# --- Sets ------------------------------------------------------------------------------------------------------------
def union(left: Fields, right: Fields, depth: int = 0) -> Fields:
    """What either set names. Neither is changed; parts may be shared with the result.

    Below `MAX_DEPTH` the left one alone counts: whoever needs more asks `depth_within` first.
    """
    if not left or not right:
        # At the root an empty set is nothing; below it the caller has seen to what a leaf means.
        return left or right
    out = dict(left)
    for key, theirs in right.items():
        if key not in out:
            out[key] = theirs
            continue
        mine = out[key]
        if not isinstance(mine, dict) or not isinstance(theirs, dict) or depth >= MAX_DEPTH or not (mine or theirs):
            continue
        # A leaf names the element itself; beside children that is written as a dot.
        out[key] = union(mine or EXISTENCE, theirs or EXISTENCE, depth + 1)
    return out


def depth_within(fields_v1: Any, limit: int = MAX_DEPTH) -> bool:
    """Whether the set nests no deeper than `limit` levels."""
    level = [fields_v1]
    for _ in range(limit):
        level = [below for fields in level if isinstance(fields, dict) for below in fields.values() if below]
        if not level:
            return True
    return False


# --- Paths -----------------------------------------------------------------------------------------------------------
def paths(fields_v1: Fields) -> Iterator[str]:
    """The leaves of a set, as the API server writes them in conflicts."""
    for keys in leaves(fields_v1):
        yield path_text(keys)


def leaves(fields_v1: Fields, prefix: FieldPath = ()) -> Iterator[FieldPath]:
    """The leaves of a set. An element named by a dot alone is a leaf too."""
    for key, below in fields_v1.items():
        if key == SELF:
            continue
        keys = (*prefix, key)
        if isinstance(below, dict) and any(child != SELF for child in below) and len(keys) < MAX_DEPTH:
            yield from leaves(below, keys)
        else:
            yield keys


def path_text(keys: Sequence[str]) -> str:
    """`.spec.template.spec.containers[name="c"].image`, as fieldpath.Path.String writes it; `.` for the root."""
    text = "".join(map(_element_text, keys)) or SELF
    return text if len(text) <= _MAX_PATH_TEXT else f"{text[:_MAX_PATH_TEXT]}…"


def _element_text(key: str) -> str:
    kind, text = key[:2], key[2:]
    if kind == "f:":
        return f".{text}"
    if kind == "i:":
        return f"[{text}]"
    try:
        value = orjson.loads(text) if kind in {"k:", "v:"} else None
    except orjson.JSONDecodeError:
        return "{{invalid path element}}"
    if kind == "v:":
        return f"[={_value_text(value)}]"
    if kind == "k:" and isinstance(value, dict):
        return "[" + ",".join(f"{name}={_value_text(value[name])}" for name in sorted(value)) + "]"
    return "{{invalid path element}}"


def _value_text(value: Any) -> str:
    """As value.ToString of structured-merge-diff."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _go_quoted(value)
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e21 else repr(value)
    if isinstance(value, dict | list):
        return canonical(value).decode(errors="replace")
    return str(value)


def _go_quoted(text: str) -> str:
    """As Go's `%q`."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(_GO_ESCAPES.get(char) or _go_char(char) for char in text) + '"'


def _go_char(char: str) -> str:
    code = ord(char)
    if char.isprintable():
        return char
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# --- Comparison ------------------------------------------------------------------------------------------------------
def changed_paths(
    before: Json | None, after: Json | None, manager: str, *, limit: int = MAX_PATHS, include_removed: bool = False
) -> tuple[str, ...]:
    """The paths of `changed_values`."""
    found = changed_values(before, after, manager, limit=limit, include_removed=include_removed)
    return tuple(change.path for change in found)


def changed_values(
    before: Json | None, after: Json | None, manager: str, *, limit: int = MAX_PATHS, include_removed: bool = False
) -> tuple[FieldChange, ...]:
    """Which of the fields that we own on either side differ, at most `limit`, in the order of the sets.

    `before` is the live object, `after` the API server's answer to our apply. What is missing on one side is reported
    once, at its top. `include_removed` adds what other managers owned in `before` and what is gone in `after`: fields
    that somebody had added. Empty when there is no object on one of the sides.
    """
    if not isinstance(before, dict) or not isinstance(after, dict):
        return ()
    walk = _Comparison(limit)
    mask = union(own_fields(before, manager) or _NOTHING, own_fields(after, manager) or _NOTHING)
    walk.descend(mask, before, after, ())
    if include_removed:
        walk.only_gone = True
        for entry in entries(before):
            if not is_ours(entry, manager) and not entry.get("subresource"):
                walk.descend(fields_of(entry), before, after, ())
    return tuple(walk.found)


class _Comparison:
    """One walk over two states of an object along a set of fields."""

    def __init__(self, limit: int) -> None:
        self.found: list[FieldChange] = []
        self.only_gone = False
        """Report only what is missing in `after`."""
        self._limit = limit
        self._seen: set[FieldPath] = set()

    def descend(self, fields_v1: Fields, before: Any, after: Any, keys: FieldPath) -> None:
        """Both sides have the element at `keys`, and the set names something below it."""
        old, new = children(before, fields_v1), children(after, fields_v1)
        for key, below in fields_v1.items():
            if len(self.found) >= self._limit:
                return
            if key in old or key in new:
                self._visit((*keys, key), below, old, new)
        # Only lists have an order that means something, and sets are lists that have none.
        if isinstance(before, list) and not self.only_gone and _order(old, new) != _order(new, old):
            self._report(keys, before, after)

    def _visit(self, keys: FieldPath, below: Any, old: Json, new: Json) -> None:
        key = keys[-1]
        before, after = old.get(key), new.get(key)
        if key not in new or (key not in old and not self.only_gone):
            self._report(keys, before, after)
        elif key not in old:
            return
        elif below and isinstance(below, dict) and len(keys) < MAX_DEPTH and _alike(before, after):
            self.descend(below, before, after, keys)
        elif not self.only_gone and not same(before, after):
            self._report(keys, before, after)

    def _report(self, keys: FieldPath, before: Any, after: Any) -> None:
        covered = any(keys[:length] in self._seen for length in range(1, len(keys) + 1))
        if not covered and len(self.found) < self._limit:
            self._seen.add(keys)
            self.found.append(FieldChange(path=path_text(keys), keys=keys, before=before, after=after))


def _order(of: Json, within: Json) -> list[str]:
    return [key for key in of if key in within and key[:2] == "k:"]


def _alike(before: Any, after: Any) -> bool:
    """Whether both sides are maps, or both are lists: else the field as a whole is what differs."""
    return (isinstance(before, dict) and isinstance(after, dict)) or (
        isinstance(before, list) and isinstance(after, list)
    )
