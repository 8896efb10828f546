"""The file in a repository that says what must not come back: read strictly, and added to with every byte of it kept.

People write it by hand, so every value is the text that stands there (`tag: 1.10` is no number), and what would be
passed over without a word is an error. What is added is lines of their own; the file is read again afterwards, and must
say what it said and the new entries.

Here: the format. Not here: what is quarantined (`core`), and when.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    Event,
    MappingStartEvent,
    ScalarEvent,
    SequenceStartEvent,
)

from gitsyncd.core.reference import image_name, is_digest, is_tag
from gitsyncd.edges.yaml import scalars
from gitsyncd.edges.yaml.events import decoded, line_of, parsed, place
from gitsyncd.edges.yaml.loader import YamlError
from gitsyncd.model.image import Quarantine, Quarantined, QuarantinedCommit
from gitsyncd.model.immutable import immutable
from gitsyncd.model.printable import printable, without_surrogates

MAX_BYTES: Final = 1 << 20

HEADER: Final = """\
# What must not come back to this repository's clusters. gitsyncd reads this file, and `gitsyncd rollback` adds to it.
#
# images: tags and digests that are never selected again.   commits: commits that are never applied again.
# Edit it as any other file. Remove an entry to let it come back.
"""

KEYS: Final[Mapping[str, tuple[str, ...]]] = {
    "images": ("image", "tag", "digest", "reason", "since", "commit"),
    "commits": ("commit", "reason", "since"),
}
"""What each list holds, in the order in which it is written."""

_MAX_DEPTH: Final = 4
_INDENT: Final = 2
_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})
_COMMIT: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}", re.IGNORECASE)
_SINCE: Final = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:\d\d))?", re.ASCII)
_PLAIN: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._:/@+-]*[A-Za-z0-9])?")
_BREAK: Final = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
_COMMENT_LINE: Final = re.compile(r"( *)#[^\n\r\x85\u2028\u2029]*(?:\r\n|[\n\r\x85\u2028\u2029]|\Z)")

Entry = Quarantined | QuarantinedCommit
_Fields = Sequence[tuple[str, str]]
"""Key and value of each, as they are written."""


def read(text: bytes) -> Quarantine:
    """Raises `YamlError`: it is no such file. An empty one, and one of comments alone, quarantines nothing."""
    return _quarantine(_tree(_content(text)))


def with_entries(
    text: bytes, *, images: Sequence[Quarantined] = (), commits: Sequence[QuarantinedCommit] = ()
) -> bytes:
    """The file with these entries behind those that it has; empty `text` where there is no file yet.

    What is in it already is not added again, so that this may be repeated. Raises `YamlError`: the file cannot be read,
    an entry cannot be written, or nothing can be added to a file of such a layout.
    """
    content = _content(text) or HEADER
    content = _with_list(content, "images", images)
    return _with_list(content, "commits", commits).encode()


# --- Reading ---------------------------------------------------------------------------------------------------------
@immutable(kw_only=False)
class _Node:
    """A scalar, a list or a map, and where it stands: `end` is that of the last thing in it."""

    event: Event
    start: int
    end: int
    column: int
    items: Sequence[_Node] = ()
    pairs: Sequence[tuple[_Node, _Node]] = ()

    @property
    def line(self) -> int:
        return line_of(self.event)

    @property
    def text(self) -> str | None:
        """None for a list or a map."""
        return self.event.value if isinstance(self.event, ScalarEvent) else None

    @property
    def is_null(self) -> bool:
        return isinstance(self.event, ScalarEvent) and self.event.implicit[0] and self.event.value in _NULL

    @property
    def is_flow(self) -> bool:
        """Written with brackets."""
        return bool(getattr(self.event, "flow_style", False))

    def pair(self, key: str) -> tuple[_Node, _Node] | None:
        return next((pair for pair in self.pairs if pair[0].text == key), None)


def _content(text: bytes) -> str:
    if len(text) > MAX_BYTES:
        raise YamlError(f"the file has {len(text):,} bytes; at most {MAX_BYTES:,} are read", 1, "Remove old entries.")
    return decoded(text)


def _tree(content: str) -> _Node | None:
    """None for a text without a document."""
    stream = parsed(content)
    next(stream)
    if not isinstance(next(stream), DocumentStartEvent):
        return None
    root = _node(content, stream, next(stream), 0)
    next(stream)
    if isinstance(event := next(stream), DocumentStartEvent):
        raise YamlError("a second document begins here", line_of(event), "Keep one: the file has no use for `---`.")
    return root


def _node(content: str, stream: Iterator[Event], event: Event, depth: int) -> _Node:
    if isinstance(event, AliasEvent) or getattr(event, "anchor", None) or getattr(event, "tag", None):
        raise YamlError("anchors, aliases and tags mean nothing here", line_of(event), "Write the value out.")
    start, end = place(content, event)
    column = event.start_mark.column if event.start_mark else 0
    if isinstance(event, ScalarEvent):
        return _Node(event, start, end, column)
    if depth >= _MAX_DEPTH:
        raise YamlError("a list or a map stands where text belongs", line_of(event), _form("images"))
    children = []
    while not isinstance(following := next(stream), CollectionEndEvent):
        children.append(_node(content, stream, following, depth + 1))
    if getattr(event, "flow_style", False):
        end = place(content, following)[1]
    elif children:
        end = children[-1].end
    if isinstance(event, MappingStartEvent):
        pairs = list(zip(children[::2], children[1::2], strict=True))
        return _Node(event, start, end, column, pairs=pairs)
    return _Node(event, start, end, column, items=children)


def _quarantine(root: _Node | None) -> Quarantine:
    if root is None or root.is_null:
        return Quarantine()
    lists = _map(root, tuple(KEYS), "the file", "Write `images:` and `commits:`, with a list below each.")
    images = [_image(node) for node in _items(lists.get("images"), "images")]
    commits = [_commit(node) for node in _items(lists.get("commits"), "commits")]
    return Quarantine(images=tuple(images), commits=tuple(commits))


def _items(node: _Node | None, key: str) -> Sequence[_Node]:
    if node is None or node.is_null:
        return ()
    if not isinstance(node.event, SequenceStartEvent):
        raise YamlError(f"`{key}` is no list", node.line, _form(key))
    return node.items


def _image(node: _Node) -> Quarantined:
    entry = _map(node, KEYS["images"], "an entry of `images`", _form("images"))
    image, tag, digest = (_text(entry, key) for key in ("image", "tag", "digest"))
    if not image:
        raise YamlError("an entry of `images` names no image", node.line, _form("images"))
    try:
        image_name(image)
    except ValueError as error:
        hint = "Write the name alone, with the tag under `tag` and the digest under `digest`."
        raise YamlError(f"`image`: {error}", entry["image"].line, hint) from None
    if not tag and not digest:
        raise YamlError("an entry of `images` has neither `tag` nor `digest`", node.line, _form("images"))
    if tag and not is_tag(tag):
        raise YamlError("`tag` is no tag", entry["tag"].line, "Write what stands behind the colon of the reference.")
    if digest and not is_digest(digest):
        raise YamlError("`digest` is none", entry["digest"].line, "Write sha256: and 64 digits, 0-9 and a-f.")
    return Quarantined(
        image=image,
        tag=tag,
        digest=digest,
        reason=_text(entry, "reason"),
        since=_since(entry),
        commit=_commit_id(entry),
    )


def _commit(node: _Node) -> QuarantinedCommit:
    entry = _map(node, KEYS["commits"], "an entry of `commits`", _form("commits"))
    commit = _commit_id(entry)
    if not commit:
        raise YamlError("an entry of `commits` names no commit", node.line, _form("commits"))
    return QuarantinedCommit(commit=commit, reason=_text(entry, "reason"), since=_since(entry))


def _map(node: _Node, keys: Sequence[str], what: str, form: str) -> dict[str, _Node]:
    if not isinstance(node.event, MappingStartEvent):
        raise YamlError(f"{what} is no map", node.line, form)
    found: dict[str, _Node] = {}
    for key, value in node.pairs:
        if key.text is None or key.text not in keys:
            name = f"`{printable((key.text or '')[:40])}`"
            raise YamlError(f"{what} has a key {name}, which means nothing", key.line, f"Keys are {', '.join(keys)}.")
        if key.text in found:
            raise YamlError(f"`{key.text}` is written twice", key.line, "Keep one of them.")
        found[key.text] = value
    return found


def _text(entry: Mapping[str, _Node], key: str) -> str:
    """What is written there, without spaces around it; empty for nothing."""
    node = entry.get(key)
    if node is None or node.is_null:
        return ""
    if node.text is None:
        raise YamlError(f"`{key}` is no text", node.line, "Write it as one word, or in quotes.")
    return node.text.strip()


def _commit_id(entry: Mapping[str, _Node]) -> str:
    commit = _text(entry, "commit")
    if commit and not _COMMIT.fullmatch(commit):
        raise YamlError("`commit` is no commit", entry["commit"].line, "Write all of its 40 digits, 0-9 and a-f.")
    return commit.lower()


def _since(entry: Mapping[str, _Node]) -> str:
    since = _text(entry, "since")
    if since and not _is_moment(since):
        hint = "Write a day, 2026-03-31, or a moment with its zone, 2026-03-31T09:00:00Z."
        raise YamlError("`since` is no date", entry["since"].line, hint)
    return since


def _is_moment(text: str) -> bool:
    if not _SINCE.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _form(key: str) -> str:
    first = "- image: NAME, and below it tag: TAG or digest: DIGEST" if key == "images" else "- commit: COMMIT"
    return f"Write {first}; further keys are {', '.join(KEYS[key])}."


# --- Adding ----------------------------------------------------------------------------------------------------------
def _with_list(content: str, key: str, entries: Sequence[Entry]) -> str:
    root = _tree(content)
    has = _quarantine(root)
    new = _missing(getattr(has, key), _as_read(key, entries))
    if not new:
        return content
    wanted = replace(has, **{key: (*getattr(has, key), *new)})
    for after in _layouts(content, root, key, [_fields(key, entry) for entry in new]):
        if _says(after, wanted):
            return after
    line = 1 if root is None else root.line
    raise YamlError("no entry can be added to a file of this layout", line, f"Write `{key}:` in a line of its own.")


def _as_read(key: str, entries: Sequence[Entry]) -> Sequence[Entry]:
    """What these entries will be when they are read."""
    text = _section(key, [_fields(key, entry) for entry in entries], 0)
    try:
        found: Sequence[Entry] = getattr(_quarantine(_tree("\n".join(text))), key)
    except YamlError as error:
        raise YamlError(f"the new entry cannot be written: {error.message}", 1, error.hint) from None
    return found


def _missing(old: Sequence[Entry], new: Sequence[Entry]) -> list[Entry]:
    seen = {_identity(entry) for entry in old}
    found = []
    for entry in new:
        if _identity(entry) not in seen:
            seen.add(_identity(entry))
            found.append(entry)
    return found


def _identity(entry: Entry) -> tuple[str, ...]:
    return (entry.image, entry.tag, entry.digest) if isinstance(entry, Quarantined) else (entry.commit,)


def _says(content: str, wanted: Quarantine) -> bool:
    try:
        return _quarantine(_tree(content)) == wanted
    except YamlError:
        return False


def _layouts(content: str, root: _Node | None, key: str, entries: Sequence[_Fields]) -> Iterator[str]:
    """Texts that could be the file with the entries. All that is ever taken away is `~`, `null` or `[]`."""
    if root is None:
        yield from _with_lines(content, len(content), _section(key, entries, 0), 0)
    elif root.is_null:
        yield from _with_lines(*_cut(content, root), _section(key, entries, 0), 0)
    elif root.is_flow:
        yield from _in_brackets(content, root, key, entries)
    elif (pair := root.pair(key)) is None:
        yield from _with_lines(content, root.end, _section(key, entries, root.column), root.column)
    elif pair[1].is_null or re.fullmatch(r"\[ *\]", content[pair[1].start : pair[1].end]):
        column = pair[0].column + _INDENT
        yield from _with_lines(*_cut(content, pair[1]), _list(entries, column), pair[0].column)
    elif pair[1].is_flow:
        yield _behind_last(content, pair[1], entries)
    else:
        yield from _with_lines(content, pair[1].end, _list(entries, pair[1].column), pair[1].column)


def _cut(content: str, node: _Node) -> tuple[str, int]:
    """The text without this, and where it was."""
    head, tail = content[: node.start], content[node.end :]
    if not tail or _BREAK.match(tail):
        head = head.rstrip(" ")
    return head + tail, len(head)


def _with_lines(content: str, at: int, lines: Sequence[str], column: int) -> Iterator[str]:
    """With lines behind that of the place, at best behind comments that are indented further and so belong to it."""
    start = at
    if at and not _BREAK.fullmatch(content[at - 1]):
        found = _BREAK.search(content, at)
        start = found.end() if found else len(content)
    behind = start
    while (comment := _COMMENT_LINE.match(content, behind)) and len(comment[1]) > column and comment.end() > behind:
        behind = comment.end()
    end = found[0] if (found := re.search(r"\r\n|\n|\r", content)) else "\n"
    added = "".join(line + end for line in lines)
    for place_of in dict.fromkeys((behind, start)):
        head = content[:place_of]
        if head and not _BREAK.fullmatch(head[-1]):
            head += end
        yield head + added + content[place_of:]


def _in_brackets(content: str, root: _Node, key: str, entries: Sequence[_Fields]) -> Iterator[str]:
    """With the entries in a map that is written with brackets."""
    pair = root.pair(key)
    if pair is None:
        rest = ", " if root.pairs else ""
        yield f"{content[: root.start + 1]}{key}: [{_flow(entries)}]{rest}{content[root.start + 1 :]}"
    elif pair[1].is_null:
        for colon in (" ", ": "):
            yield f"{content[: pair[1].start]}{colon}[{_flow(entries)}]{content[pair[1].end :]}"
    else:
        yield _behind_last(content, pair[1], entries)


def _behind_last(content: str, node: _Node, entries: Sequence[_Fields]) -> str:
    """With the entries in a list that is written with brackets."""
    at = node.items[-1].end if node.items else node.start + 1
    return f"{content[:at]}{', ' if node.items else ''}{_flow(entries)}{content[at:]}"


# --- Writing ---------------------------------------------------------------------------------------------------------
def _fields(key: str, entry: Entry) -> _Fields:
    return [(name, _scalar(value)) for name in KEYS[key] if (value := without_surrogates(getattr(entry, name)))]


def _section(key: str, entries: Sequence[_Fields], column: int) -> list[str]:
    return [f"{' ' * column}{key}:", *_list(entries, column + _INDENT)]


def _list(entries: Sequence[_Fields], column: int) -> list[str]:
    lines = []
    for fields in entries:
        for number, (name, value) in enumerate(fields):
            lines.append(f"{' ' * column}{'  ' if number else '- '}{name}: {value}")
    return lines


def _flow(entries: Sequence[_Fields]) -> str:
    return ", ".join("{" + ", ".join(f"{name}: {value}" for name, value in fields) + "}" for fields in entries)


def _scalar(value: str) -> str:
    """One line, which is text to every reader of YAML."""
    if _PLAIN.fullmatch(value) and scalars.plain(value) == value:
        return value
    return '"' + "".join(_in_quotes(letter) for letter in value) + '"'


def _in_quotes(letter: str) -> str:
    if letter in {'"', "\\"}:
        return "\\" + letter
    # Python's escapes are YAML's.
    return letter if letter.isprintable() else ascii(letter)[1:-1]
