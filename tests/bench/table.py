"""From samples to rows, from rows to a verdict, a table and a file. Nothing is measured here."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MARK = {True: "ok", False: "BROKEN"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One promise and what came of it. `value` is what the bound is held against: the ratio, or else `ours`."""

    name: str
    what: str
    unit: str
    ours: float
    floor: float | None = None
    floor_is: str = ""
    at_most: float | None = None
    at_least: float | None = None
    absolute: bool = False
    """The bound is on `ours` and not on the ratio."""
    samples: dict[str, list[float]] = field(default_factory=dict)
    note: str = ""

    @property
    def ratio(self) -> float | None:
        return None if self.floor is None or self.floor == 0 else self.ours / self.floor

    @property
    def value(self) -> float:
        if self.absolute:
            return self.ours
        if self.ratio is None:
            raise ValueError(f"{self.name}: a bound on a ratio needs a floor")
        return self.ratio

    @property
    def ok(self) -> bool:
        if self.at_most is not None and self.value > self.at_most:
            return False
        return self.at_least is None or self.value >= self.at_least

    @property
    def bound(self) -> str:
        """For people, such as `<= 1.3 x` or `<= 80 MB`."""
        if self.at_most is None and self.at_least is None:
            return ""
        sign, limit = ("<=", self.at_most) if self.at_most is not None else (">=", self.at_least)
        return f"{sign} {limit:g} {self.unit if self.absolute else 'x'}"


def median(samples: Sequence[float]) -> float:
    return statistics.median(samples)


def percentile(samples: Sequence[float], percent: float) -> float:
    """By nearest rank: a value that was measured. Raises ValueError without samples."""
    if not samples:
        raise ValueError("no samples")
    ranked = sorted(samples)
    return ranked[max(0, math.ceil(len(ranked) * percent / 100) - 1)]


def markdown(rows: Sequence[Row], facts: dict[str, Any]) -> str:
    """The facts of the run as a list, and the table."""
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    lines += ["", "| what | ours | floor | ratio | bound | |", "|---|---|---|---|---|---|"]
    for row in rows:
        floor = f"{_figure(row.floor)} {row.unit} ({row.floor_is})" if row.floor is not None else ""
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else ""
        lines.append(
            f"| {row.name}: {row.what} | {_figure(row.ours)} {row.unit} | {floor} | {ratio} | {row.bound} "
            f"| {MARK[row.ok]} |"
        )
    lines += [f"\n{row.name}: {row.note}" for row in rows if row.note]
    return "\n".join(lines) + "\n"


def text(rows: Sequence[Row]) -> str:
    """For a terminal: aligned columns."""
    header = ("what", "ours", "floor", "ratio", "bound", "")
    cells = [header] + [
        (
            f"{row.name}: {row.what}",
            f"{_figure(row.ours)} {row.unit}",
            f"{_figure(row.floor)} {row.unit}" if row.floor is not None else "",
            f"{row.ratio:.2f}" if row.ratio is not None else "",
            row.bound,
            MARK[row.ok],
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in {1, 2, 3} else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def save(rows: Sequence[Row], facts: dict[str, Any], folder: Path) -> None:
    """`results.json` with every sample, and `results.md`."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = [{**asdict(row), "ratio": row.ratio, "bound": row.bound, "ok": row.ok} for row in rows]
    (folder / "results.json").write_text(json.dumps({"facts": facts, "rows": shown}, indent=2) + "\n")
    (folder / "results.md").write_text(markdown(rows, facts))


def _figure(value: float) -> str:
    """Three digits that matter."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
