"""What people ask of a running daemon: sync, approve, suspend, resume, history, rollback.

Answers are plain values, ready to be written as JSON. Does not belong here: what is only shown (`status`), deleting
(`removal`), images (`image_control`), and how a request arrives (`edges/web`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from gitsyncd.engine.status import choose, moment
from gitsyncd.engine.target_loop import Suspension
from gitsyncd.model.errors import UsageError
from gitsyncd.model.report import TargetState
from gitsyncd.model.units import rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gitsyncd.engine.chronicle import Chronicle
    from gitsyncd.engine.image_control import ImageControl
    from gitsyncd.engine.ports import Calendar, Clock, Store
    from gitsyncd.engine.removal import Removal
    from gitsyncd.engine.rollback import Rollback
    from gitsyncd.engine.source_loop import SourceLoop
    from gitsyncd.engine.status import Status
    from gitsyncd.engine.target_loop import TargetLoop
    from gitsyncd.model.history import Passage

_SUSPENSIONS = "suspensions"


class Control:
    """The daemon as its commands see it."""

    def __init__(
        self,
        targets: Sequence[TargetLoop],
        sources: Sequence[SourceLoop],
        chronicles: Mapping[str, Chronicle],
        rollbacks: Rollback,
        *,
        status: Status,
        images: ImageControl,
        removal: Removal,
        calendar: Calendar,
        clock: Clock,
        store: Store,
    ) -> None:
        self.status = status
        self.images = images
        self.removal = removal
        self._targets = targets
        self._sources = sources
        self._chronicles = chronicles
        self._rollbacks = rollbacks
        self._calendar = calendar
        self._clock = clock
        self._store = store

    # --- sync ----------------------------------------------------------------------------------------------------

    async def sync(self, names: Sequence[str], *, wait: bool) -> dict[str, Any]:
        """Look at the remote and at the cluster now.

        With `wait`, until the turn is over and the target healthy, failed or timed out.
        """
        chosen = self._chosen(names)
        before = {loop.target.id: loop.finished for loop in chosen}
        for source in self._sources:
            if any(loop.track in source.tracks for loop in chosen):
                await source.look()
        for loop in chosen:
            loop.bell.ring()
        healthy = (
            await asyncio.gather(*(self._settled(loop, before[loop.target.id]) for loop in chosen)) if wait else []
        )
        return {"synced": all(healthy) and self.status.in_sync(names) if wait else None, **self.status.of(names)}

    async def _settled(self, loop: TargetLoop, turns_before: int) -> bool:
        await loop.tried.wait()  # a step before the cluster was first asked is no turn
        await loop.until_turned(turns_before)
        while loop.state is TargetState.SYNCING:
            await loop.until_turned(loop.finished)
        if loop.state is not TargetState.IN_SYNC or loop.track.error is not None:
            return False  # what the remote could not be asked for is not in sync
        return not loop.target.wait or await loop.until_healthy(lambda: loop.state is not TargetState.SYNCING)

    # --- approvals -----------------------------------------------------------------------------------------------

    def approve_plan(self, name: str, digest: str) -> dict[str, Any]:
        """Let exactly that refused plan through, once.

        Raises `UsageError` when it is not the plan that is refused now.
        """
        for loop in self._chosen([name]):
            # Whole: whoever may push could search for another plan with the same first digits.
            if loop.refused is not None and loop.refused.digest == digest:
                loop.reconciler.approved.add(loop.refused.digest)
                loop.bell.ring()
                return {"approved": loop.refused.digest, "target": loop.target.id}
        raise UsageError(
            f"{digest} is not a plan that {name} has refused now",
            hint=f"See what is refused now: gitsyncd plan {name}",
        )

    async def approve_revision(self, source: str, commit: str) -> dict[str, Any]:
        """Admit exactly that held head, once. Raises `UsageError` when it is not the head that is held."""
        tracks = [track for loop in self._sources for track in loop.tracks if track.source.name == source]
        if not tracks:
            names = sorted({track.source.name for loop in self._sources for track in loop.tracks})
            raise UsageError(f"there is no source {source!r}", hint=f"Sources: {', '.join(names)}")
        for track in tracks:
            # Whole: whoever may push could search for another commit with the same first digits.
            if track.head == commit and await track.approve(commit):
                return {"approved": track.head, "source": source}
        raise UsageError(
            f"{commit} is not a head of {source} that is held now", hint="See which revision is held: gitsyncd status"
        )

    # --- going back ----------------------------------------------------------------------------------------------

    async def history(self, name: str, limit: int | None) -> dict[str, Any]:
        """Each revision of a target, the newest first. Raises `UsageError`, `ClusterError`."""
        shown = []
        for loop in self._chosen([name]):
            history = await self._chronicles[loop.target.id].history()
            shown.append(
                {
                    "target": loop.target.id,
                    "revisions": [
                        {**_passage(passage), "made_from": self.images.made_from(passage.images or ())}
                        for passage in history.passages[:limit]
                    ],
                    "damage": history.damage or None,
                }
            )
        return {"targets": shown}

    async def rollback(
        self, name: str, to: str, *, confirmed: bool, reason: str, by_request: bool = False
    ) -> dict[str, Any]:
        """Write the commit that takes a target back, or only say what it would be.

        Raises `UsageError` for a wrong question, `SourceError` when it could not be pushed.
        """
        chosen = self._chosen([name])
        if len(chosen) > 1:
            ids = ", ".join(loop.target.id for loop in chosen)
            raise UsageError(f"{name} is on several clusters: {ids}", hint="Name one of them as TARGET@CLUSTER.")
        loop = chosen[0]
        history = await self._chronicles[loop.target.id].history()
        way = await self._rollbacks.way(loop, to, history, by_request=by_request)
        if not confirmed:
            return way.as_json()
        return await self._rollbacks.commit(loop, way, reason, by_request=by_request)

    # --- pausing -------------------------------------------------------------------------------------------------

    def suspend(self, name: str, duration: timedelta, reason: str) -> dict[str, Any]:
        """Pause with an end."""
        until = self._clock.now() + duration
        for loop in self._chosen([name]):
            loop.suspend(Suspension(until, reason))
            self._calendar.at(loop.target.id, until, loop.bell.ring)
        self._remember_suspensions()
        return self.status.of([name])

    def resume(self, name: str) -> dict[str, Any]:
        """End a pause that `suspend` began. Raises `UsageError` for one that stands in the agent file."""
        for loop in self._chosen([name]):
            if loop.target.suspend:
                raise UsageError(
                    f"{loop.target.id} is suspended in the agent file", hint="Remove `suspend: true` from the target."
                )
            loop.resume()
        self._remember_suspensions()
        return self.status.of([name])

    def restore_suspensions(self) -> None:
        """After a restart: what was suspended stays so until its time is over."""
        stored = self._store.load(_SUSPENSIONS)
        for loop in self._targets:
            kept = stored.get(loop.target.id)
            if isinstance(kept, Mapping) and loop.suspension is None:
                until = datetime.fromisoformat(str(kept["until"]))
                loop.suspension = Suspension(until, str(kept.get("reason", "")))
                self._calendar.at(loop.target.id, until, loop.bell.ring)

    def _remember_suspensions(self) -> None:
        self._store.save(
            _SUSPENSIONS,
            {
                loop.target.id: {"until": rfc3339(loop.suspension.until), "reason": loop.suspension.reason}
                for loop in self._targets
                if loop.suspension is not None and loop.suspension.until is not None
            },
        )

    def _chosen(self, names: Sequence[str]) -> list[TargetLoop]:
        """Loops by `name` or `name@cluster`. Raises `UsageError` for a name that matches none."""
        return choose(self._targets, names)


def _passage(passage: Passage) -> dict[str, Any]:
    return {
        "revision": passage.revision,
        "commit": passage.commit,
        "admitted": moment(passage.admitted),
        "applied": moment(passage.applied),
        "in_sync": moment(passage.in_sync),
        "healthy": moment(passage.healthy),
        "failed": moment(passage.failed),
        "error": passage.error or None,
        "images": list(passage.images) if passage.images is not None else None,
    }
