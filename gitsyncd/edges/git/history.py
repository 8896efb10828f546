"""Commits: the facts of one, and who descends from whom. Works on an open store; blocking."""

from __future__ import annotations

import heapq
import re
from collections.abc import Collection

from gitsyncd.edges.git.format import COMMIT, Commit, is_id, parse_commit
from gitsyncd.edges.git.store import ObjectMissing, ObjectStore
from gitsyncd.model.errors import RevisionNotFound

_TRAILER = re.compile(r"([A-Za-z0-9-]+)[ \t]*:[ \t]*(.*)")


def approvals(message: str) -> tuple[str, ...]:
    """Values of `Gitsyncd-Approve` trailers."""
    return trailers(message, "Gitsyncd-Approve")


def trailers(message: str, name: str) -> tuple[str, ...]:
    """Values of trailers of this name: lines `name: value` in the last paragraph, which holds nothing else.

    The rule is that of git-interpret-trailers without its exceptions; the subject is never a trailer.
    """
    paragraphs = [part for part in re.split(r"\n[ \t]*\n", message.replace("\r\n", "\n").strip()) if part.strip()]
    if len(paragraphs) < 2:
        return ()
    values: list[str] = []
    for line in paragraphs[-1].split("\n"):
        if line[:1] in {" ", "\t"} or line.startswith("(cherry picked from commit "):
            continue
        match = _TRAILER.fullmatch(line)
        if not match:
            return ()
        if match[1].lower() == name.lower():
            values.append(match[2].strip())
    return tuple(values)


def with_trailer(message: str, name: str, value: str) -> str:
    """The message with one more trailer, at the end of those that it has."""
    text = message.rstrip("\n")
    last = text.rpartition("\n\n")[2].split("\n") if "\n\n" in text else [""]
    between = "\n" if all(_TRAILER.fullmatch(line) for line in last) else "\n\n"
    return f"{text}{between}{name}: {value}\n"


_FEWEST_DIGITS = 7


def whole_id(store: ObjectStore, commit: str) -> str:
    """The id of the one commit that begins so: seven digits at least. What names none is given back as it is.

    Raises `RevisionNotFound` where several commits begin so, `MirrorDamaged`.
    """
    if is_id(commit) or not re.fullmatch(rf"[0-9a-f]{{{_FEWEST_DIGITS},39}}", commit):
        return commit
    found = [name for name in sorted(store.beginning(commit)) if store.find(name)[0] == COMMIT]
    if len(found) > 1:
        raise RevisionNotFound(f"several commits begin with {commit}: {', '.join(found)}", hint="Write more digits.")
    return found[0] if found else commit


def read_commit(store: ObjectStore, commit: str) -> Commit:
    """Raises `RevisionNotFound` when the mirror does not have it, `MirrorDamaged`."""
    if not is_id(commit):
        raise RevisionNotFound(f"{commit!r} is not the id of a commit")
    try:
        kind, content = store.find(commit)
    except ObjectMissing as error:
        raise RevisionNotFound(
            f"commit {commit} is not in the mirror", hint="Check that it is on a branch that a source follows."
        ) from error
    if kind != COMMIT:
        raise RevisionNotFound(f"{commit} is not a commit")
    return _parsed(commit, content)


def _parsed(commit: str, content: bytes) -> Commit:
    try:
        return parse_commit(content)
    except ValueError as error:
        # Its bytes are those that the id names, so this is how it was made.
        raise RevisionNotFound(f"commit {commit} cannot be read: {error}") from error


def descends(store: ObjectStore, commit: str, ancestor: str) -> bool:
    """Whether `ancestor` is `commit` or one of its ancestors. False when the mirror does not know `ancestor`.

    Newer commits are looked at first, since an ancestor is mostly near; clocks may be wrong, so a date never ends the
    walk. The answer "no" takes a look at the whole history. Raises `RevisionNotFound` for an unknown `commit`.
    """
    first = read_commit(store, commit)
    if commit == ancestor:
        return True
    if ancestor not in store:
        store.check_indexes(again=True)
        return False
    seen = {bytes.fromhex(commit)}
    queue = [(-first.committed_at.timestamp(), commit, first.parents)]
    while queue:
        _, _, parents = heapq.heappop(queue)
        for parent in parents:
            if parent == ancestor:
                return True
            key = bytes.fromhex(parent)
            if key in seen:
                continue
            seen.add(key)
            found = _parsed(parent, store.get(parent, COMMIT))
            heapq.heappush(queue, (-found.committed_at.timestamp(), parent, found.parents))
    return False


def beyond(store: ObjectStore, commit: str, since: str) -> list[tuple[str, tuple[str, ...]]]:
    """Commits that `commit` has and `since` has not, each with its parents; the newest first, by their own clocks.

    Clocks may be wrong, so all of the history of `since` is looked at. Nothing is left out where the mirror does not
    know `since`. Raises `RevisionNotFound` for an unknown `commit`.
    """
    shared = {name for _, name, _ in _reached(store, since, frozenset())} if since in store else set()
    own = sorted(_reached(store, commit, shared), key=lambda each: -each[0])
    return [(name, parents) for _, name, parents in own]


def _reached(store: ObjectStore, commit: str, without: Collection[str]) -> list[tuple[float, str, tuple[str, ...]]]:
    """A commit and its ancestors, with time and parents; nothing of those in `without`."""
    found, seen, queue = [], {commit, *without}, [commit] if commit not in without else []
    while queue:
        name = queue.pop()
        read = read_commit(store, name)
        found.append((read.committed_at.timestamp(), name, read.parents))
        queue += (new := [parent for parent in read.parents if parent not in seen])
        seen.update(new)
    return found


def recent(store: ObjectStore, heads: list[str], limit: int) -> list[str]:
    """The newest commits of these heads that the mirror has, for a server to find a common one. At most `limit`."""
    queue: list[tuple[float, str, tuple[str, ...]]] = []
    seen: set[str] = set()

    def push(commit: str) -> None:
        if commit in seen:
            return
        seen.add(commit)
        try:
            found = read_commit(store, commit)
        except RevisionNotFound:
            return  # a head that was written and whose objects are gone: no common ground
        heapq.heappush(queue, (-found.committed_at.timestamp(), commit, found.parents))

    for head in heads:
        push(head)
    newest: list[str] = []
    while queue and len(newest) < limit:
        _, commit, parents = heapq.heappop(queue)
        newest.append(commit)
        for parent in parents:
            push(parent)
    return newest
