"""What is said of a turn: the log events of one target, and nothing twice.

The events and their keys are a promise to whoever reads the log with a program: `docs/reference/log.md`. What is said
and has to be counted is counted here, too.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from gitsyncd.core.admission import QUARANTINED, REWOUND
from gitsyncd.core.fields import MAX_PATHS
from gitsyncd.core.plan import DELETED_ON_CLUSTER
from gitsyncd.engine.meter import Meter
from gitsyncd.model.errors import Changed, GitsyncdError, RenderError, StateError
from gitsyncd.model.observed import Writer
from gitsyncd.model.plan import DriftKind, Operation
from gitsyncd.model.units import rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from gitsyncd.core.ledger import Outcome
    from gitsyncd.engine.ports import Clock, Log
    from gitsyncd.model.ids import ObjectId
    from gitsyncd.model.observed import Addition, Blame
    from gitsyncd.model.plan import Plan
    from gitsyncd.model.source import Revision

_DONE = {
    Operation.CREATE: "created",
    Operation.UPDATE: "updated",
    Operation.REVERT: "updated",
    Operation.ADOPT: "adopted",
    Operation.RECREATE: "recreated",
}


class Journal:
    """The log of one target. Remembers what has been said once and must not be repeated."""

    def __init__(self, target: str, *, log: Log, clock: Clock, meter: Meter | None = None) -> None:
        """Without a `meter` what is counted is lost."""
        self._target = target
        self._meter = meter or Meter()
        self._log = log
        self._clock = clock
        self._foreign_told: dict[ObjectId, set[str]] = defaultdict(set)
        self._failures_told: dict[ObjectId, str] = {}
        self._drift_told: dict[ObjectId, str] = {}
        self._refusal_told = ""

    def plan_made(self, plan: Plan) -> None:
        changes = [change for change in (*plan.changes, *plan.withheld) if not change.report_only]
        count = Counter(change.operation for change in changes)
        say = self._log.info if changes else self._log.debug
        say(
            "plan made",
            target=self._target,
            revision=plan.revision,
            create=count[Operation.CREATE],
            update=count[Operation.UPDATE] + count[Operation.ADOPT],
            revert=count[Operation.REVERT],
            prune=count[Operation.PRUNE],
            keep=plan.keep,
            plan=plan.digest,
        )

    def foreign_fields(self, plan: Plan) -> None:
        """What others added and what stays, also where that is all there is to say of a plan."""
        for object_id, addition in plan.foreign:
            self._foreign(object_id, addition)

    def plan_refused(self, plan: Plan) -> None:
        """Once per plan: the same one is refused at every full look until somebody does something about it."""
        assert plan.refused is not None
        news = self._refusal_told != plan.digest
        say = self._log.error if news else self._log.debug
        self._refusal_told = plan.digest
        if news:
            self._meter.refuses(self._target, plan.refused.guarded)
        say(
            "plan refused",
            target=self._target,
            revision=plan.revision,
            plan=plan.digest,
            reason=plan.refused.reason,
            prune=plan.refused.prune,
            limit=plan.refused.limit,
            **explain(refusal_hint(self._target, plan)),
        )

    def render_failed(self, revision: Revision, error: GitsyncdError) -> None:
        # The caps of a repository are met before any file is read as a manifest: such an error names its file, too.
        where = (error.file, error.line) if isinstance(error, RenderError) else (error.subject, 0)
        self._log.error(
            "render failed",
            target=self._target,
            revision=str(revision),
            file=where[0],
            line=where[1],
            error=error.message,
            remedy=error.remedy,
            hint=error.hint,
        )

    def outcome(self, outcome: Outcome, revision: str) -> None:
        """One line per object that was written, or could not be."""
        change = outcome.change
        if isinstance(outcome.error, Changed) and change.operation is not Operation.BLOCK:
            return  # it is looked at again at once
        if outcome.error is not None:
            self._failed(outcome)
            return
        self._failures_told.pop(change.id, None)
        if change.report_only:
            self._found(outcome)
            return
        if outcome.skipped:
            return
        self._drift_told.pop(change.id, None)
        if change.operation in {Operation.RELEASE, Operation.PRUNE}:
            self._foreign_told.pop(change.id, None)  # names may never come again
        if change.operation is Operation.RELEASE:
            self._log.info("object released", target=self._target, object=str(change.id), reason=change.reason)
        elif change.operation is Operation.PRUNE:
            if outcome.observed is None:
                self._log.info("object pruned", target=self._target, object=str(change.id), reason=change.reason)
        elif change.operation is Operation.REVERT or change.reason == DELETED_ON_CLUSTER:
            self._reverted(outcome)
        else:
            self._log.info(
                "object applied",
                target=self._target,
                object=str(change.id),
                operation=_DONE[change.operation],
                reason=change.reason,
                revision=revision,
            )

    def _reverted(self, outcome: Outcome) -> None:
        if outcome.change.drift is DriftKind.CHANGED and not outcome.fields:
            # The fields concerned are no longer ours to send (another manager owns what `ignore_fields` names): the
            # record was brought up to date and nothing was put back.
            self._log.debug("drift reverted", **self._drift(outcome))
            return
        self._log.warning("drift reverted", **self._drift(outcome))
        self._meter.undid(
            self._target, outcome.change.drift or DriftKind.DELETED, _writer(outcome.blame), outcome.took_s
        )

    def _found(self, outcome: Outcome) -> None:
        version = outcome.change.observed.resource_version if outcome.change.observed else "absent"
        if self._drift_told.get(outcome.change.id) != version:
            self._drift_told[outcome.change.id] = version
            self._log.warning("drift found", **self._drift(outcome))

    def _drift(self, outcome: Outcome) -> dict[str, Any]:
        change, blame = outcome.change, outcome.blame
        at = blame.at if blame is not None else None
        return {
            "target": self._target,
            "object": str(change.id),
            "kind": change.drift,
            "fields": list(outcome.fields[:MAX_PATHS]),
            "manager": blame.manager if blame is not None else None,
            "writer": _writer(blame),
            "at": rfc3339(at or self._clock.now()),
            "took_s": round(outcome.took_s, 4),
        }

    def _foreign(self, object_id: ObjectId, addition: Addition) -> None:
        """Once per object and manager."""
        if addition.manager in self._foreign_told[object_id]:
            return
        self._foreign_told[object_id].add(addition.manager)
        self._log.warning(
            "foreign field",
            target=self._target,
            object=str(object_id),
            fields=list(addition.fields),
            manager=addition.manager,
            writer=addition.writer,
            hint=_foreign_hint(addition),
        )

    def _failed(self, outcome: Outcome) -> None:
        """A failure is said when it is new or has changed, not at every retry."""
        change, error = outcome.change, outcome.error
        assert error is not None
        level = self._log.error if self._failures_told.get(change.id) != error.message else self._log.debug
        self._failures_told[change.id] = error.message
        level(
            "object failed",
            target=self._target,
            object=str(change.id),
            operation=change.operation,
            error=error.message,
            **explain(error),
        )

    def pruned_at_last(self, object_id: ObjectId) -> None:
        self._log.info("object pruned", target=self._target, object=str(object_id), reason="deleted at last")

    def fight(self, object_id: ObjectId, manager: str | None, reverts: int, *, over: bool) -> None:
        say = self._log.info if over else self._log.error
        say(
            "fight over" if over else "fight detected",
            target=self._target,
            object=str(object_id),
            manager=manager,
            reverts=reverts,
        )

    def in_sync(self, revision: Revision, objects: int, took_s: float, *, news: bool) -> None:
        say = self._log.info if news else self._log.debug
        self._meter.in_sync_at[self._target] = self._clock.now()
        say("target in sync", target=self._target, revision=str(revision), objects=objects, took_s=round(took_s, 4))

    def target_failed(self, revision: str, failed: int, error: GitsyncdError, retry_s: float) -> None:
        self._log.error(
            "target failed",
            target=self._target,
            revision=revision,
            failed=failed,
            error=str(error),
            retry_s=round(retry_s, 1),
            **explain(error),
        )

    def inventory_lost(self, revision: Revision, what: str) -> None:
        """Said by the turn that rebuilds it; the next one is as any other."""
        error = StateError(
            f"{what}: it is rebuilt from the marks on the objects, and this turn deletes nothing",
            subject=self._target,
            hint="Nothing to do for the objects; find out who changes the agent's own ConfigMaps.",
        )
        self.target_failed(str(revision), 0, error, 0.0)

    def turned(self, took_s: float) -> None:
        """A turn is over, good or bad. It is only counted: what came of it is said by the other methods."""
        self._meter.turned(self._target, took_s)

    def waiting(self, reason: str) -> None:
        self._log.info("target waiting", target=self._target, **{"for": reason})


def _writer(blame: Blame | None) -> Writer:
    return (blame.writer if blame is not None else None) or Writer.UNKNOWN


def explain(error: GitsyncdError | str) -> dict[str, str]:
    """The keys `remedy` and `hint`; a bare string is the hint of something to approve."""
    if isinstance(error, str):
        return {"remedy": "approve", "hint": error}
    return {"remedy": error.remedy, "hint": error.hint}


def refusal_hint(target: str, plan: Plan) -> str:
    """What to type to let a refused plan through."""
    return f"Look at it with `gitsyncd plan {target}`; if it is meant: gitsyncd approve {target} --plan {plan.digest}"


def held_hint(source: str, commit: str, reason: str = REWOUND) -> str:
    """What to type to admit a held revision."""
    asked = "it may come back" if reason == QUARANTINED else "the history was rewritten on purpose"
    return f"If {asked}: gitsyncd approve {source} --revision {commit}"


def summary(errors: Sequence[GitsyncdError]) -> GitsyncdError:
    """One error for many: the first, and how many more there are."""
    first = errors[0]
    if len(errors) == 1:
        return first
    return type(first)(f"{first.message} (and {len(errors) - 1} more)", subject=first.subject, hint=first.hint)


def _foreign_hint(addition: Addition) -> str:
    if addition.keep:
        return "Kept: it restarts pods and changes nothing that Git names."
    return (
        f'If `{addition.manager}` may do this, add `agent: {{writers: {{controller: ["{addition.manager}"]}}}}` to the '
        f'agent file; if it may not, `{{person: ["{addition.manager}"]}}` has such fields removed.'
    )
