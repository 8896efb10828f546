"""Image policies as people read them: what is selected, what is held and why, where it stands, what is wrong."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from gitsyncd.text.layout import Column, Paint, Table, age, clean, flat, wrapped

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
Item = Mapping[str, Any]
_STATES = {"failed": "red", "held": "yellow", "locked": "yellow", "unknown": "yellow", "selected": "green"}
_HEADS = (
    Column("POLICY"),
    Column("TAG"),
    Column("DIGEST", leaves=2),
    Column("SINCE", right=True),
    Column("STATE"),
    Column("IMAGE", leaves=1, shrinks=True),
)
_STATE = 4
_MOST_HELD = 5
_MOST_FILES = 5
_MOST_NAMED = 3
_DIGEST = 19
"""Characters of a digest: `sha256:` and twelve more, as container tools show it."""


def images_text(answer: Item, *, now: datetime, width: int | None, colours: bool) -> str:
    """The answer of `images`."""
    return "\n".join(_lines(answer, now, width, Paint(on=colours)))


def _lines(answer: Item, now: datetime, width: int | None, paint: Paint) -> Iterator[str]:
    policies = answer["policies"]
    if not policies:
        yield "no image policies: the agent file has none under images.policies"
        return
    rows = [_row(policy, now) for policy in policies]
    table = Table(_HEADS, rows, width)
    yield table.head(paint)
    for policy, row in zip(policies, rows, strict=True):
        yield table.row(row, paint, {_STATE: _STATES.get(policy["state"], "")})
        for text, colour in _remarks(policy, now):
            for line in wrapped(text, width, first="  ", rest="    "):
                yield paint(line, colour)
    for update in answer["updates"]:
        for text, colour in _update(update, now):
            for line in wrapped(text, width, first="", rest="  "):
                yield paint(line, colour)


def _row(policy: Item, now: datetime) -> list[str]:
    return [
        clean(policy["policy"]),
        clean(policy["tag"] or "-"),
        clean(policy["digest"] or "")[:_DIGEST],
        age(policy["since"], now),
        policy["state"],
        clean(policy["image"]),
    ]


def _remarks(policy: Item, now: datetime) -> Iterator[tuple[str, str]]:
    if policy["error"]:
        yield flat(policy["error"]), "red"
        if policy["hint"]:
            yield f"fix: {flat(policy['hint'])}", ""
    if policy["made_from"]:
        yield f"made from {made_from(policy['made_from'])}", "dim"
    if locked := policy["locked"]:
        end = f" for {age(locked['until'], now)} more" if locked["until"] else ""
        yield f"locked{end}: {flat(locked['reason'])}", "yellow"
        yield f"fix: When it may go on: gitsyncd images unlock {clean(policy['policy'])}", ""
    for held in policy["held"][:_MOST_HELD]:
        detail = f" ({flat(held['detail'])})" if held["detail"] else ""
        yield f"held {clean(held['tag'])}: {held['reason']}{detail}", "yellow"
    if len(policy["held"]) > _MOST_HELD:
        yield f"and {len(policy['held']) - _MOST_HELD} more held", "yellow"
    for place in policy["written"][:_MOST_FILES]:
        yield f"in {clean(place['file'])}:{place['line']}: {clean(place['value'])}", "dim"
    if len(policy["written"]) > _MOST_FILES:
        yield f"and at {len(policy['written']) - _MOST_FILES} more places", "dim"
    if not policy["written"] and policy["looked"]:
        mark = '# {"$imagepolicy": "' + clean(policy["policy"]) + '"}'
        yield f"in no file: write {mark} behind the scalar that it may change", "yellow"


def made_from(origin: Item) -> str:
    """The code of an image; of a commit, as many digits as people compare."""
    source, revision = clean(origin["source"]), clean(origin["revision"])
    if _COMMIT.fullmatch(revision):
        revision = revision[:8]
    return f"{source}@{revision}" if source and revision else source or revision


def _update(update: Item, now: datetime) -> Iterator[tuple[str, str]]:
    name = f"update {clean(update['update'])}"
    if update["error"]:
        yield f"{name}: {flat(update['error'])}", "red"
        if update["hint"]:
            yield f"  fix: {flat(update['hint'])}", ""
    elif update["commit"]:
        yield f"{name}: {clean(update['branch'])}@{update['commit'][:8]}, {age(update['committed'], now)} ago", "dim"
    if waits := update["waits_for"]:
        branch = clean(update["branch"])
        yield f"{name}: {branch} stays as it is until it is known what is wanted of {_named(waits)}", "yellow"
    for problem in update["problems"]:
        yield f"{name}: {clean(problem['file'])}:{problem['line']}: {flat(problem['error'])}", "red"
        if problem["hint"]:
            yield f"  fix: {flat(problem['hint'])}", ""


def _named(policies: list[str]) -> str:
    left = len(policies) - _MOST_NAMED
    return ", ".join(map(clean, policies[:_MOST_NAMED])) + (f" and {left} more" if left > 0 else "")
