"""Commits, people, refusals, finalizers and crashes in any order against the real plan, guard and ledger.

The cluster is a dictionary: what server-side apply does in detail is proven elsewhere, on real API servers. Here the
question is which objects are created, kept, forgotten and deleted. The machine is shown to have teeth at the end of the
file: with any of the safety rules taken away it finds the orphan or the wrong delete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from gitsyncd.core.guard import guard
from gitsyncd.core.ledger import Outcome, intend, rebuilt, settle
from gitsyncd.core.plan import Scene, plan
from gitsyncd.model.errors import Changed, Conflict, Rejected
from gitsyncd.model.ids import ObjectId
from gitsyncd.model.inventory import Entry, Inventory
from gitsyncd.model.manifest import Apply, Controls, Desired, Manifest, Origin
from gitsyncd.model.observed import Mark, Observed
from gitsyncd.model.plan import Change, Operation, Plan
from gitsyncd.model.target import Policy

AGENT, STRANGER = "edge", "another"
TARGETS = ("web", "api")
IDS = (
    *(ObjectId(group="", kind="ConfigMap", namespace="shop", name=name) for name in "abc"),
    ObjectId(group="", kind="PersistentVolumeClaim", namespace="shop", name="data"),
)
CONTROLS = {
    "one": Controls(),
    "two": Controls(),
    "once": Controls(apply=Apply.IF_NOT_PRESENT),
    "fixed-one": Controls(recreate=True),
    "fixed-two": Controls(recreate=True),
}
"""What Git may say of an object. What is fixed cannot be changed on a live object."""

ids = st.sampled_from(IDS)
targets = st.sampled_from(TARGETS)
contents = st.sampled_from(sorted(CONTROLS))


class Crash(Exception):
    """The agent is gone, between two requests."""


@dataclass(frozen=True, kw_only=True)
class Live:
    """One object of the cluster. The last two are what the test alone knows."""

    uid: int
    version: int
    content: str
    mark: tuple[str, str, ObjectId] | None = None
    """Agent, target and the object that the mark describes."""
    entry: str = ""
    """Stands for our entry in managedFields: another value when somebody took a field from us."""
    finalizer: bool = False
    deleting: bool = False
    made_by_us: bool = False
    """Created by a request of ours."""
    touched_by_us: bool = False
    """Created or applied by a request of ours, or an exact replica of such an object, marks included."""


class Turns(RuleBasedStateMachine):
    """One agent with two targets on one cluster, and everybody else."""

    intend: Callable[..., Inventory] = staticmethod(intend)
    settle: Callable[..., Inventory] = staticmethod(settle)
    plan: Callable[[Scene], Plan] = staticmethod(plan)

    def __init__(self) -> None:
        super().__init__()
        self.live: dict[ObjectId, Live] = {}
        self.git: dict[str, dict[ObjectId, str]] = {target: {} for target in TARGETS}
        self.inventories = {target: Inventory(target=f"{target}@eu") for target in TARGETS}
        self.lost: set[str] = set()
        self.refusing: set[ObjectId] = set()
        self.commits = 0
        self.uids = 0
        self.versions = 0
        self.allow_empty = False

    @initialize(allow_empty=st.booleans(), files=st.dictionaries(ids, contents, min_size=1))
    def begin(self, allow_empty: bool, files: dict[ObjectId, str]) -> None:
        self.allow_empty = allow_empty
        self.git["web"] = dict(files)
        self.commits = 1
        self._turn("web")

    # --- Git -----------------------------------------------------------------------------------------------------

    @rule(owner=targets, files=st.dictionaries(ids, contents))
    def commit_anything(self, owner: str, files: dict[ObjectId, str]) -> None:
        self.commits += 1
        self.git[owner] = dict(files)

    @rule(owner=targets, object_id=ids, content=contents)
    def commit_a_file(self, owner: str, object_id: ObjectId, content: str) -> None:
        self.commits += 1
        self.git[owner][object_id] = content

    @rule(owner=targets, object_id=ids)
    def remove_a_file(self, owner: str, object_id: ObjectId) -> None:
        self.commits += 1
        self.git[owner].pop(object_id, None)

    @rule(object_id=ids, start=targets)
    def move_a_file(self, object_id: ObjectId, start: str) -> None:
        self._move(object_id, start)

    @rule(object_id=ids, start=targets, first=targets)
    def move_a_file_and_look_from_both_sides(self, object_id: ObjectId, start: str, first: str) -> None:
        """Given an object in sync, when its file moves, then it stays the very same object, whoever looks first."""
        before = self.live.get(object_id)
        content = self.git[start].get(object_id)
        entry = self.inventories[start].entries.get(object_id)
        end = _other(start)
        if not (before and content and entry) or before.mark != (AGENT, start, object_id) or before.deleting:
            return
        if entry.uid != str(before.uid) or object_id in self.git[end] or object_id in self.refusing:
            return
        if CONTROLS[content].recreate and before.content != content:
            return
        self._move(object_id, start)
        for target in (first, _other(first), first):
            self._turn(target)
        after = self.live[object_id]
        assert after.uid == before.uid
        if content != "once":
            assert after.mark == (AGENT, end, object_id)
            assert object_id not in self.inventories[start].entries

    def _move(self, object_id: ObjectId, start: str) -> None:
        content = self.git[start].pop(object_id, None)
        if content is not None:
            self.commits += 1
            self.git[_other(start)][object_id] = content

    # --- everybody else ------------------------------------------------------------------------------------------

    @rule(object_id=ids)
    def somebody_creates(self, object_id: ObjectId) -> None:
        if object_id not in self.live:
            self.live[object_id] = self._new("theirs")

    @rule(object_id=ids)
    def somebody_edits(self, object_id: ObjectId) -> None:
        self._edit(object_id, content="edited", entry="less")

    @rule(object_id=ids)
    def somebody_deletes(self, object_id: ObjectId) -> None:
        self._remove(object_id)

    @rule(object_id=ids, with_marks=st.booleans())
    def somebody_deletes_and_creates_again(self, object_id: ObjectId, with_marks: bool) -> None:
        before = self.live.get(object_id)
        if before is None or not self._remove(object_id):
            return
        again = self._new("theirs")
        if with_marks:
            again = replace(again, content=before.content, mark=before.mark, touched_by_us=before.touched_by_us)
        self.live[object_id] = again

    @rule(object_id=ids, to=ids)
    def somebody_copies_an_object_marks_included(self, object_id: ObjectId, to: ObjectId) -> None:
        if object_id in self.live and to not in self.live:
            self.live[to] = replace(self._new("theirs"), mark=self.live[object_id].mark)

    @rule(object_id=ids)
    def somebody_takes_the_label_off(self, object_id: ObjectId) -> None:
        self._edit(object_id, mark=None, entry="less")

    @rule(object_id=ids, owner=targets)
    def another_agent_takes_an_object_over(self, object_id: ObjectId, owner: str) -> None:
        self._edit(object_id, mark=(STRANGER, owner, object_id), content="edited", entry="")

    @rule(object_id=ids)
    def a_finalizer_is_set(self, object_id: ObjectId) -> None:
        self._edit(object_id, finalizer=True)

    @rule(object_id=ids)
    def a_finalizer_is_released(self, object_id: ObjectId) -> None:
        self._release(object_id)

    @rule(object_id=ids)
    def admission_begins_to_refuse(self, object_id: ObjectId) -> None:
        self.refusing.add(object_id)

    @rule()
    def admission_is_content_again(self) -> None:
        self.refusing.clear()

    @rule(owner=targets)
    def an_inventory_is_lost(self, owner: str) -> None:
        self.inventories[owner] = Inventory(target=f"{owner}@eu")
        self.lost.add(owner)

    def _new(self, content: str) -> Live:
        self.uids += 1
        self.versions += 1
        return Live(uid=self.uids, version=self.versions, content=content)

    def _edit(self, object_id: ObjectId, **changes: Any) -> None:
        if object_id in self.live:
            self.versions += 1
            self.live[object_id] = replace(self.live[object_id], version=self.versions, **changes)

    def _remove(self, object_id: ObjectId) -> bool:
        """Whether it is gone at once."""
        live = self.live.get(object_id)
        if live is None:
            return True
        if live.finalizer:
            self._edit(object_id, deleting=True)
            return False
        del self.live[object_id]
        return True

    def _release(self, object_id: ObjectId) -> None:
        live = self.live.get(object_id)
        if live is not None and live.deleting:
            del self.live[object_id]
        elif live is not None:
            self._edit(object_id, finalizer=False)

    # --- turns ---------------------------------------------------------------------------------------------------

    @rule(owner=targets, complete=st.booleans())
    def turn(self, owner: str, complete: bool) -> None:
        self._turn(owner, complete=complete)

    @rule(owner=targets, after=st.integers(0, 7), kept=st.sets(ids))
    def turn_that_crashes(self, owner: str, after: int, kept: set[ObjectId]) -> None:
        """After so many steps; of a record that was being written only the entries of `kept` are on disk."""
        self._turn(owner, steps=after, kept=kept)

    @rule(owner=targets, object_id=ids, act=st.sampled_from(["create", "edit", "delete", "again", "mark"]))
    def turn_with_somebody_in_between(self, owner: str, object_id: ObjectId, act: str) -> None:
        """Between what the turn looked at and what it writes."""
        acts: dict[str, Callable[[], None]] = {
            "create": lambda: self.somebody_creates(object_id),
            "edit": lambda: self.somebody_edits(object_id),
            "delete": lambda: self.somebody_deletes(object_id),
            "again": lambda: self.somebody_deletes_and_creates_again(object_id, with_marks=False),
            "mark": lambda: self.another_agent_takes_an_object_over(object_id, owner),
        }
        self._turn(owner, meanwhile=acts[act])

    def _turn(
        self,
        target: str,
        *,
        steps: int = 99,
        kept: Iterable[ObjectId] = (),
        complete: bool = True,
        approve: bool = False,
        meanwhile: Callable[[], None] | None = None,
    ) -> None:
        begun = self._begin(target)
        todo = self._look(target, begun, complete=complete, approve=approve)
        left = iter(range(steps))

        def step() -> None:
            if next(left, None) is None:
                raise Crash

        try:
            step()
            ahead = self.intend(begun, todo, commit=str(self.commits), cluster_uid="c")
            self._save(target, ahead, kept, step)
            step()
            if meanwhile is not None:
                meanwhile()
            outcomes = []
            for change in todo.changes:
                outcomes.append(self._do(target, change, step))
                step()
            settled = self.settle(ahead, todo, outcomes, commit=str(self.commits))
            self._save(target, settled, kept, step)
        except Crash:
            return
        self.lost.discard(target)

    def _begin(self, target: str) -> Inventory:
        inventory = self.inventories[target]
        if inventory.serial or inventory.entries:
            return inventory
        marked = {
            object_id: ("v1", self._observe(object_id))
            for object_id, live in self.live.items()
            if live.mark == (AGENT, target, object_id)
        }
        return rebuilt(inventory.target, marked, cluster_uid="c") if marked else inventory

    def _look(self, target: str, inventory: Inventory, *, complete: bool = True, approve: bool = False) -> Plan:
        wanted = Desired(manifests={i: _manifest(i, content) for i, content in self.git[target].items()})
        scene = Scene(
            target=target,
            target_id=inventory.target,
            agent=AGENT,
            revision=f"main@{self.commits}",
            commit=str(self.commits),
            desired=wanted,
            inventory=inventory,
            observed={
                i: self._observe(i) for i in wanted.manifests.keys() | inventory.entries.keys() if i in self.live
            },
            policy=Policy(),
            claims=dict.fromkeys(self.git[_other(target)], _other(target)),
            claims_complete=complete,
        )
        unguarded = self.plan(scene)
        prune = replace(scene.policy.prune, allow_empty=self.allow_empty)
        return guard(
            unguarded,
            desired=wanted,
            inventory=inventory,
            policy=prune,
            approved={unguarded.digest} if approve else (),
        )

    def _save(self, target: str, inventory: Inventory, kept: Iterable[ObjectId], step: Callable[[], None]) -> None:
        """In two requests, as an inventory of more than one ConfigMap is: a crash in between saves a part.

        The very first one appears as a whole: a part of it would be unreadable and as good as lost.
        """
        before = self.inventories[target]
        if inventory == before:
            return
        if not before.serial:
            step()
            self.inventories[target] = replace(inventory, serial=1, trusted=True)
            return
        mixed: dict[ObjectId, Entry] = {}
        for object_id in IDS:
            entry = (inventory if object_id in kept else before).entries.get(object_id)
            if entry is not None:
                mixed[object_id] = entry
        serial = before.serial + 1
        self.inventories[target] = replace(inventory, entries=mixed, serial=serial, trusted=True)
        step()
        self.inventories[target] = replace(inventory, serial=serial + 1, trusted=True)

    def _do(self, target: str, change: Change, step: Callable[[], None]) -> Outcome:
        if change.operation is Operation.RELEASE:
            return Outcome(change=change)
        if change.operation is Operation.BLOCK:
            return Outcome(change=change, error=Conflict(change.reason))
        if change.id in self.refusing:
            return Outcome(change=change, error=Rejected("no"))
        if change.operation is Operation.PRUNE:
            return self._prune(target, change)
        return self._apply(target, change, step)

    def _prune(self, target: str, change: Change) -> Outcome:
        assert change.observed is not None
        live = self.live.get(change.id)
        if live is None:
            return Outcome(change=change)
        if str(live.uid) != change.observed.uid:
            return Outcome(change=change, error=Changed("another object"))
        self._may_be_deleted(target, change.id, live)
        gone = self._remove(change.id)
        return Outcome(change=change, observed=None if gone else change.observed)

    def _may_be_deleted(self, target: str, object_id: ObjectId, live: Live) -> None:
        recorded = self.inventories[target].entries.get(object_id)
        assert not any(object_id in wanted for wanted in self.git.values()), "Git wants it"
        assert live.touched_by_us, "a stranger's object"
        assert recorded is not None, "deleted without a record"
        assert recorded.uid in {"", str(live.uid)}, "deleted under another UID than the recorded one"

    def _apply(self, target: str, change: Change, step: Callable[[], None]) -> Outcome:
        assert change.manifest is not None
        content = change.manifest.digest
        live = self.live.get(change.id)
        if change.operation is Operation.CREATE:
            if live is not None:
                return Outcome(change=change, error=Conflict("it exists already"))
        elif live is None or change.observed is None or str(live.uid) != change.observed.uid:
            return Outcome(change=change, error=Changed("another object"))
        elif str(live.version) != change.observed.resource_version and change.operation is not Operation.UPDATE:
            return Outcome(change=change, error=Changed("changed"))
        elif change.manifest.controls.recreate and live.content != content:
            if not self._remove(change.id):
                return Outcome(change=change, error=Changed("a finalizer holds it"))
            step()
            live = None
        made = live is None
        before = self._new(content) if live is None else live
        self.live[change.id] = replace(before, made_by_us=made or before.made_by_us)
        self._edit(change.id, content=content, mark=(AGENT, target, change.id), entry="all", touched_by_us=True)
        return Outcome(change=change, observed=self._observe(change.id))

    def _observe(self, object_id: ObjectId) -> Observed:
        live = self.live[object_id]
        mark = None
        if live.mark is not None:
            agent, target, described = live.mark
            mark = Mark(agent=agent, target=target, describes_itself=described == object_id)
        return Observed(
            uid=str(live.uid),
            resource_version=str(live.version),
            mark=mark,
            entry_hash=live.entry,
            projection_hash=f"{live.content} {live.mark}" if live.entry else "",
            deleting=live.deleting,
        )

    # --- what must hold ------------------------------------------------------------------------------------------

    @invariant()
    def every_object_of_ours_is_on_record(self) -> None:
        for object_id, live in self.live.items():
            if live.made_by_us and live.mark is not None:
                agent, target, described = live.mark
                if agent == AGENT and described == object_id and target not in self.lost:
                    assert object_id in self.inventories[target].entries, f"{object_id} is ours and on no record"

    @rule()
    def left_in_peace_the_cluster_becomes_what_git_says(self) -> None:
        self.refusing.clear()
        for _ in range(3):
            for object_id in IDS:
                self._release(object_id)
            for target in TARGETS:
                self._turn(target, approve=True)
        for object_id in IDS:
            self._is_as_git_says(object_id)
        for target in TARGETS:
            self._nothing_is_left_to_do(target)

    def _nothing_is_left_to_do(self, target: str) -> None:
        todo = self._look(target, self._begin(target), approve=True)
        assert {change.operation for change in todo.changes} <= {Operation.BLOCK}

    def _is_as_git_says(self, object_id: ObjectId) -> None:
        wanted = [target for target in TARGETS if object_id in self.git[target]]
        live = self.live.get(object_id)
        if not wanted:
            orphan = live is not None and live.made_by_us and live.mark is not None and live.mark[0] == AGENT
            assert not orphan, f"{object_id} is an orphan"
            return
        taken = live is not None and live.mark is not None and live.mark[0] == STRANGER and live.mark[2] == object_id
        if taken or len(wanted) > 1:
            return
        content = self.git[wanted[0]][object_id]
        assert live is not None, f"{object_id} is missing"
        if content != "once":
            assert (live.content, live.mark) == (content, (AGENT, wanted[0], object_id))

    def teardown(self) -> None:
        self.left_in_peace_the_cluster_becomes_what_git_says()


def _other(target: str) -> str:
    return TARGETS[1 - TARGETS.index(target)]


def _manifest(object_id: ObjectId, content: str) -> Manifest:
    return Manifest(
        id=object_id,
        api_version="v1",
        body=b"",
        digest=content,
        origin=Origin(file=f"{object_id.name}.yaml"),
        controls=CONTROLS[content],
    )


TestTurns = Turns.TestCase
# A history is cheap, and what it finds is rare.
TestTurns.settings = settings(max_examples=5 * settings().max_examples, deadline=None)


# --- teeth: each rule taken away, and what the machine then finds ------------------------------------------------------


def _without_intend(inventory: Inventory, plan: Plan, *, commit: str, cluster_uid: str) -> Inventory:
    return inventory


def _settle_on_acceptance(inventory: Inventory, plan: Plan, outcomes: Iterable[Outcome], *, commit: str) -> Inventory:
    """A delete that was asked for counts as done."""
    settled = settle(inventory, plan, outcomes, commit=commit)
    pruned = {outcome.change.id for outcome in outcomes if outcome.change.operation is Operation.PRUNE}
    return replace(settled, entries={i: entry for i, entry in settled.entries.items() if i not in pruned})


def _with_any_mark(scene: Scene) -> Plan:
    """A mark counts, whatever object it describes."""
    observed = {
        i: replace(live, mark=replace(live.mark, describes_itself=True)) if live.mark else live
        for i, live in scene.observed.items()
    }
    return plan(replace(scene, observed=observed))


def _with_any_uid(scene: Scene) -> Plan:
    """Whatever is live is what was recorded."""
    entries = {
        i: replace(entry, uid=scene.observed[i].uid) if entry.uid and i in scene.observed else entry
        for i, entry in scene.inventory.entries.items()
    }
    return plan(replace(scene, inventory=replace(scene.inventory, entries=entries)))


def _without_claims(scene: Scene) -> Plan:
    return plan(replace(scene, claims={}))


def _released_at_once(scene: Scene) -> Plan:
    return plan(replace(scene, final=True))


@dataclass(frozen=True, kw_only=True)
class Tooth:
    """A rule that is taken away, what the machine must then find, and the shortest way there."""

    rule: str
    broken: Callable[..., Any]
    found: str
    way: Callable[[Turns], None]


def _crash_after_a_write(machine: Turns) -> None:
    machine.begin(allow_empty=False, files={A: "one"})
    machine.commit_a_file("web", B, "one")
    machine.turn_that_crashes("web", after=3, kept=set())
    machine.every_object_of_ours_is_on_record()


def _a_finalizer_holds_a_delete(machine: Turns) -> None:
    machine.begin(allow_empty=False, files={A: "one", B: "one"})
    machine.a_finalizer_is_set(B)
    machine.remove_a_file("web", B)
    machine.turn("web", complete=True)
    machine.every_object_of_ours_is_on_record()


def _a_copy_where_an_object_was_recorded(machine: Turns) -> None:
    machine.begin(allow_empty=False, files={A: "one"})
    machine.commit_a_file("web", B, "one")
    machine.turn_that_crashes("web", after=2, kept={B})
    machine.somebody_copies_an_object_marks_included(A, B)
    machine.remove_a_file("web", B)
    machine.turn("web", complete=True)


def _created_again_with_all_its_marks(machine: Turns) -> None:
    machine.begin(allow_empty=False, files={A: "one", B: "one"})
    machine.somebody_deletes_and_creates_again(B, with_marks=True)
    machine.remove_a_file("web", B)
    machine.turn("web", complete=True)


def _a_file_moves(machine: Turns) -> None:
    machine.begin(allow_empty=False, files={A: "one", B: "one"})
    machine.move_a_file_and_look_from_both_sides(B, "web", "web")


def _a_file_moves_and_is_removed_before_anybody_took_it_over(machine: Turns) -> None:
    machine.begin(allow_empty=False, files={A: "one", B: "one"})
    machine.move_a_file(B, "web")
    machine.turn("web", complete=True)
    machine.every_object_of_ours_is_on_record()


A, B = IDS[:2]
TEETH = {
    "no record before the first write": Tooth(
        rule="intend", broken=_without_intend, found="on no record", way=_crash_after_a_write
    ),
    "a delete that was accepted counts as done": Tooth(
        rule="settle", broken=_settle_on_acceptance, found="on no record", way=_a_finalizer_holds_a_delete
    ),
    "a mark that describes another object counts": Tooth(
        rule="plan",
        broken=_with_any_mark,
        found="stranger's object",
        way=_a_copy_where_an_object_was_recorded,
    ),
    "an object with another UID counts": Tooth(
        rule="plan", broken=_with_any_uid, found="another UID", way=_created_again_with_all_its_marks
    ),
    "what other targets want is not known": Tooth(
        rule="plan", broken=_without_claims, found="Git wants it", way=_a_file_moves
    ),
    "a hand-over is released before it has happened": Tooth(
        rule="plan",
        broken=_released_at_once,
        found="on no record",
        way=_a_file_moves_and_is_removed_before_anybody_took_it_over,
    ),
}


@pytest.mark.parametrize("tooth", TEETH.values(), ids=TEETH.keys())
def test_without_this_rule_a_few_steps_do_harm(tooth: Tooth) -> None:
    sound, broken = Turns(), _without(tooth)()

    tooth.way(sound)

    with pytest.raises(AssertionError, match=tooth.found):
        tooth.way(broken)


@pytest.mark.slow
@pytest.mark.timeout(600)  # seconds of search on a busy machine; the search itself is always the same one
@pytest.mark.parametrize("tooth", TEETH.values(), ids=TEETH.keys())
def test_without_this_rule_the_machine_finds_the_harm_by_itself(tooth: Tooth) -> None:
    with pytest.raises(AssertionError, match=tooth.found):
        run_state_machine_as_test(_without(tooth), settings=SEARCH)


SEARCH = settings(
    max_examples=20_000,
    stateful_step_count=30,  # the harms that are sought take six steps or seven; in longer ways they hide
    derandomize=True,
    database=None,
    deadline=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
)


def _without(tooth: Tooth) -> type[Turns]:
    """The machine with one rule broken. What a broken rule leaves undone is not looked at, only the harm that it does."""

    class Broken(Turns):
        def _is_as_git_says(self, object_id: ObjectId) -> None:
            pass

        def _nothing_is_left_to_do(self, target: str) -> None:
            pass

        def move_a_file_and_look_from_both_sides(self, object_id: ObjectId, start: str, first: str) -> None:
            self._move(object_id, start)
            self._turn(first)

    setattr(Broken, tooth.rule, staticmethod(tooth.broken))
    return Broken
