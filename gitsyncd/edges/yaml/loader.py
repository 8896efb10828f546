"""One YAML document to values that JSON can hold, over the events of PyYAML's C parser (libyaml).

Events and not nodes: libyaml's own composer and PyYAML's constructor recurse in C without a limit, so that 60 kB of
brackets end the interpreter; and building values straight from events is more than twice as fast. Depth and alias
expansion are bounded while the events arrive. Every error names its line and none quotes a value, which may belong to a
Secret.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Callable
from typing import Any, Final

import yaml
from yaml.events import (
    AliasEvent,
    DocumentEndEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
    StreamEndEvent,
)

from gitsyncd.edges.yaml import scalars
from gitsyncd.edges.yaml.scalars import Scalar

# Without its C extension PyYAML is twenty times slower, and its pure parser differs in what it accepts: refuse to start
# rather than to limp. `from yaml import CParser` would give an AttributeError that nobody understands.
try:
    from yaml._yaml import CParser
except ImportError as error:  # pragma: no cover - every wheel on the package index has it
    raise ImportError(
        "PyYAML was built without its C extension (libyaml); install a wheel, or libyaml's headers before building it"
    ) from error

MAX_DEPTH: Final = 200
"""Mappings and sequences within each other. The deepest known CRDs stay below 60."""
MAX_EXPANSION: Final = 4 << 20
"""Characters and nodes that the aliases of one document may add up to."""
_MEMO_ENTRIES: Final = 50_000

_TAG: Final = "tag:yaml.org,2002:"
_TIMESTAMP = re.compile(r"\d{4}-\d\d?-\d\d?([Tt ]\d\d?:\d\d?:\d\d?(\.\d+)?.*)?", re.ASCII)


def parser_of(text: str) -> CParser:
    """The parser itself, for callers that want to know where each thing stands."""
    return CParser(text)


class YamlError(Exception):
    """A document that cannot be read. `line` counts from 1 within the text that was given."""

    def __init__(self, message: str, line: int, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.hint = hint


class _MergeKey(str):
    """The merge key itself, as against a key in quotes that is spelled the same: told by identity."""

    __slots__ = ()


_MERGE: Final = _MergeKey("<<")


class _Anchor:
    """What an anchor names; `done` once the whole of it was read."""

    __slots__ = ("done", "is_mapping", "value", "weight")

    def __init__(self) -> None:
        self.done = False
        self.is_mapping = False
        self.value: Any = None
        self.weight = 0


def _exhausted() -> Any:
    raise AssertionError("no document is being read")


class Loader:
    """Reads documents one after the other. What scalars mean is remembered from one to the next."""

    def __init__(self) -> None:
        self._plain: dict[str, Scalar] = {}
        self._keys: dict[str, str] = {}
        self._next: Callable[[], Any] = _exhausted
        self._depth = 0
        self._anchors: dict[str, _Anchor] = {}
        self._expansion = 0

    def load(self, text: bytes) -> tuple[Any, int]:
        """The value of the one document in `text` and the line where it begins; (None, 0) for a text without any.

        Raises `YamlError`, also for a second document (Kubernetes' tools would drop it without a word).
        """
        self._depth, self._anchors, self._expansion = 0, {}, 0
        try:
            return self._document(CParser(text))
        except yaml.MarkedYAMLError as error:
            raise _located(error, text) from None
        except yaml.reader.ReaderError as error:
            raise YamlError(*_unreadable(error, text)) from None

    def _document(self, parser: CParser) -> tuple[Any, int]:
        self._next = parser.get_event
        self._next()  # the start of the stream
        event = self._next()
        if type(event) is StreamEndEvent:
            return None, 0
        assert type(event) is DocumentStartEvent
        event = self._next()
        line = _line(event)
        value = self._value(event)
        event = self._next()
        assert type(event) is DocumentEndEvent
        event = self._next()
        if type(event) is not StreamEndEvent:
            raise YamlError("a second document begins here without `---` at the start of a line", _line(event))
        return value, line

    def _value(self, event: Any) -> Any:
        """The value that begins with this event."""
        kind = type(event)
        if kind is AliasEvent:
            return self._alias(event).value
        if event.anchor is None:
            return self._scalar(event) if kind is ScalarEvent else self._collection(event)
        anchor = self._anchors[event.anchor] = _Anchor()
        anchor.value = self._scalar(event) if kind is ScalarEvent else self._collection(event)
        anchor.is_mapping = kind is MappingStartEvent
        anchor.done = True
        return anchor.value

    def _collection(self, event: Any) -> Any:
        if self._depth >= MAX_DEPTH:
            raise YamlError(f"nested more than {MAX_DEPTH} deep", _line(event))
        if event.tag is not None:
            _check_collection_tag(event)
        self._depth += 1
        value: Any = self._mapping() if type(event) is MappingStartEvent else self._sequence()
        self._depth -= 1
        return value

    # The next two are what reading spends its time in: scalars without anchor or tag are read on the spot.

    def _sequence(self) -> list[Any]:
        result: list[Any] = []
        append, following, known = result.append, self._next, self._plain
        while True:
            event = following()
            kind = type(event)
            if kind is SequenceEndEvent:
                return result
            if kind is ScalarEvent and event.anchor is None:
                text = event.value
                append(known[text] if event.implicit[0] and text in known else self._scalar(event))
            else:
                append(self._value(event))

    def _mapping(self) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: set[str] | None = None
        following, keys, known = self._next, self._keys, self._plain
        while True:
            event = following()
            kind = type(event)
            if kind is MappingEndEvent:
                return result
            if kind is ScalarEvent and event.implicit[0] and event.anchor is None:
                text = event.value
                key = keys.get(text) or self._new_key(event)
            else:
                key = _MERGE if _is_tagged_merge(event) else self._other_key(event)
            if key is _MERGE:
                merged = self._merge(following(), result, merged or set())
                continue
            if key in result:
                if merged is None or key not in merged:
                    raise YamlError(f"the key {_quoted(key)} stands twice in one mapping", _line(event))
                merged.discard(key)
            event = following()
            if type(event) is ScalarEvent and event.anchor is None:
                text = event.value
                result[key] = known[text] if event.implicit[0] and text in known else self._scalar(event)
            else:
                result[key] = self._value(event)

    def _new_key(self, event: Any) -> str:
        """A plain key that was not met before."""
        text: str = event.value
        if text == "<<":
            return _MERGE
        value = scalars.plain(text)
        key = scalars.key(value)
        if key is None:
            raise YamlError(
                "null is no key" if value is None else "a number beyond 64 bits is no key",
                _line(event),
                hint="Put the key in quotes if it is meant as text.",
            )
        _remember(self._keys, text, key)
        return key

    def _other_key(self, event: Any) -> str:
        """A key that is quoted, tagged, anchored or an alias."""
        value = self._value(event)
        if isinstance(value, dict | list):
            raise YamlError("a mapping or sequence is no key", _line(event))
        key = scalars.key(value)
        if key is None:
            raise YamlError("null is no key", _line(event), hint="Put the key in quotes if it is meant as text.")
        return key

    def _merge(self, event: Any, result: dict[str, Any], merged: set[str]) -> set[str]:
        """`<<: *defaults`. The keys that came by merging, which keys that follow may override."""
        parts = self._merge_list() if type(event) is SequenceStartEvent else [self._merge_part(event)]
        # The first of a list wins, so the last is merged first.
        for part in reversed(parts):
            for key, value in part.items():
                if key in result and key not in merged:
                    raise YamlError(
                        f"the key {_quoted(key)} stands before the merge key `<<` that also brings it",
                        _line(event),
                        hint="Put `<<` first: YAML lets the key win, Kubernetes' tools the merged value.",
                    )
                result[key] = value
                merged.add(key)
        return merged

    def _merge_list(self) -> list[dict[str, Any]]:
        parts = []
        while type(event := self._next()) is not SequenceEndEvent:
            parts.append(self._merge_part(event))
        return parts

    def _merge_part(self, event: Any) -> dict[str, Any]:
        kind = type(event)
        if kind is AliasEvent:
            anchor = self._alias(event)
            if anchor.is_mapping:
                part: dict[str, Any] = anchor.value
                return part
        elif kind is MappingStartEvent:
            mapping: dict[str, Any] = self._value(event)
            return mapping
        raise YamlError("only a mapping, or a list of mappings, can be merged with `<<`", _line(event))

    def _alias(self, event: Any) -> _Anchor:
        anchor = self._anchors.get(event.anchor)
        if anchor is None:
            raise YamlError(f"the alias *{_short(event.anchor)} names no anchor above it", _line(event))
        if not anchor.done:
            raise YamlError(f"the alias *{_short(event.anchor)} stands inside of what it names", _line(event))
        # Weighed when it is used, so that all weighing together is bounded by what may be expanded.
        anchor.weight = anchor.weight or _weigh(anchor.value, MAX_EXPANSION)
        self._expansion += anchor.weight
        if self._expansion > MAX_EXPANSION:
            raise YamlError(f"aliases expand to more than {MAX_EXPANSION >> 20} MiB", _line(event))
        return anchor

    def _scalar(self, event: Any) -> Scalar:
        if event.tag is not None:
            return _tagged(event)
        text: str = event.value
        if not event.implicit[0]:
            return text
        memo = self._plain
        if text in memo:
            return memo[text]
        value = scalars.plain(text)
        if not isinstance(value, str | bool | None):
            value = _json_number(value, event)
        _remember(memo, text, value)
        return value


def _remember(memo: dict[str, Any], text: str, value: Any) -> None:
    if len(memo) >= _MEMO_ENTRIES:
        memo.clear()
    memo[text] = value


def _json_number(value: float, event: Any) -> int | float:
    if not math.isfinite(value):
        raise YamlError(
            "JSON, and so Kubernetes, has no NaN and no infinity",
            _line(event),
            hint="Put the value in quotes if it is meant as text.",
        )
    return scalars.as_json(value)


def _tagged(event: Any) -> Scalar:
    """A scalar with an explicit tag, of which go-yaml knows seven; `!` alone asks for text."""
    tag, text = event.tag, event.value
    name = tag.removeprefix(_TAG) if tag.startswith(_TAG) else tag
    if name in {"str", "!"}:
        return str(text)
    value = scalars.plain(text)
    if name == "null" and value is None:
        return None
    if name == "bool" and isinstance(value, bool):
        return value
    if name == "int" and isinstance(value, int) and not isinstance(value, bool):
        return _json_number(value, event)
    if name == "float" and isinstance(value, int | float) and not isinstance(value, bool):
        return _json_number(float(value), event)
    if name == "timestamp" and _TIMESTAMP.fullmatch(text):
        return str(text)
    if name == "binary":
        return _binary(event)
    if name in {"null", "bool", "int", "float", "timestamp"}:
        raise YamlError(f"the value is not what its tag !!{name} says", _line(event))
    raise _unknown_tag(event)


def _binary(event: Any) -> str:
    try:
        return base64.b64decode(re.sub(r"[\r\n]", "", event.value), validate=True).decode()
    except (binascii.Error, ValueError):
        raise YamlError(
            "the value tagged !!binary is not Base64 of a text",
            _line(event),
            hint="Put Base64 in `data` without a tag.",
        ) from None


def _check_collection_tag(event: Any) -> None:
    if event.tag not in {f"{_TAG}map", f"{_TAG}seq", "!"}:
        raise _unknown_tag(event)


def _unknown_tag(event: Any) -> YamlError:
    tag = event.tag.replace(_TAG, "!!")
    return YamlError(
        f"the tag {_short(tag)} means nothing to Kubernetes",
        _line(event),
        hint="Remove the tag, or render the file first.",
    )


def _is_tagged_merge(event: Any) -> bool:
    return type(event) is ScalarEvent and event.tag == f"{_TAG}merge" and event.value == "<<"


def _own_weight(value: Any) -> int:
    return 1 + len(value) if isinstance(value, str) else 1


def _weigh(value: Any, limit: int) -> int:
    """Nodes and characters of a value with all its aliases written out, as far as `limit`."""
    weight, stack = 0, [value]
    while stack and weight <= limit:
        node = stack.pop()
        weight += _own_weight(node)
        if isinstance(node, dict):
            weight += sum(map(len, node))
            stack.extend(node.values())
        elif isinstance(node, list):
            stack.extend(node)
    return weight


def _line(event: Any) -> int:
    return int(event.start_mark.line) + 1


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:57]}..."


def _quoted(key: str) -> str:
    return f"`{_short(key)}`"


def _located(error: yaml.MarkedYAMLError, text: bytes) -> YamlError:
    problem = error.problem or ""
    # What is never closed is looked for where it begins, not at the end of the file.
    never_closed = error.context_mark is not None and "unexpected end of stream" in problem
    mark: Any = error.context_mark if never_closed else error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else 1
    if "cannot start any token" in problem and _line_text(text, line).lstrip(b" ").startswith(b"\t"):
        return YamlError("the line is indented with a tab", line, hint="Indent with spaces.")
    context = f"{error.context}, " if error.context else ""
    return YamlError(f"{context}{problem}", line, _hint(problem))


def _line_text(text: bytes, line: int) -> bytes:
    lines = text.split(b"\n", line)
    return lines[line - 1] if line <= len(lines) else b""


def _hint(problem: str) -> str:
    if "unexpected end of stream" in problem:
        return "Close the quote that begins on this line."
    return "Look at this line and the one before it: brackets, quotes, colons and the indentation."


def _unreadable(error: yaml.reader.ReaderError, text: bytes) -> tuple[str, int]:
    """The reader of libyaml gives a position in bytes and no line."""
    position = error.position if isinstance(error.position, int) else 0
    return f"not UTF-8 text that YAML allows ({error.reason})", text.count(b"\n", 0, position) + 1
