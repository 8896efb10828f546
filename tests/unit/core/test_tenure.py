import pytest

from gitsyncd.core.tenure import DURATION_S, FORGET_S, Standing, free_in, gone, hear, heir, writes_until
from gitsyncd.model.lease import Candidate, Lease


def lease(holder: str = "other", *, duration_s: float = 15.0) -> Lease:
    return Lease(holder=holder, renewed="r1", duration_s=duration_s, resource_version="1")


@pytest.mark.parametrize(
    ("seen", "unchanged_s", "is_gone", "expected"),
    [
        pytest.param(None, 0, False, 0, id="nobody made one yet"),
        pytest.param(lease(""), 0, False, 0, id="it was released"),
        pytest.param(lease("me"), 0, False, 0, id="it was handed to us"),
        pytest.param(lease(), 0, False, 15, id="just seen for the first time, whatever its own times say"),
        pytest.param(lease(), 14, False, 1, id="unchanged for nearly its duration"),
        pytest.param(lease(), 15, False, 0, id="expired"),
        pytest.param(lease(duration_s=60), 15, False, 45, id="the holder's own duration counts"),
        pytest.param(lease(), 0, True, 0, id="the holder's process is over"),
    ],
)
def test_when_a_lease_may_be_taken(seen: Lease | None, unchanged_s: float, is_gone: bool, expected: float) -> None:
    assert free_in(seen, me="me", unchanged_s=unchanged_s, holder_is_gone=is_gone) == expected


def test_the_holder_stops_writing_before_anybody_else_can_have_seen_the_lease_expire() -> None:
    asked_at = 100.0
    others_saw_it_at = asked_at  # at the earliest: they cannot see a renewal before it was asked for

    assert writes_until(asked_at) < others_saw_it_at + DURATION_S


def standings(**holds: int) -> dict[str, Standing]:
    return {name: Standing(holds=count, beat=1, heard_at=0.0) for name, count in holds.items()}


def candidates(**holds: int) -> dict[str, Candidate]:
    return {name: Candidate(holds=count, beat=1) for name, count in holds.items()}


@pytest.mark.parametrize(
    ("mine", "others", "expected"),
    [
        pytest.param(4, {"b": 0}, "b", id="one has all and the other nothing"),
        pytest.param(2, {"b": 1}, "", id="as even as it can be"),
        pytest.param(1, {"b": 0}, "", id="the only cluster stays where it is"),
        pytest.param(3, {"b": 1, "c": 0}, "c", id="the one with the fewest comes first"),
        pytest.param(2, {"b": 0, "c": 0}, "b", id="by name among equals"),
        pytest.param(0, {}, "", id="nobody stands by"),
    ],
)
def test_to_whom_a_cluster_is_handed(mine: int, others: dict[str, int], expected: str) -> None:
    assert heir(mine, standings(**others), candidates(**others), 1.0) == expected


def test_what_was_given_counts_until_the_other_has_spoken_again() -> None:
    known = {"b": Standing(holds=0, beat=1, heard_at=0.0, given=2)}

    assert heir(3, known, candidates(b=0), 1.0) == ""

    after = hear(known, {"b": Candidate(holds=2, beat=2)}, 5.0)
    assert after["b"] == Standing(holds=2, beat=2, heard_at=5.0)
    assert heir(4, after, candidates(b=2), 5.0) == "b"


def test_nothing_is_handed_to_one_that_does_not_stand_by_at_this_cluster() -> None:
    assert heir(4, standings(b=0), {}, 1.0) == ""


def test_one_that_says_nothing_new_is_taken_for_gone_and_stays_so() -> None:
    known = hear({}, candidates(b=0), 0.0)

    later = hear(known, candidates(b=0), FORGET_S)

    assert heir(4, later, candidates(b=0), FORGET_S) == ""
    assert gone(later, candidates(b=0), FORGET_S) == ["b"]
    assert gone(hear(later, {"b": Candidate(holds=0, beat=2)}, FORGET_S), candidates(b=0), FORGET_S) == []


def test_an_older_word_at_another_cluster_changes_nothing() -> None:
    known = {"b": Standing(holds=3, beat=5, heard_at=0.0)}

    assert hear(known, {"b": Candidate(holds=0, beat=4)}, 1.0) == known


@pytest.mark.parametrize("daemons", [2, 3, 5])
@pytest.mark.parametrize("clusters", [1, 2, 7, 12])
def test_handing_on_ends_in_an_even_division_wherever_it_begins(daemons: int, clusters: int) -> None:
    names = [f"d{number}" for number in range(daemons)]
    held = dict.fromkeys(names, 0) | {"d0": clusters}

    for _ in range(clusters * daemons):
        for name in names:
            others = {other: count for other, count in held.items() if other != name}
            chosen = heir(held[name], standings(**others), candidates(**others), 1.0)
            if chosen:
                held[name] -= 1
                held[chosen] += 1

    assert sum(held.values()) == clusters
    assert max(held.values()) - min(held.values()) <= 1
