"""When a target takes a turn, and what became of it. One worker per target: two turns never overlap.

Belongs here: waiting, retrying, suspending, the state that `status` shows. Does not belong here: the steps of a turn
(`reconcile`), and what is decided in it (`core`).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from gitsyncd.core.backoff import next_delay
from gitsyncd.engine.journal import summary
from gitsyncd.engine.supervise import bug
from gitsyncd.engine.trigger import Bell, Wake
from gitsyncd.model.errors import (
    Changed,
    ClusterError,
    GitsyncdError,
    Remedy,
    RenderError,
    RevisionNotTrusted,
    SourceError,
    StandingBy,
    Throttled,
)
from gitsyncd.model.immutable import immutable
from gitsyncd.model.report import Health, HealthStatus, TargetState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from gitsyncd.engine.cluster_view import ClusterView
    from gitsyncd.engine.facts import Gatherer
    from gitsyncd.engine.journal import Journal
    from gitsyncd.engine.ports import Clock
    from gitsyncd.engine.reconcile import Reconciler, TurnReport
    from gitsyncd.engine.source_loop import Track
    from gitsyncd.model.ids import ObjectId
    from gitsyncd.model.plan import Plan
    from gitsyncd.model.source import Revision
    from gitsyncd.model.target import Target

_AGAIN_BASE_S = 0.05
_AGAIN_CAP_S = 5.0
_OVERDUE_S = 900.0
"""A turn ends at the object in hand when its time is over, and a loop that met a bug is begun again within six minutes:
what is later still hangs."""
_FIRST_S = 3600.0
"""Beside what the first fetch may take. By then every cluster and every source has answered, or is known not to."""


def _timers() -> float:
    """The clock that wakes loops. Unlike the other it stands still while the machine sleeps: nothing is late then."""
    return asyncio.get_running_loop().time()


@immutable(kw_only=False)
class Suspension:
    """Paused by a person until a moment (None: until the agent file says otherwise)."""

    until: datetime | None
    reason: str


class TargetLoop:
    """The worker of one target, and its state."""

    def __init__(
        self,
        target: Target,
        view: ClusterView,
        track: Track,
        gatherer: Gatherer,
        reconciler: Reconciler,
        journal: Journal,
        *,
        clock: Clock,
    ) -> None:
        self.target = target
        self.view = view
        self.track = track
        self.reconciler = reconciler
        self.bell = Bell()
        self.state = TargetState.UNKNOWN
        self.since: datetime = clock.now()
        self.revision: Revision | None = None
        """The one that the last full turn worked with."""
        self.problems: dict[ObjectId | None, GitsyncdError] = {}
        """By object; None for the target as a whole."""
        self.left: frozenset[ObjectId] = frozenset()
        """Objects that Git names and that are left to others, as of the last full look."""
        self.refused: Plan | None = None
        self.held_back = False
        """The admitted commit does not descend from what this cluster's own record says was applied."""
        self.unreadable = ""
        """The commit that cannot be rendered: drift is healed towards the one before."""
        self.last_turn: datetime | None = None
        self.suspension = self._standing_suspension()
        self.tried = asyncio.Event()
        """Set after the first turn, good or bad."""
        self.finished = 0
        """Turns that are over."""
        self.attempted = clock.monotonic()
        """When the last step was over, good or bad; at first, when this was made."""
        self.turn_over = asyncio.Event()
        self.over: set[asyncio.Event] = set()
        """Set after each turn: for those who follow along."""
        self.turning = asyncio.Lock()
        self._gatherer = gatherer
        self._journal = journal
        self._clock = clock
        self._failures = 0
        self._again = 0
        self._stopping = False
        self._full_due = clock.monotonic()
        self._objects = 0
        self._news_by = _timers()
        """When the turn in progress should be over, or else the next one begin."""
        self._first_by = self._news_by + target.source.timeout.total_seconds() + _FIRST_S
        self._before = TargetState.UNKNOWN
        """The state before the turn in progress."""
        self._since_before: tuple[datetime, Revision | None] = (self.since, None)
        """Since when, and with which revision."""

    # --- the loop ------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Wait for a reason to look, look, and so on for ever."""
        self.bell.ring()
        while True:
            wait = max(0.0, self._next_look() - self._clock.monotonic())
            self._news_by = _timers() + wait
            wake = await self.bell.wait(wait)
            async with self.turning:
                self._news_by = _timers() + self.target.timeout.total_seconds()
                await self._step(wake)
            self.finished += 1
            self.attempted = self._clock.monotonic()
            self.turn_over.set()
            self.turn_over = asyncio.Event()
            for event in self.over:
                event.set()

    @property
    def on_schedule(self) -> bool:
        """Whether it is in a turn that is not overdue, or has one coming. If not, it hangs or was forgotten."""
        now = _timers()
        return now < self._news_by + _OVERDUE_S and (self.tried.is_set() or now < self._first_by)

    def _next_look(self) -> float:
        fight = self.reconciler.next_fight_look()
        return self._full_due if fight is None else min(self._full_due, fight)

    async def _step(self, wake: Wake) -> None:
        if self._suspended():
            await self._rest()
            return
        revision = self.track.admitted
        if revision is None:
            await self._without_revision()
            return
        if not self.view.asked:
            self._full_due = self._clock.monotonic() + self.target.interval.total_seconds()
            self._gatherer.render_ahead(revision)
            return  # its first answer, good or bad, rings
        if isinstance(self.view.error, StandingBy):
            self._stand_by(self.view.error)
            return
        fights = self.reconciler.fighting()
        wanted = self.view.claims[self.target.name].ids
        full = (
            wake.everything
            or not wake.ids
            or self.revision is None
            or revision.commit not in {self.revision.commit, self.unreadable}
            or not self._gatherer.inventory().trusted
            or not wake.ids <= wanted  # an object that is to go, or that nobody recorded
        )
        due = self._clock.monotonic() >= self._full_due
        scope = None if full and (due or wake.everything or not fights) else wake.ids | fights
        begun = self._clock.monotonic()
        try:
            await self._turn(revision, scope)
        except GitsyncdError as error:
            self._failed(revision, error)
        except Exception as error:  # noqa: BLE001 - a bug in one target's turn must not end its loop
            self._failed(revision, bug(error))
        self._journal.turned(self._clock.monotonic() - begun)
        self.tried.set()

    async def _turn(self, revision: Revision, scope: frozenset[ObjectId] | None) -> None:
        begun = self._clock.monotonic()
        deadline = begun + self.target.timeout.total_seconds()
        served = self.view.resources
        asked = revision
        if scope is None:
            self._enter(TargetState.SYNCING)
            self.view.require()  # what this cluster's record says is not known before
            old = self.view.heritage(self.target)
            floor = self._gatherer.inventory().commit or (old.commit if old is not None else "")
            revision = await self.track.trusted(asked, floor)
            self.held_back = revision is not asked

        def superseded() -> bool:
            newest = self.track.admitted
            return (
                self._stopping
                or self.suspension is not None
                or self.view.error is not None
                or self._clock.monotonic() > deadline
                or (newest is not None and newest.commit != asked.commit)
            )

        report = await self.reconciler.turn(revision, scope, superseded)
        self.last_turn = self._clock.now()
        took_s = self._clock.monotonic() - begun
        self._digest(report, revision, scope, took_s)
        if report.again:
            await self._soon(report.again)
        elif report.partial and report.written and self.problems:
            self.bell.ring()  # what was put right may be what the others lacked: their namespace, say
        elif self._late(report, took_s):
            pass  # tried again as any failure is
        elif report.superseded or report.rebuilt or self.view.resources is not served:
            self.bell.ring()  # kinds that this turn defined are to be watched from now on

    def _digest(self, report: TurnReport, revision: Revision, scope: frozenset[ObjectId] | None, took_s: float) -> None:
        """From the report of a turn to the state of the target."""
        failures: dict[ObjectId | None, GitsyncdError] = dict(report.failures)
        if self._late(report, took_s):
            failures[None] = GitsyncdError(
                f"the turn was not over within {took_s:.0f} s and goes on in the next one",
                subject=self.target.id,
                hint="See which objects take so long: gitsyncd status; or raise `timeout` of this target.",
            )
        not_looked_at: dict[ObjectId | None, GitsyncdError] = {}
        if scope is not None:
            not_looked_at = {key: error for key, error in self.problems.items() if key is None or key not in scope}
        self.problems = {**not_looked_at, **failures}
        self.problems.update(report.standing)
        moved = self.revision is None or self.revision.commit != revision.commit
        if scope is None:
            self.revision = revision
            self.refused = report.plan if report.plan.refused is not None else None
            self._objects = report.objects
            self.left = report.left
            self._full_due = self._clock.monotonic() + self.target.interval.total_seconds()
        if failures:
            self._retry_later(revision, list(self.problems.values()), partial=report.partial)
        elif not not_looked_at:
            self._failures = 0
            if not report.again:
                self._again = 0
                if not report.superseded and not report.rebuilt:
                    self._conclude(report, revision, took_s, moved=moved)

    def _late(self, report: TurnReport, took_s: float) -> bool:
        """Whether the turn ended early for no other reason than its time."""
        newest = self.track.admitted
        other = (
            self._stopping or self.suspension or self.view.error or (newest and newest.commit != report.revision.commit)
        )
        return report.superseded and took_s > self.target.timeout.total_seconds() and not other

    def _conclude(self, report: TurnReport, revision: Revision, took_s: float, *, moved: bool) -> None:
        """Nothing failed and nothing is left to be done at once: which state is that?"""
        if report.partial and self.state is TargetState.SYNCING:
            return  # the full turn that is about to come will say
        before = self.state if report.partial else self._before
        state = self._calm_state(report)
        if not report.partial or TargetState.FAILED in {before, state}:
            self._enter(state)
        if state is TargetState.WAITING:
            self._postpone(report.postponed, news=moved or before is not TargetState.WAITING)
        elif state in {TargetState.IN_SYNC, TargetState.HELD}:
            told = not moved and before is TargetState.IN_SYNC
            small = report.partial and before is not TargetState.FAILED
            self._journal.in_sync(revision, self._objects, took_s, news=not told and not small)

    def _calm_state(self, report: TurnReport) -> TargetState:
        if report.standing:
            return TargetState.FAILED
        if self.refused is not None:
            return TargetState.REFUSED
        if self.track.held or self.held_back:
            return TargetState.HELD
        return TargetState.WAITING if report.postponed else TargetState.IN_SYNC

    def _postpone(self, names: Sequence[str], *, news: bool) -> None:
        """What left Git may have moved to a target that cannot say so now: nothing of it is deleted before."""
        others = ", ".join(f"{name}@{self.view.cluster.name}" for name in names)
        reason = f"deletes are postponed until it is known what {others} wants: an object may have moved there"
        self.problems = {None: GitsyncdError(reason, hint=f"See what keeps it: gitsyncd status {others.split(',')[0]}")}
        if news:
            self._journal.waiting(reason)

    @property
    def objects(self) -> int:
        """Objects that Git wanted at the last full turn."""
        return self._objects

    def _retry_later(self, revision: Revision, errors: list[GitsyncdError], *, partial: bool) -> None:
        self._failures += 1
        delay = self._delay(errors)
        self._full_due = self._clock.monotonic() + delay
        self._enter(TargetState.FAILED)
        if not partial or self._failures == 1:
            self._journal.target_failed(str(revision), len(errors), summary(errors), delay)

    def _delay(self, errors: list[GitsyncdError]) -> float:
        """Seconds until the next try. What only a new revision can mend is not tried hot."""
        if all(isinstance(error, RenderError) and error.remedy is Remedy.FIX_REPO for error in errors):
            return self.target.interval.total_seconds()
        base = self.target.retry_interval
        delay = next_delay(
            self._failures, base=base, cap=self.target.interval, jitter=self._clock.jitter()
        ).total_seconds()
        asked = max((error.retry_after_s for error in errors if isinstance(error, Throttled)), default=0.0)
        return max(delay, asked)

    def _failed(self, revision: Revision, error: GitsyncdError) -> None:
        """A turn that could not be begun, or not be ended."""
        self.problems = {None: error}
        self.last_turn = self._clock.now()
        if isinstance(error, RevisionNotTrusted):
            self._enter(TargetState.HELD)
            self._full_due = self._clock.monotonic() + self.target.interval.total_seconds()
            return
        if isinstance(error, RenderError):
            self.unreadable = revision.commit
        if isinstance(error, RenderError | SourceError):
            self._journal.render_failed(revision, error)
        if isinstance(error, ClusterError) and error is self.view.error:
            # Said once by the cluster; its recovery rings every target.
            self._enter(TargetState.UNKNOWN)
            self._full_due = self._clock.monotonic() + self.target.interval.total_seconds()
            return
        self._failures += 1
        # Somebody else wrote the inventory: it was read afresh, and the turn is begun again at once.
        delay = 1.0 if isinstance(error, Changed) and self._failures == 1 else self._delay([error])
        self._full_due = self._clock.monotonic() + delay
        self._enter(TargetState.FAILED)
        self._journal.target_failed(str(revision), 1, error, delay)

    async def _without_revision(self) -> None:
        """Nothing is admitted: the source has not answered, or never had a commit."""
        self._full_due = self._clock.monotonic() + self.target.interval.total_seconds()
        error = self.track.error
        if error is not None or self.track.held:
            self.problems = {None: error} if error is not None else {}
            self._enter(TargetState.HELD if self.track.held else TargetState.UNKNOWN)
            self.tried.set()
        elif not self.track.looked.is_set():
            self._enter(TargetState.UNKNOWN)

    def _stand_by(self, error: StandingBy) -> None:
        """Another daemon writes to this cluster, and only it knows how the target fares."""
        if str(self.problems.get(None)) != str(error):
            self._journal.waiting(error.message)
        self.problems, self.refused = {None: error}, None
        self._full_due = self._clock.monotonic() + self.target.interval.total_seconds()
        self._enter(TargetState.WAITING)
        self.tried.set()

    async def _soon(self, ids: frozenset[ObjectId]) -> None:
        """Objects that changed under our hands are looked at again at once, but never in a hot loop."""
        self._again += 1
        await asyncio.sleep(min(_AGAIN_BASE_S * 2 ** min(self._again, 10), _AGAIN_CAP_S))
        self.view.doubt(ids)
        if self.state is TargetState.SYNCING:
            self.bell.ring()
        else:
            self.bell.ring(ids)

    def _enter(self, state: TargetState) -> None:
        if state is TargetState.SYNCING and self.state is not TargetState.SYNCING:
            self._before, self._since_before = self.state, (self.since, self.revision)
        if state is not self.state:
            since, revision = self._since_before
            # A turn that changed nothing ended nothing: what fails at every try has failed since the first one.
            unchanged = self.state is TargetState.SYNCING and state is self._before and revision == self.revision
            self.state = state
            self.since = since if unchanged else self._clock.now()

    # --- what people ask for -------------------------------------------------------------------------------------

    def _suspended(self) -> bool:
        suspension = self.suspension
        if suspension is None:
            return False
        if suspension.until is not None and self._clock.now() >= suspension.until:
            self.resume()
        return self.suspension is not None

    def _standing_suspension(self) -> Suspension | None:
        return Suspension(None, "`suspend: true` in the agent file") if self.target.suspend else None

    async def _rest(self) -> None:
        """Suspended: nothing is looked at on the cluster, but the other targets still hear what this one wants."""
        assert self.suspension is not None
        self._enter(TargetState.SUSPENDED)
        wait = self.target.interval.total_seconds()
        if self.suspension.until is not None:
            # The calendar rings at that moment; this is for one that rang a little early.
            wait = min(wait, max((self.suspension.until - self._clock.now()).total_seconds(), _AGAIN_BASE_S))
        self._full_due = self._clock.monotonic() + wait
        if self.track.admitted is not None and self.view.resources:
            try:
                await self._gatherer.desire(self.track.admitted)
            except GitsyncdError as error:
                self.problems = {None: error}
        self.tried.set()

    def suspend(self, suspension: Suspension) -> None:
        """From the next object on nothing more is done."""
        self.suspension = suspension
        self._journal.waiting(f"suspended: {suspension.reason}")
        self.bell.ring()

    def stop(self) -> None:
        """The turn in progress ends at the next object, and nobody waits for its first one any more."""
        self._stopping = True
        self.tried.set()

    def resume(self) -> None:
        """End what `suspend` began; what the agent file says stands."""
        self.suspension = self._standing_suspension()
        self._enter(TargetState.UNKNOWN)
        self.bell.ring()

    def health(self) -> Health:
        """The worst health among the objects that Git wants and that are not left to others."""
        claims = self.view.claims.get(self.target.name)
        if claims is None or not (claims.ids or claims.commit):
            return Health(HealthStatus.UNKNOWN)
        return self.reconciler.health(claims.ids - self.left)

    async def until_turned(self, after: int) -> None:
        """Until a turn that began after `after` turns had ended is over, and none is due at once."""
        while self.finished <= after:
            await self.turn_over.wait()

    async def until_healthy(self, is_done: Callable[[], bool]) -> bool:
        """Until every object is current, one has failed for good, or the target's wait is over.

        Whether all are current.
        """
        news = asyncio.Event()
        self.view.news.add(news)
        try:
            async with asyncio.timeout(min(self.target.wait_timeout, self.target.timeout).total_seconds()):
                while True:
                    health = self.health()
                    if health.status is HealthStatus.CURRENT and is_done():
                        return True
                    if health.status is HealthStatus.FAILED:
                        return False
                    news.clear()
                    await news.wait()
        except TimeoutError:
            return False
        finally:
            self.view.news.discard(news)
