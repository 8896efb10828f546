"""One turn of one target, from the facts to the report, as one straight coroutine that can be read aloud.

Belongs here: the order of the steps. Does not belong here: when a turn happens (`target_loop`), what is decided
(`core`), how a fact is gathered (`facts`) or a change carried out (`apply`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from gitsyncd.core.backoff import Fight, is_forgotten, is_over, next_look, reverted
from gitsyncd.core.guard import guard
from gitsyncd.core.health import worst
from gitsyncd.core.ledger import Outcome, inherited, intend, settle
from gitsyncd.core.plan import Scene, plan
from gitsyncd.model.errors import Changed, Conflict, GitsyncdError
from gitsyncd.model.immutable import immutable
from gitsyncd.model.inventory import EntryState
from gitsyncd.model.plan import Change, Operation, Plan
from gitsyncd.model.report import Health, HealthStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from gitsyncd.engine.apply import Actuator, Progress
    from gitsyncd.engine.cluster_view import ClusterView
    from gitsyncd.engine.facts import Facts, Gatherer, Siblings
    from gitsyncd.engine.journal import Journal
    from gitsyncd.engine.ports import Clock
    from gitsyncd.model.ids import ObjectId
    from gitsyncd.model.inventory import Inventory
    from gitsyncd.model.source import Revision
    from gitsyncd.model.target import Target


BULK = 100
"""Objects. Watches of new kinds begin after a turn that creates more: until then they would tell of nothing else."""


@immutable
class TurnReport:
    """What one turn found and did."""

    revision: Revision
    plan: Plan
    failures: tuple[tuple[ObjectId, GitsyncdError], ...]
    objects: int
    """Objects that Git wants, less those left to others."""
    written: int
    """Changes carried out."""
    again: frozenset[ObjectId] = frozenset()
    """Objects that changed under our hands: to be looked at again at once."""
    standing: tuple[tuple[ObjectId, GitsyncdError], ...] = ()
    """Drift that was seen and left alone: in a fight, or because policy only reports it."""
    superseded: bool = False
    rebuilt: bool = False
    """The inventory was lost and is rebuilt, so nothing was deleted: what left Git is for the next turn, at once."""
    partial: bool = False
    """Only some objects were looked at."""
    left: frozenset[ObjectId] = frozenset()
    """Objects that Git names and that are left to others: Git, or the object itself, says so. Nothing is waited for."""
    postponed: tuple[str, ...] = ()
    """Targets that have not said what they want, for which deletes of this one wait."""

    @property
    def in_sync(self) -> bool:
        """Whether the last look after the last write found no difference."""
        return (
            not self.failures
            and not self.standing
            and self.plan.refused is None
            and not self.superseded
            and not self.rebuilt
            and not self.again
        )


class Reconciler:
    """The turns of one target. Its caller never runs two at once."""

    def __init__(
        self,
        target: Target,
        view: ClusterView,
        gatherer: Gatherer,
        siblings: Siblings,
        actuator: Actuator,
        journal: Journal,
        *,
        clock: Clock,
    ) -> None:
        self._target = target
        self._view = view
        self._gatherer = gatherer
        self._siblings = siblings
        self._actuator = actuator
        self._journal = journal
        self._clock = clock
        self._fights: dict[ObjectId, Fight] = {}
        """Objects that were reverted of late, the latest last."""
        self._fighting: set[ObjectId] = set()
        self.approved: set[str] = set()
        """Digests of refused plans that a person let through; each is used up by one turn."""

    async def look(self, revision: Revision, scope: Collection[ObjectId] | None = None) -> tuple[Facts, Plan]:
        """Everything up to the guard: what a turn would do now. Nothing is written."""
        await self._view.verify()
        facts = await self._gatherer.gather(revision, scope, self._siblings)
        scene = Scene(
            target=self._target.name,
            target_id=self._target.id,
            agent=self._view.agent.name,
            revision=str(revision),
            commit=revision.commit,
            desired=facts.desired,
            inventory=facts.inventory,
            observed=facts.observed,
            policy=self._target.policy,
            agent_namespace=self._view.agent.cluster_namespace,
            claims=facts.claims,
            claims_complete=facts.claims_complete,
            unseen=facts.unseen.keys(),
            calm=self._calm(),
            scope=scope,
            was=self._target.was,
        )
        guarded = guard(
            plan(scene),
            desired=facts.desired,
            inventory=facts.inventory,
            policy=self._target.policy.prune,
            approved=self.approved,
            trailers=revision.approvals,
        )
        return facts, guarded

    async def turn(
        self, revision: Revision, scope: Collection[ObjectId] | None, superseded: Callable[[], bool]
    ) -> TurnReport:
        """Make the cluster what Git says at this revision. Raises `GitsyncdError` where nothing could be begun."""
        try:
            await self._inherit()
            facts, todo = await self.look(revision, scope)
            if self._scaled(todo):
                self._gatherer.autoscalers_stale = True
                facts, todo = await self.look(revision, scope)
            if not _bulk(todo):
                self._gatherer.follow()
            return await self._carry_out(revision, facts, todo, scope, superseded)
        finally:
            self._gatherer.follow()

    async def _carry_out(
        self,
        revision: Revision,
        facts: Facts,
        todo: Plan,
        scope: Collection[ObjectId] | None,
        superseded: Callable[[], bool],
    ) -> TurnReport:
        """From the plan to the report."""
        if facts.lost:
            self._journal.inventory_lost(revision, facts.lost)
        ids = facts.desired.manifests.keys() | facts.inventory.entries.keys() if scope is None else scope
        news = self._view.take_news(ids)
        if scope is None or any(not change.drift for change in todo.changes):
            self._journal.plan_made(todo)
        self._journal.foreign_fields(todo)
        if todo.refused is not None:
            self._journal.plan_refused(todo)
        known = replace(todo, changes=tuple(c for c in todo.changes if c.id not in facts.desired.unknown))
        await self._record(
            intend(self._whole(), known, commit=self._commit(revision, known), cluster_uid=self._view.uid)
        )
        outcomes = await self._actuator.carry_out(todo, facts.desired, superseded, news)
        self._note_fights(outcomes)
        self._note_gone(todo, facts)
        settled = settle(self._whole(), todo, outcomes, commit=revision.commit)
        await self._record(settled if settled.trusted else replace(settled, trusted=True))
        if any(change.operation is Operation.PRUNE for change in todo.changes):
            self.approved.discard(todo.digest)
        return self._report(revision, facts, todo, outcomes, scope=scope)

    @property
    def progress(self) -> Progress | None:
        """How far the plan in progress is; None while facts are gathered, and between turns."""
        return self._actuator.progress

    def health(self, ids: Collection[ObjectId]) -> Health:
        """The worst of the health of these objects, as the watches last saw them."""
        healths = []
        for object_id in ids:
            observed = self._view.objects.get(object_id)
            healths.append(
                observed.health if observed and observed.health else Health(HealthStatus.NOT_FOUND, str(object_id))
            )
        return worst(healths)

    # --- the record ----------------------------------------------------------------------------------------------

    async def _inherit(self) -> None:
        """A renamed target takes over the record of its old name: first it has it all, then the old one goes."""
        old = self._view.heritage(self._target)
        if old is None:
            return
        self._view.require()
        await self._record(inherited(self._whole(), old))
        await self._view.api.drop_inventory(self._target.was)
        self._view.inventories.pop(self._target.was, None)

    def _whole(self) -> Inventory:
        return self._gatherer.inventory()

    def _commit(self, revision: Revision, todo: Plan) -> str:
        """The commit to record ahead: only a turn that writes moves it, so that a commit which changes nothing here
        costs nothing.
        """
        writes = any(change.operation is not Operation.BLOCK and not change.report_only for change in todo.changes)
        git_moved = any(change.drift is None or change.operation is Operation.UPDATE for change in todo.changes)
        return revision.commit if writes and git_moved else self._whole().commit

    async def _record(self, inventory: Inventory) -> None:
        """Write the inventory when it differs from the one in the cluster.

        Raises `Changed` when somebody else wrote it.
        """
        if inventory is self._whole() or (not inventory.entries and not inventory.serial):
            return
        name = self._target.name
        try:
            self._view.inventories[name] = await self._view.api.save_inventory(name, inventory)
        except Changed:
            self._view.inventories = dict(await self._view.api.load_inventories())
            raise

    def _note_gone(self, todo: Plan, facts: Facts) -> None:
        """Deletes that finalizers held and that are over now."""
        for change in todo.changes:
            entry = facts.inventory.entries.get(change.id)
            if (
                change.operation is Operation.RELEASE
                and entry
                and entry.state is EntryState.DELETING
                and not change.observed
            ):
                self._journal.pruned_at_last(change.id)

    # --- fights --------------------------------------------------------------------------------------------------

    def _calm(self) -> frozenset[ObjectId]:
        now = self._clock.monotonic()
        self._forget(now)
        for object_id in list(self._fighting):
            fight = self._fights[object_id]
            if is_over(fight, now):
                self._journal.fight(object_id, fight.manager, fight.total, over=True)
                del self._fights[object_id]
                self._fighting.discard(object_id)
        return frozenset(object_id for object_id in self._fighting if now < self._fights[object_id].until)

    def _forget(self, now: float) -> None:
        """Let go of reverts that are too old to count. At a cost that follows their number: this is in every revert."""
        old = []
        for object_id, fight in self._fights.items():
            if not fight.fighting:
                if not is_forgotten(fight, now):
                    break  # those that follow are younger
                old.append(object_id)
        for object_id in old:
            del self._fights[object_id]

    def next_fight_look(self) -> float | None:
        """Monotonic seconds at which the drift of some object is looked at again, or a fight may be over; None
        without fights.
        """
        now = self._clock.monotonic()
        return min((next_look(self._fights[object_id], now) for object_id in self._fighting), default=None)

    def fight_with(self, object_id: ObjectId) -> GitsyncdError:
        """What there is to say of an object whose drift is left alone for now."""
        fight = self._fights.get(object_id, Fight())
        return Conflict(
            f"{fight.manager or 'another writer'} keeps changing it: {fight.total} reverts",
            subject=str(object_id),
            hint="Take the field out of Git, name it under `ignore_fields`, or stop the other writer.",
        )

    def fighting(self) -> frozenset[ObjectId]:
        return frozenset(self._fighting)

    def _standing(self, todo: Plan) -> tuple[tuple[ObjectId, GitsyncdError], ...]:
        """Drift that is seen and left: by policy, or because somebody keeps making it."""
        reported = [
            (
                change.id,
                Conflict(
                    change.reason,
                    subject=str(change.id),
                    hint="This target only reports drift: put it into Git, undo it, or set `drift.action: revert`.",
                ),
            )
            for change in todo.changes
            if change.report_only
        ]
        return (*reported, *((object_id, self.fight_with(object_id)) for object_id in todo.calmed))

    def _note_fights(self, outcomes: Sequence[Outcome]) -> None:
        now = self._clock.monotonic()
        for outcome in outcomes:
            change = outcome.change
            if change.drift is None or outcome.error is not None or outcome.skipped:
                continue
            before = self._fights.pop(change.id, Fight())  # and to the end: they stand in order of their last revert
            after = reverted(before, now, outcome.blame.manager if outcome.blame else None)
            self._fights[change.id] = after
            if after.fighting:
                self._fighting.add(change.id)
            if after.fighting and not before.fighting:
                self._journal.fight(change.id, after.manager, after.total, over=False)

    def _scaled(self, todo: Plan) -> bool:
        """Whether a revert concerns a workload that somebody scaled by its own verb: an autoscaler may be new on the
        cluster.
        """
        return not self._gatherer.autoscalers_stale and any(
            change.operation is Operation.REVERT and change.observed is not None and change.observed.scaled
            for change in todo.changes
        )

    def _report(
        self,
        revision: Revision,
        facts: Facts,
        todo: Plan,
        outcomes: Sequence[Outcome],
        *,
        scope: Collection[ObjectId] | None,
    ) -> TurnReport:
        failures = [(outcome.change.id, outcome.error) for outcome in outcomes if outcome.error is not None]
        again = frozenset(outcome.change.id for outcome in outcomes if _moved(outcome))
        failures = [(object_id, error) for object_id, error in failures if object_id not in again]
        for object_id, error in facts.unseen.items():
            failures.append((object_id, error))
            change = Change(id=object_id, operation=Operation.BLOCK, reason="could not be looked at")
            self._journal.outcome(Outcome(change=change, error=error), str(revision))
        left = self._left(facts, todo) if scope is None else frozenset()
        return TurnReport(
            revision=revision,
            plan=todo,
            standing=self._standing(todo),
            failures=tuple(failures),
            again=again,
            rebuilt=bool(facts.lost),
            partial=scope is not None,
            postponed=self._postponed(facts) if scope is None else (),
            left=left,
            objects=len(facts.desired.manifests) + len(facts.desired.unknown) + len(facts.unseen) - len(left),
            written=sum(outcome.error is None and not outcome.skipped for outcome in outcomes),
            superseded=any(outcome.skipped and not outcome.change.report_only for outcome in outcomes),
        )

    def _left(self, facts: Facts, todo: Plan) -> frozenset[ObjectId]:
        """What is neither on record nor to be written."""
        unrecorded = facts.desired.manifests.keys() - self._whole().entries.keys()
        return frozenset(unrecorded - {change.id for change in todo.changes})

    def _postponed(self, facts: Facts) -> tuple[str, ...]:
        left = facts.inventory.entries.keys() - facts.desired.manifests.keys() - facts.claims.keys()
        if facts.claims_complete or not any(object_id in facts.observed for object_id in left):
            return ()
        return tuple(self._siblings.silent())


def _bulk(todo: Plan) -> bool:
    """A first sync of many objects, none of which waits for the health of another."""
    manifests = [change.manifest for change in todo.changes if change.operation is Operation.CREATE]
    return len(manifests) > BULK and not any(manifest and manifest.controls.depends_on for manifest in manifests)


def _moved(outcome: Outcome) -> bool:
    """Somebody wrote in between: no failure of the object, only a reason to look at it again."""
    return isinstance(outcome.error, Changed) and outcome.change.operation is not Operation.BLOCK
