"""A file of a repository to the objects it declares: which documents count, lists unfolded, identities checked.

Follows what `kubectl` reads from a file: a file that begins with `{` is tried as JSON, all else is YAML cut at lines
that begin with `---`. Where kubectl would drop something without a word (doubled keys, a second document after
`...`), this is an error. What a server thinks of an object is the server's business: only what planning needs is
checked.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import field
from typing import Any, Final

import orjson

from gitsyncd.edges.yaml import scalars
from gitsyncd.edges.yaml.loader import MAX_DEPTH, Loader, YamlError
from gitsyncd.model.immutable import immutable

MAX_FILE_BYTES: Final = 4 << 20
MAX_DOCUMENTS: Final = 10_000
"""Documents of one file, members of lists included."""

_SEPARATOR = re.compile(rb"^---[^\n]*(?:\n|\Z)", re.MULTILINE)
_SPACE = re.compile(r"[ \t\r\n]*")


@immutable
class Declared:
    """One object of a file. `line` is where its document begins, counted from 1."""

    line: int
    api_version: str
    kind: str
    namespace: str
    name: str
    body: bytes = field(repr=False)


class Reader:
    """Reads files. Keeps a loader, which knows what scalars mean from one file to the next."""

    def __init__(self) -> None:
        self._loader = Loader()

    def read(self, text: bytes) -> tuple[Declared, ...]:
        """All objects of one file, in order. Raises `YamlError`."""
        if len(text) > MAX_FILE_BYTES:
            raise YamlError(f"the file has {len(text):,} bytes; at most {MAX_FILE_BYTES:,} are read", 1)
        found: list[Declared] = []
        for value, line in self._values(text):
            for item in _unfold(value, line):
                if len(found) >= MAX_DOCUMENTS:
                    raise _too_many(line)
                found.append(_declared(item, line))
        return tuple(found)

    def _values(self, text: bytes) -> Iterator[tuple[Any, int]]:
        text = _utf8(text)
        if text.lstrip()[:1] == b"{" and (documents := _json_documents(text)) is not None:
            yield from documents
            return
        for chunk, line in _chunks(text):
            value, first = self._load(chunk, line)
            if value is not None:
                yield value, line + first - 1

    def _load(self, chunk: bytes, line: int) -> tuple[Any, int]:
        try:
            return self._loader.load(chunk)
        except YamlError as error:
            error.line += line - 1
            raise


def _utf8(text: bytes) -> bytes:
    """The text without a byte order mark, which may also say that it is UTF-16 (what PowerShell writes)."""
    if text.startswith(codecs.BOM_UTF8):
        return text.removeprefix(codecs.BOM_UTF8)
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        try:
            return text.decode("utf-16").encode()
        except UnicodeError:
            raise YamlError("the file begins as UTF-16 and is none", 1, hint="Save it as UTF-8.") from None
    return text


def _chunks(text: bytes) -> Iterator[tuple[bytes, int]]:
    """The texts between separators, with the line at which each begins. Empty ones are left out."""
    if not text.startswith(b"---") and b"\n---" not in text:
        yield text, 1  # most files
        return
    start, line = 0, 1
    for separator in _SEPARATOR.finditer(text):
        chunk = text[start : separator.start()]
        if chunk.strip():
            yield chunk, line
        line += chunk.count(b"\n")
        rest = separator[0][3:].strip()
        if rest and not rest.startswith(b"#"):
            raise YamlError("only a comment may follow `---` on its line", line, hint="Begin it on the next line.")
        line += 1
        start = separator.end()
    if text[start:].strip():
        yield text[start:], line


def _unfold(value: Any, line: int) -> Iterator[Mapping[str, Any]]:
    """The object itself, or the members of a list. Members of a typed list may leave out what they are."""
    if not isinstance(value, dict):
        raise YamlError("a manifest is a mapping with apiVersion, kind and metadata", line)
    kind, items = value.get("kind"), value.get("items")
    if not (isinstance(kind, str) and kind.endswith("List") and "items" in value and isinstance(items, list | None)):
        yield value
        return
    member = {"apiVersion": value.get("apiVersion"), "kind": kind.removesuffix("List")}
    for item in items or ():
        if isinstance(item, dict) and member["kind"] and not item.get("kind") and not item.get("apiVersion"):
            yield from _unfold({**member, **item}, line)
        else:
            yield from _unfold(item, line)


def _declared(body: Mapping[str, Any], line: int) -> Declared:
    api_version = _text(body, "apiVersion", line)
    kind = _text(body, "kind", line)
    metadata = body.get("metadata")
    if not isinstance(metadata, dict):
        raise YamlError(f"this {kind} has no `metadata` mapping", line)
    if not metadata.get("name") and metadata.get("generateName"):
        raise YamlError(
            f"this {kind} has `generateName` and no `name`: it would be created anew at every turn",
            line,
            hint="Give it a `metadata.name`.",
        )
    name = _text(metadata, "name", line, what=f"this {kind}", key="metadata.name")
    namespace = metadata.get("namespace")
    if not isinstance(namespace, str | None):
        raise YamlError(f"`metadata.namespace` of {kind} {name} is not text", line, hint="Put it in quotes.")
    return Declared(
        line=line,
        api_version=api_version,
        kind=kind,
        namespace=namespace or "",
        name=name,
        body=_json(body, line),
    )


def _text(mapping: Mapping[str, Any], name: str, line: int, *, what: str = "this manifest", key: str = "") -> str:
    value = mapping.get(name)
    if isinstance(value, str) and value:
        return value
    if value is None or value == "":
        raise YamlError(f"{what} has no `{key or name}`", line)
    raise YamlError(f"`{key or name}` of {what} is not text", line, hint="Put it in quotes.")


def _json(body: Mapping[str, Any], line: int) -> bytes:
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:
        raise YamlError(f"the document cannot be written as JSON: {error}", line) from None


def _too_many(line: int) -> YamlError:
    return YamlError(f"more than {MAX_DOCUMENTS:,} objects in one file", line, hint="Split the file.")


class _Duplicate(ValueError):
    """A key that stands twice."""


def _json_documents(text: bytes) -> list[tuple[Any, int]] | None:
    """The objects of a JSON text, one after the other; None when it is none after all, and so YAML.

    Raises `YamlError` for what both readings refuse.
    """
    try:
        decoded = text.decode()
    except UnicodeDecodeError:
        return None
    documents: list[tuple[Any, int]] = []
    position, counted, line = _skip_space(decoded, 0), 0, 1
    while position < len(decoded):
        line += decoded.count("\n", counted, position)
        counted = position
        if len(documents) >= MAX_DOCUMENTS:
            raise _too_many(line)
        try:
            value, position = _DECODER.raw_decode(decoded, position)
        except _Duplicate as error:
            raise YamlError(str(error), line) from None
        except (ValueError, RecursionError):
            return None
        _check_depth(value, line)
        documents.append((value, line))
        position = _skip_space(decoded, position)
    return documents


def _skip_space(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        names = [key for key, _ in pairs]
        twice = next(key for number, key in enumerate(names) if key in names[:number])
        raise _Duplicate(f"the key `{twice[:60]}` stands twice in one object")
    return result


def _integer(text: str) -> float:
    # The length is checked first: int() of very long texts is slow.
    return scalars.as_json(int(text)) if len(text) <= 20 else _float(text)


def _float(text: str) -> float:
    value = float(text)
    if value in {float("inf"), float("-inf")}:
        raise ValueError(text)
    return scalars.as_json(value)


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _check_depth(value: Any, line: int) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [child for node in level for child in (node.values() if isinstance(node, dict) else node)]
        level = [child for child in level if isinstance(child, dict | list)]
        if not level:
            return
    raise YamlError(f"nested more than {MAX_DEPTH} deep", line)


_DECODER = json.JSONDecoder(
    object_pairs_hook=_pairs, parse_int=_integer, parse_float=_float, parse_constant=_no_constant
)
