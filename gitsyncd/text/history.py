"""Which revision ran when, as people read it: a line for each, and below it what went wrong and which images moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from gitsyncd.text.images import made_from
from gitsyncd.text.layout import Column, Paint, Table, clean, flat, moment_of, short, wrapped

Item = Mapping[str, Any]
_HEADS = (
    Column("REVISION"),
    Column("ADMITTED"),
    Column("IN SYNC", leaves=1),
    Column("HEALTHY", leaves=2),
    Column("STATE"),
)
_STATE = 4
_COLOURS = {"healthy": "green", "in sync": "yellow", "failed": "red", "applied": "yellow", "admitted": "dim"}


def history_text(answer: Item, *, width: int | None, colours: bool) -> str:
    """The answer of `history`."""
    return "\n".join(_lines(answer["targets"], width, Paint(on=colours)))


def _lines(targets: Sequence[Item], width: int | None, paint: Paint) -> Iterator[str]:
    for number, target in enumerate(targets):
        if number:
            yield ""
        yield paint(clean(target["target"]), "bold")
        if target["damage"]:
            yield paint(f"  {flat(target['damage'])}: it begins anew", "yellow")
        revisions = target["revisions"]
        if not revisions:
            yield "  no revision has come to anything yet"
            continue
        rows = [_row(item) for item in revisions]
        table = Table(_HEADS, rows, width)
        yield table.head(paint)
        for place, (item, row) in enumerate(zip(revisions, rows, strict=True)):
            yield table.row(row, paint, {_STATE: _COLOURS[row[_STATE]]})
            older = revisions[place + 1] if place + 1 < len(revisions) else None
            for text, colour in _remarks(item, older):
                for line in wrapped(text, width, first="  ", rest="    "):
                    yield paint(line, colour)


def _row(item: Item) -> list[str]:
    return [
        short(item["revision"]),
        _clock(item["admitted"]),
        _clock(item["in_sync"]),
        _clock(item["healthy"]),
        _state(item),
    ]


def _state(item: Item) -> str:
    if item["failed"]:
        return "failed"
    if item["healthy"]:
        return "healthy"
    return "in sync" if item["in_sync"] else "applied" if item["applied"] else "admitted"


def _remarks(item: Item, older: Item | None) -> Iterator[tuple[str, str]]:
    if item["error"]:
        yield flat(item["error"]), "red"
    before = set(older["images"] or ()) if older else set()
    origins = {each["image"]: each for each in item["made_from"]}
    for image in item["images"] or ():
        if image not in before:
            made = f", made from {made_from(origins[image])}" if image in origins else ""
            yield f"image {clean(image)}{made}", "dim"


def _clock(text: str | None) -> str:
    """To the second, in UTC: what is compared with the logs of others."""
    moment: datetime | None = moment_of(text)
    return moment.strftime("%Y-%m-%d %H:%M:%SZ") if moment is not None else ""
