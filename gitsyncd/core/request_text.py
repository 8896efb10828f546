"""What a request to merge says: a title, and a table of what moves. In its Markdown no text of others means a thing."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from gitsyncd.core.tagging import summary
from gitsyncd.model.image import ImageChange
from gitsyncd.model.update import MergeRequest

_MOST_ROWS: Final = 100
_MOST_CHARS: Final = 200
"""Of one cell."""
_CODE: Final = re.compile(r"[^ -~]|[`|<>\\]")


def update_request(
    changes: Sequence[ImageChange], *, head: str, base: str, labels: Sequence[str], agent: str
) -> MergeRequest:
    """The rolling request of an update: everything that `head` changes on `base`."""
    rows = [
        f"| {_cell(change.file)} | {_cell(change.policy)} | {_cell(change.old)} | {_cell(change.new)} |"
        for change in changes[:_MOST_ROWS]
    ]
    left = len(changes) - _MOST_ROWS
    end = (
        f"Kept up to date by gitsyncd ({_cell(agent)}) as long as nobody else pushes to {_cell(head)}; what others "
        "push there stays."
    )
    lines = [
        "| File | Policy | Now | Then |",
        "| --- | --- | --- | --- |",
        *rows,
        *([f"\nand {left} more"] if left > 0 else []),
        "",
        end,
    ]
    return MergeRequest(head=head, base=base, title=summary(changes), body="\n".join(lines), labels=tuple(labels))


def rollback_request(
    *,
    target: str,
    end: str,
    reason: str,
    quarantined: Sequence[str],
    head: str,
    base: str,
    labels: Sequence[str],
) -> MergeRequest:
    """One that takes a target back."""
    listed = [f"- {_cell(image)}" for image in quarantined[:_MOST_ROWS]]
    lines = [
        f"Takes {_cell(target)} back to {_cell(end)}: {_cell(reason)}",
        *(["", "What does not come back:", *listed] if listed else []),
    ]
    title = f"Roll {target} back to {end[:12]}"
    return MergeRequest(head=head, base=base, title=title, body="\n".join(lines), labels=tuple(labels))


def _cell(text: str) -> str:
    """As code, in which neither markup nor a name after @ means anything; what could end the code is replaced."""
    shown = _CODE.sub("?", text)
    return f"`{shown[:_MOST_CHARS]}{'...' if len(shown) > _MOST_CHARS else ''}`"
