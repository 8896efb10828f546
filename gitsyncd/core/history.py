"""How the history of a target grows, what is kept of it, and which revisions were good.

Pure: what has happened is told by the caller, with its moment. Where a history is kept is the business of an edge.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from gitsyncd.model.history import History, Passage
from gitsyncd.model.manifest import Manifest
from gitsyncd.model.units import rfc3339

MOST: Final = 50
"""Revisions that are kept."""
MOST_BYTES: Final = 128 << 10
"""Of the text: a quarter of what one object may have (etcd's limit is 1.5 MiB), and quick to write."""
_IDENTITY_DIGITS: Final = 32
_ERROR_CHARS: Final = 500
_MOMENTS: Final = ("admitted", "applied", "in_sync", "healthy", "failed")


def identity(manifests: Iterable[Manifest]) -> str:
    """The same for the same objects, whatever files they come from."""
    lines = sorted(f"{manifest.id} {manifest.digest}" for manifest in manifests)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:_IDENTITY_DIGITS]


# --- Growing ---------------------------------------------------------------------------------------------------------
def begun(history: History, revision: str, content: str, *, admitted: datetime, applied: datetime | None) -> History:
    """This revision is the present one.

    Nothing changes when it was already, but for `applied`: nor where it wants the same, as after a commit that touches
    other targets or comments alone. A thousand of those must not cost a thousand writes.
    """
    latest = history.passages[0] if history.passages else None
    if latest is not None and (latest.revision == revision or (content and latest.content == content)):
        if latest.applied is None and applied is not None:
            return _with_latest(history, replace(latest, applied=applied))
        return history
    new = Passage(revision=revision, content=content, admitted=admitted, applied=applied)
    return replace(history, passages=(new, *history.passages)[:MOST])


def synced(history: History, now: datetime, images: Sequence[str]) -> History:
    """The present revision is in sync."""
    latest = history.passages[0]
    if latest.in_sync is not None:
        return history
    return _with_latest(history, replace(latest, in_sync=now, images=tuple(images)))


def became_healthy(history: History, now: datetime) -> History:
    """Everything of the present revision is as it should be: what failed on the way there is over."""
    latest = history.passages[0]
    if latest.healthy is not None:
        return history
    return _with_latest(history, replace(latest, healthy=now, failed=None, error=""))


def failed(history: History, now: datetime, error: str) -> History:
    """Something of the present revision failed. What comes after it was healthy once is no fault of the revision."""
    latest = history.passages[0]
    error = error[:_ERROR_CHARS]
    if latest.healthy is not None or (latest.failed is not None and latest.error == error):
        return history
    return _with_latest(history, replace(latest, failed=latest.failed or now, error=error))


def _with_latest(history: History, latest: Passage) -> History:
    return replace(history, passages=(latest, *history.passages[1:]))


# --- Asking ----------------------------------------------------------------------------------------------------------
def good_ones(history: History, content: str) -> list[Passage]:
    """The revisions that were in sync and healthy, with other content than this; the newest first."""
    return [passage for passage in history.passages if passage.is_good and passage.content != content]


# --- Text ------------------------------------------------------------------------------------------------------------
def written(history: History) -> str:
    """As it is kept: JSON that people can read. What is too much is left out, images first, the oldest first."""
    rows = [_row(passage) for passage in history.passages[:MOST]]
    sizes = [len(json.dumps(row, ensure_ascii=False).encode()) + 2 for row in rows]
    for number in reversed(range(len(rows))):
        if sum(sizes) <= MOST_BYTES:
            break
        rows[number].pop("images", None)
        sizes[number] = len(json.dumps(rows[number], ensure_ascii=False).encode()) + 2
    while rows and sum(sizes) > MOST_BYTES:
        rows.pop()
        sizes.pop()
    return json.dumps(rows, ensure_ascii=False)


def _row(passage: Passage) -> dict[str, Any]:
    row: dict[str, Any] = {"revision": passage.revision}
    if passage.content:
        row["content"] = passage.content
    row |= {key: rfc3339(moment) for key in _MOMENTS if (moment := getattr(passage, key)) is not None}
    if passage.error:
        row["error"] = passage.error
    if passage.images is not None:
        row["images"] = list(passage.images)
    return row


def read(text: str) -> History:
    """What is kept. Text that is none of ours gives an empty history that says so."""
    try:
        rows: Any = json.loads(text)
        return History(passages=tuple(_passage(row) for row in rows[:MOST]))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return History(damage="what was kept in the cluster cannot be read")


def _passage(row: Mapping[str, Any]) -> Passage:
    images, error, content, revision = row.get("images"), row.get("error", ""), row.get("content", ""), row["revision"]
    if not all(isinstance(text, str) for text in (revision, error, content)):
        raise TypeError
    moments = {key: _moment(row[key]) for key in _MOMENTS if key in row}
    return Passage(
        revision=revision,
        content=content,
        error=error,
        images=tuple(str(image) for image in images) if isinstance(images, list) else None,
        **moments,
    )


def _moment(text: Any) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("a moment without a time zone")
    return moment
