"""From samples to a verdict."""

import json
from pathlib import Path

import pytest

from tests.bench.table import Row, markdown, percentile, save, text


def row(**facts: object) -> Row:
    defaults = {"name": "first-apply", "what": "exec to applied", "unit": "s", "ours": 3.9, "floor": 3.0}
    return Row(**{**defaults, "floor_is": "bare client", **facts})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("facts", "ok"),
    [
        ({"ours": 3.9, "floor": 3.0, "at_most": 1.3}, True),
        ({"ours": 3.91, "floor": 3.0, "at_most": 1.3}, False),
        ({"ours": 2.0, "floor": 1.0, "at_least": 2.0}, True),
        ({"ours": 1.99, "floor": 1.0, "at_least": 2.0}, False),
        ({"ours": 80.0, "floor": None, "at_most": 80, "absolute": True}, True),
        ({"ours": 80.1, "floor": None, "at_most": 80, "absolute": True}, False),
        ({"ours": 0.0, "floor": None, "at_most": 0, "absolute": True}, True),
        ({"ours": 0.1, "floor": None, "at_most": 0, "absolute": True}, False),
    ],
)
def test_a_bound_holds_up_to_its_limit_and_not_beyond(facts: dict[str, object], ok: bool) -> None:
    assert row(**facts).ok is ok


def test_a_bound_on_a_ratio_without_a_floor_is_a_mistake_of_the_bench() -> None:
    with pytest.raises(ValueError, match="first-apply: a bound on a ratio needs a floor"):
        _ = row(floor=None, at_most=1.3).ok


def test_a_percentile_is_a_value_that_was_measured() -> None:
    samples = [float(number) for number in range(200, 0, -1)]

    assert [percentile(samples, percent) for percent in (1, 50, 99, 100)] == [2.0, 100.0, 198.0, 200.0]
    assert percentile([7.0], 50) == 7.0


def test_no_samples_are_not_taken_for_a_good_figure() -> None:
    with pytest.raises(ValueError, match="no samples"):
        percentile([], 50)


def test_the_table_says_what_was_broken() -> None:
    rows = [row(at_most=1.3), row(name="memory-rest", unit="MB", ours=81, floor=None, at_most=80, absolute=True)]

    lines = text(rows).splitlines()

    assert [line.split()[-1] for line in lines[1:]] == ["ok", "BROKEN"]
    assert "<= 1.3 x" in lines[1]
    assert "<= 80 MB" in lines[2]


def test_results_are_kept_for_programs_and_for_people(tmp_path: Path) -> None:
    rows = [row(at_most=1.3, samples={"ours": [3.9], "floor": [3.0]})]

    save(rows, {"machine": "2 cores"}, tmp_path / "results")

    kept = json.loads((tmp_path / "results/results.json").read_text())
    assert kept["facts"] == {"machine": "2 cores"}
    assert [(r["name"], r["ok"], r["samples"]["ours"]) for r in kept["rows"]] == [("first-apply", True, [3.9])]
    assert (tmp_path / "results/results.md").read_text() == markdown(rows, {"machine": "2 cores"})
