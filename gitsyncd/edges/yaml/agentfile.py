"""One small YAML file, written by people, as plain values with the line of each.

ruamel.yaml parses it by the rules of YAML 1.2, where `no` and `012` surprise nobody. Only its node graph is used:
values are made here, so that every doubled key is found, anchors cannot blow up, and no tag makes an object. Messages
never quote the file, because what is misplaced in it may be a password.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gitsyncd.model.immutable import immutable

KeyPath = tuple[str | int, ...]

MAX_VALUES = 200_000
"""After anchors are followed. A file for a thousand clusters has some 30,000."""
_TAG = "tag:yaml.org,2002:"
_PLAIN_TAGS = frozenset({_TAG + "map", _TAG + "seq"})
_TAGGED = ("has a tag, which means nothing here", "remove the word that begins with !")
_QUOTES = "put the value in quotes when it begins with one of { [ * & ! % @ ` or holds a colon and a space"


@immutable
class Problem:
    """Something that is not YAML, or not YAML that a settings file needs."""

    line: int
    path: KeyPath
    what: str
    fix: str = ""


@immutable
class Located:
    """What the file says and where: `lines` has the line of each key and list item, `()` that of the first one."""

    value: Any = None
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    fatal: bool = False
    """`value` is not there, because the file is not YAML."""


def read(text: str) -> Located:
    """All problems at once, as far as the parser gets. Never raises for what the text says."""
    yaml = YAML(typ="safe", pure=True)
    # The warning would print lines of the file. The last anchor of a name counts, as YAML says.
    yaml.composer.warn_double_anchors = False
    try:
        root = yaml.compose(text)
    except MarkedYAMLError as error:
        return Located(problems=(_syntax(error),), fatal=True)
    except YAMLError:
        return _unreadable("is not text that YAML allows", "remove control characters")
    except RecursionError:
        return _unreadable("is nested too deeply", "this is no agent file")
    except ValueError:
        # What ruamel lets through of the scanner's own conversions, such as %YAML 9999999999999.1
        return _unreadable("is not YAML", _QUOTES)
    reader = _Reader()
    try:
        value = None if root is None else reader.value(root, ())
    except RecursionError:
        return _unreadable("is nested too deeply", "this is no agent file")
    except _TooMuch:
        return _unreadable(f"holds more than {MAX_VALUES:,} values", "split it, or look for anchors inside anchors")
    return Located(value=value, lines=reader.lines, problems=tuple(reader.problems))


def _unreadable(what: str, fix: str) -> Located:
    return Located(problems=(Problem(line=0, path=(), what=what, fix=fix),), fatal=True)


def _syntax(error: MarkedYAMLError) -> Problem:
    mark = error.problem_mark or error.context_mark
    said = str(error.problem or error.context or "").partition("\n")[0]
    # The parser quotes what it found. Its own words for tokens and single characters stay, the file's words go.
    said = re.sub(r"\s*(?:'(?!<[a-z ]+>')[^']{2,}'|\"[^\"]{2,}\")", "", said)
    return Problem(
        line=mark.line + 1 if mark else 0, path=(), what=f"is not YAML: {said}" if said else "is not YAML", fix=_QUOTES
    )


class _TooMuch(Exception):
    """More values than a settings file has. Never leaves this module."""


class _Reader:
    """Nodes to plain values, with a record of lines and problems."""

    def __init__(self) -> None:
        self.lines: dict[KeyPath, int] = {}
        self.problems: list[Problem] = []
        self._open: set[int] = set()
        self._count = 0

    def value(self, node: Node, path: KeyPath, line: int = 0) -> Any:
        """`line` is that of the key, which for a block is the one before the value begins."""
        self._count += 1
        if self._count > MAX_VALUES:
            raise _TooMuch
        self.lines.setdefault(path, line or _line(node))
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if str(node.tag) not in _PLAIN_TAGS:
            self._problem(node, path, *_TAGGED)
        if id(node) in self._open:
            self._problem(node, path, "refers to itself", "write the value out")
            return None
        self._open.add(id(node))
        try:
            if isinstance(node, SequenceNode):
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._mapping(node, path) if isinstance(node, MappingNode) else None
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        merged: list[Node] = []
        for key_node, value_node in node.value:
            if isinstance(key_node, ScalarNode) and key_node.value == "<<" and not key_node.style:
                merged.append(value_node)
                continue
            key = self._key(key_node, path)
            if key is None:
                continue
            if key in result:
                first = self.lines[*path, key]
                self._problem(key_node, (*path, key), f"is written twice, first in line {first}", "keep one of them")
                continue
            result[key] = self.value(value_node, (*path, key), _line(key_node))
        for source in merged:
            for key, value in self._merge(source, path):
                result.setdefault(key, value)
        return result

    def _merge(self, node: Node, path: KeyPath) -> Iterator[tuple[str, Any]]:
        """What `<<: *anchor` brings along; keys that are written out win. Lines are those of the anchor."""
        sources = node.value if isinstance(node, SequenceNode) else [node]
        for source in sources:
            if isinstance(source, MappingNode):
                for key, value in self.value(source, (*path, "<<")).items():
                    self.lines.setdefault((*path, key), self.lines[*path, "<<", key])
                    yield key, value
                continue
            self._problem(source, path, "`<<` stands before something that is no map", "write `<<: *name-of-a-map`")

    def _key(self, node: Node, path: KeyPath) -> str | None:
        if isinstance(node, ScalarNode):
            return str(node.value)
        self._problem(node, path, "a key is a map or a list", _QUOTES)
        return None

    def _scalar(self, node: ScalarNode, path: KeyPath) -> Any:
        text = str(node.value)
        match str(node.tag).removeprefix(_TAG):
            case "str" | "timestamp" | "merge" | "value" | "binary":
                return text
            case "null":
                return None
            case "bool":
                # `yes` and `on` only where a %YAML 1.1 line asks for them.
                return text.lower() in {"true", "yes", "on"}
            case "int" | "float" as kind:
                return _number(text, kind)
        self._problem(node, path, *_TAGGED)
        return text

    def _problem(self, node: Node, path: KeyPath, what: str, fix: str) -> None:
        self.problems.append(Problem(line=_line(node), path=path, what=what, fix=fix))


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _number(text: str, kind: str) -> int | float | str:
    """A number as YAML 1.2 has it; text that only looks like one stays text and is refused by its field."""
    digits = text.replace("_", "")
    try:
        # Base 0 reads 0x1f and 0o17; it refuses 012, which YAML 1.2 reads as twelve.
        return (int(digits, 10 if digits.lstrip("+-").isdigit() else 0)) if kind == "int" else float(digits)
    except ValueError:
        return text
