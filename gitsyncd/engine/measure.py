"""What is true at this moment, as metrics: read from the loops when somebody asks, and from the meter.

Nothing is kept here, and nothing runs while nobody asks.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from gitsyncd.engine.image_control import policy_state, update_state
from gitsyncd.engine.status import state_of
from gitsyncd.model import metric
from gitsyncd.model.immutable import immutable
from gitsyncd.model.inventory import EntryState
from gitsyncd.model.metric import Family, Histogram, Labels, Metric
from gitsyncd.model.plan import Guarded
from gitsyncd.model.report import TargetState

if TYPE_CHECKING:
    from collections.abc import Callable

    from gitsyncd.engine.cluster_view import ClusterView
    from gitsyncd.engine.image_loop import PolicyLoop
    from gitsyncd.engine.meter import Meter
    from gitsyncd.engine.ports import Clock
    from gitsyncd.engine.source_loop import SourceLoop
    from gitsyncd.engine.target_loop import TargetLoop
    from gitsyncd.engine.update_loop import UpdateLoop

Values = dict[Labels, float | Histogram]


@immutable
class Scene:
    """Whom to ask. Made anew for each look, since the loops may have been replaced meanwhile."""

    agent: str
    version: str
    ready: bool
    lag_s: float
    targets: Iterable[TargetLoop]
    sources: Iterable[SourceLoop]
    views: Mapping[str, ClusterView]
    policies: Iterable[PolicyLoop]
    updates: Iterable[UpdateLoop]
    meter: Meter
    clock: Clock


def measure(scene: Scene) -> Iterator[Family]:
    """Every metric of `metric.METRICS`, in that order, one at a time: others may run in between."""
    for each in metric.METRICS:
        yield Family(each, _MEASURES[each](scene))


def _by_target(value: Callable[[Scene, TargetLoop], float | Histogram | None]) -> Callable[[Scene], Values]:
    """One value per target; None where there is none."""

    def values(scene: Scene) -> Values:
        found = ((loop.target.id, value(scene, loop)) for loop in scene.targets)
        return {(target,): number for target, number in found if number is not None}

    return values


def _states(scene: Scene) -> Values:
    return {(loop.target.id, state_of(loop)): 1 for loop in scene.targets}


def _infos(scene: Scene) -> Values:
    return {(loop.target.id, loop.track.source.name, loop.view.cluster.name): 1 for loop in scene.targets}


def _last_sync(scene: Scene, loop: TargetLoop) -> float | None:
    at = scene.meter.in_sync_at.get(loop.target.id)
    return at.timestamp() if at is not None else None


def _objects(scene: Scene) -> Values:
    return {(loop.target.id, state): count for loop in scene.targets for state, count in count_objects(loop).items()}


def count_objects(loop: TargetLoop) -> dict[str, int]:
    """Objects that the target wants or has recorded, each in one state."""
    claims = loop.view.claims.get(loop.target.name)
    wanted = claims.ids - loop.left if claims is not None else frozenset()
    inventory = loop.view.inventories.get(loop.target.name)
    entries = inventory.entries if inventory is not None else {}
    failed = {object_id for object_id in loop.problems if object_id is not None} & (wanted | entries.keys())
    deleting = {i for i, entry in entries.items() if entry.state is EntryState.DELETING} - failed
    unsure = {i for i, entry in entries.items() if entry.state is EntryState.PENDING}
    pending = ((wanted - entries.keys()) | (unsure & wanted)) - failed
    leaving = (entries.keys() - wanted) - failed - deleting
    total = len(wanted | entries.keys())
    return {
        "in-sync": total - len(failed) - len(deleting) - len(pending) - len(leaving),
        "failed": len(failed),
        "pending": len(pending),
        "deleting": len(deleting),
        "leaving": len(leaving),
    }


def _reverted(scene: Scene) -> Values:
    return {
        (loop.target.id, kind, writer): count
        for loop in scene.targets
        for (kind, writer), count in scene.meter.reverted.get(loop.target.id, {}).items()
    }


def _refused(scene: Scene) -> Values:
    """All reasons, those that never were too: what appears with a one is no increase to Prometheus."""
    return {
        (loop.target.id, reason): scene.meter.refused[loop.target.id][reason]
        for loop in scene.targets
        for reason in Guarded
    }


def _polls(scene: Scene) -> Values:
    return {
        (source, result): count
        for source in _source_names(scene)
        for result, count in scene.meter.polls.get(source, {}).items()
    }


def _source_names(scene: Scene) -> list[str]:
    return list(dict.fromkeys(track.source.name for loop in scene.sources for track in loop.tracks))


def _ages(scene: Scene) -> Values:
    now = scene.clock.monotonic()
    ages: Values = {}
    for loop in scene.sources:
        for track in loop.tracks:
            name = (track.source.name,)
            ages[name] = max(_number(ages.get(name, 0.0)), now - track.answered)
    return ages


def _number(value: float | Histogram) -> float:
    assert not isinstance(value, Histogram)
    return value


def _up(scene: Scene) -> Values:
    return {(name,): int(bool(view.uid) and view.error is None) for name, view in scene.views.items()}


def _requests(scene: Scene) -> Values:
    return {
        (name, verb, code): count
        for name, view in scene.views.items()
        for (verb, code), count in view.api.requests.items()
    }


def _watches(scene: Scene) -> Values:
    return {(name,): view.api.watching for name, view in scene.views.items()}


def _image_look_ages(scene: Scene) -> Values:
    now = scene.clock.now()
    # A clock that was set back makes nothing younger than new.
    return {
        (loop.policy.name,): max(0.0, (now - loop.looked_at).total_seconds())
        for loop in scene.policies
        if loop.looked_at is not None
    }


_MEASURES: dict[Metric, Callable[[Scene], Values]] = {
    metric.BUILD_INFO: lambda scene: {(scene.version, platform.python_version(), scene.agent): 1},
    metric.READY: lambda scene: {(): int(scene.ready)},
    metric.LOOP_LAG: lambda scene: {(): scene.lag_s},
    metric.TARGET_IN_SYNC: _by_target(lambda _, loop: int(state_of(loop) is TargetState.IN_SYNC)),
    metric.TARGET_STATE: _states,
    metric.TARGET_INFO: _infos,
    metric.TARGET_OBJECTS: _objects,
    metric.TARGET_LAST_SYNC: _by_target(_last_sync),
    metric.TARGET_ATTEMPT_AGE: _by_target(lambda scene, loop: scene.clock.monotonic() - loop.attempted),
    metric.TARGET_INTERVAL: _by_target(lambda _, loop: loop.target.interval.total_seconds()),
    # Also those without any: what appears with a one is no increase to Prometheus.
    metric.TARGET_TURNS: _by_target(lambda scene, loop: scene.meter.turns[loop.target.id]),
    metric.DRIFT_REVERTED: _reverted,
    metric.REVERTS: _by_target(lambda scene, loop: scene.meter.reverts[loop.target.id]),
    metric.PLAN_REFUSED: _refused,
    metric.SOURCE_POLLS: _polls,
    metric.SOURCE_AGE: _ages,
    metric.CLUSTER_UP: _up,
    metric.API_REQUESTS: _requests,
    metric.WATCHES: _watches,
    metric.IMAGE_POLICY_STATE: lambda scene: {(loop.policy.name, policy_state(loop)): 1 for loop in scene.policies},
    metric.IMAGE_LOOK_AGE: _image_look_ages,
    metric.IMAGE_UPDATE_STATE: lambda scene: {(loop.update.name, update_state(loop)): 1 for loop in scene.updates},
    metric.IMAGE_COMMITS: lambda scene: {(loop.update.name,): loop.commits for loop in scene.updates},
}
