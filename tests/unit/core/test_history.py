"""How a history grows, what of it is kept, and where one may go back to."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitsyncd.core.history import MOST, MOST_BYTES, became_healthy, begun, failed, good_ones, read, synced, written
from gitsyncd.model.history import History, Passage

NOW = datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


def revision(number: int) -> str:
    return f"main@sha1:{number:040x}"


def commit(number: int) -> str:
    return f"{number:040x}"


def good(history: History, content: str) -> list[str]:
    return [passage.commit for passage in good_ones(history, content)]


def ran(history: History, number: int, *, good: bool = True, images: tuple[str, ...] = ()) -> History:
    """One more revision."""
    now = NOW + timedelta(minutes=number)
    history = begun(history, revision(number), f"tree-{number}", admitted=now, applied=now)
    if not good:
        return failed(history, now, "it crashes")
    return became_healthy(synced(history, now, images), now)


def test_one_goes_back_to_the_last_good_one_past_those_that_failed() -> None:
    history = ran(ran(ran(History(), 1), 2, good=False), 3, good=False)

    assert good(history, "tree-3") == [commit(1)]


def test_one_does_not_go_back_to_what_is_there() -> None:
    history = ran(ran(ran(History(), 1), 2), 3)

    assert good(history, "tree-3") == [commit(2), commit(1)]
    assert good(ran(History(), 1), "tree-1") == []


def test_in_sync_alone_is_not_good() -> None:
    history = begun(History(), revision(1), "tree-1", admitted=NOW, applied=NOW)
    history = ran(synced(history, NOW, ()), 2)

    assert good(history, "tree-2") == []


def test_the_same_content_under_another_commit_is_the_same_line() -> None:
    history = ran(History(), 1)

    assert begun(history, revision(2), "tree-1", admitted=NOW, applied=NOW) == history


def test_what_comes_back_is_a_line_of_its_own() -> None:
    history = begun(ran(ran(History(), 1), 2, good=False), revision(3), "tree-1", admitted=NOW, applied=NOW)

    assert [passage.commit for passage in history.passages] == [commit(3), commit(2), commit(1)]


def test_a_failure_on_the_way_is_over_once_all_is_healthy_and_none_comes_after_it() -> None:
    history = begun(History(), revision(1), "tree-1", admitted=NOW, applied=NOW)
    history = synced(failed(history, NOW, "no such image"), NOW, ())
    history = became_healthy(history, NOW)
    later = failed(history, NOW + timedelta(days=1), "a node died")

    assert (later.passages[0].failed, later.passages[0].error, later.passages[0].is_good) == (None, "", True)


def test_each_moment_is_the_first_of_its_kind() -> None:
    history = ran(History(), 1)
    later = NOW + timedelta(days=1)

    assert became_healthy(synced(history, later, ("x",)), later) == history


def test_only_so_many_are_kept() -> None:
    history = History()
    for number in range(MOST + 10):
        history = ran(history, number)

    assert len(history.passages) == MOST
    assert history.passages[0].commit == commit(MOST + 9)


@pytest.mark.parametrize("many", [100, 3000, 100_000])
def test_what_is_too_much_loses_images_first_and_the_oldest_first(many: int) -> None:
    history = History()
    images = tuple(f"registry.example.com/team/image-{number}:1.0" for number in range(many))
    for number in range(10):
        history = ran(history, number, images=images)

    text = written(history)
    again = read(text)

    assert len(text.encode()) <= MOST_BYTES
    assert [passage.revision for passage in again.passages] == [passage.revision for passage in history.passages]
    kept = [passage.images is not None for passage in again.passages]
    assert kept == sorted(kept, reverse=True)


moments = st.none() | st.datetimes(timezones=st.just(UTC))
passages = st.builds(
    Passage,
    revision=st.integers(0, 10**9).map(revision),
    content=st.text(max_size=40),
    admitted=moments,
    applied=moments,
    in_sync=moments,
    healthy=moments,
    failed=moments,
    error=st.text(max_size=600),
    images=st.none() | st.lists(st.text(max_size=20), max_size=5).map(tuple),
)


@given(st.lists(passages, max_size=10))
def test_what_is_written_is_read_again(some: list[Passage]) -> None:
    history = History(passages=tuple(some))

    assert read(written(history)) == history


@given(
    st.text()
    | st.recursive(st.none() | st.booleans() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)).map(
        str
    )
)
def test_any_text_is_read_or_told_to_be_unreadable(text: str) -> None:
    found = read(text)

    assert bool(found.damage) or isinstance(found.passages, tuple)


@pytest.mark.parametrize(
    "text",
    ["", "{", "{}", "5", "[5]", "[{}]", '[{"revision": 5}]', '[{"revision": "x", "healthy": "yesterday"}]',
     '[{"revision": "x", "failed": "2026-01-01T00:00:00"}]', "[" * 100_000],
)  # fmt: skip
def test_what_is_none_of_ours_is_told(text: str) -> None:
    assert read(text) == History(damage="what was kept in the cluster cannot be read")
