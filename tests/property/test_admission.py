"""Whatever happens to a branch, no commit is applied that does not descend from the last one, unless somebody said so."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import event, given
from hypothesis import strategies as st

from gitsyncd.core.admission import REWOUND, admit
from gitsyncd.model.source import OnRewind


@dataclass(slots=True)
class History:
    """Commits by number, each with its parents, and one branch that points somewhere, or nowhere."""

    parents: list[tuple[int, ...]] = field(default_factory=lambda: [()])
    head: int | None = 0

    def commit(self, *parents: int) -> None:
        self.parents.append(parents)
        self.head = len(self.parents) - 1

    def ancestors(self, commit: int) -> set[int]:
        """With the commit itself."""
        found, left = set(), [commit]
        while left:
            found.add(at := left.pop())
            left += [parent for parent in self.parents[at] if parent not in found]
        return found


def act(history: History, what: str, pick: int) -> None:
    """One push. Every commit that ever was may be picked."""
    chosen = pick % len(history.parents)
    match what:
        case "commit" if history.head is not None:
            history.commit(history.head)
        case "merge" if history.head is not None:
            history.commit(history.head, chosen)
        case "merge the other way round" if history.head is not None:
            history.commit(chosen, history.head)
        case "force to an old commit":
            history.head = chosen
        case "force to a rewritten commit":
            history.commit(*history.parents[chosen])
        case "force to a new root":
            history.commit()
        case "delete":
            history.head = None


acts = st.tuples(
    st.sampled_from(
        [
            "commit", "commit", "merge", "merge the other way round", "force to an old commit",
            "force to a rewritten commit", "force to a new root", "delete",
        ]
    ),
    st.integers(0, 30),
    st.sampled_from(["look", "look", "look", "do not look", "approve the head", "approve something else"]),
)  # fmt: skip


@given(st.lists(acts, min_size=3, max_size=25))
def test_an_admitted_commit_descends_from_the_last_one_or_was_approved(steps: list[tuple[str, int, str]]) -> None:
    history, admitted = History(), 0
    for what, pick, look in steps:
        act(history, what, pick)
        if look == "do not look" or history.head is None:
            continue
        head = history.head
        approved = {"approve the head": {str(head)}, "approve something else": {str(pick)}}.get(look, set())

        result = admit(
            head=str(head),
            admitted=str(admitted),
            descends=admitted in history.ancestors(head),
            approved=approved,
        )

        before, admitted = admitted, int(result.commit)
        assert admitted in {head, before}
        assert before in history.ancestors(admitted) or str(admitted) in approved
        assert (result.held == REWOUND) is (admitted != head)
        event("held" if result.held else "admitted")


@given(st.lists(acts, min_size=3, max_size=25))
def test_a_source_that_follows_rewinds_is_always_at_its_head(steps: list[tuple[str, int, str]]) -> None:
    history, admitted = History(), 0
    for what, pick, _ in steps:
        act(history, what, pick)
        if history.head is not None:
            descends = admitted in history.ancestors(history.head)

            result = admit(head=str(history.head), admitted=str(admitted), descends=descends, on_rewind=OnRewind.FOLLOW)

            assert (result.commit, result.held) == (str(history.head), "")
            admitted = history.head
