"""What is measured, by name: one table for the endpoint, the reference page, the alerts and the dashboard.

Names without the prefix `gitsyncd_`. Labels hold names of the agent file and words of small sets: never an object, a
commit or an address, so that the number of series follows the agent file alone.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from gitsyncd.model.immutable import immutable

PREFIX = "gitsyncd_"


class MetricType(StrEnum):
    """As OpenMetrics calls them."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@immutable
class Metric:
    """One metric and what it means. Durations are in seconds, and so are moments, since 1970."""

    name: str
    type: MetricType = MetricType.GAUGE
    labels: tuple[str, ...] = ()
    help: str
    buckets: tuple[float, ...] = ()
    """Upper bounds, without the infinite one; of histograms only."""


@dataclass(slots=True)
class Histogram:
    """How often which duration was seen."""

    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    """One for each bound, then one for what is above all of them; not cumulated."""
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = self.counts or [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


Labels = tuple[str, ...]
"""Values in the order of `Metric.labels`."""


@immutable(kw_only=False)
class Family:
    """One metric and all its values at one moment."""

    metric: Metric
    values: Mapping[Labels, float | Histogram]


TARGET_IN_SYNC = Metric(
    name="target_in_sync",
    labels=("target",),
    help="1 if the state of the target is in-sync, else 0.",
)
TARGET_STATE = Metric(
    name="target_state",
    labels=("target", "state"),
    help="1 for the state that the target is in, as `gitsyncd status` shows it; other states have no series.",
)
TARGET_INFO = Metric(
    name="target_info",
    labels=("target", "source", "cluster"),
    help="Always 1: which source and which cluster a target has, to be joined with the others.",
)
TARGET_OBJECTS = Metric(
    name="target_objects",
    labels=("target", "state"),
    help="Objects that Git wants or the inventory holds, each counted once: in-sync, failed (has a problem in "
    "`gitsyncd status`), pending (not applied yet), deleting (a finalizer holds it), leaving (left Git, not deleted).",
)
TARGET_LAST_SYNC = Metric(
    name="target_last_sync_timestamp_seconds",
    labels=("target",),
    help="When a turn last found the target in sync with the admitted revision; missing before the first time.",
)
TARGET_ATTEMPT_AGE = Metric(
    name="target_attempt_age_seconds",
    labels=("target",),
    help="Seconds since the target was last looked at, or its pause was; since the start before the first time.",
)
TARGET_INTERVAL = Metric(
    name="target_interval_seconds",
    labels=("target",),
    help="`interval` of the target: it is looked at at least that often.",
)
TARGET_TURNS = Metric(
    name="target_turn_seconds",
    type=MetricType.HISTOGRAM,
    labels=("target",),
    help="How long turns took, those that failed and those that only reverted drift included.",
    buckets=(0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0),
)
DRIFT_REVERTED = Metric(
    name="drift_reverted_total",
    type=MetricType.COUNTER,
    labels=("target", "kind", "writer"),
    help="Changes made on the cluster and undone, as `drift reverted` logs them: by kind, and by the class of whoever "
    "made them.",
)
REVERTS = Metric(
    name="revert_seconds",
    type=MetricType.HISTOGRAM,
    labels=("target",),
    help="From hearing of a change to the server's answer to its revert.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0),
)
PLAN_REFUSED = Metric(
    name="plan_refused_total",
    type=MetricType.COUNTER,
    labels=("target", "reason"),
    help="Plans whose deletes a guard refused, each counted once: empty (the revision has no object at all), budget "
    "(more deletes than `prune` allows), approval-needed (of a kind or an object that is never deleted unasked).",
)
SOURCE_POLLS = Metric(
    name="source_polls_total",
    type=MetricType.COUNTER,
    labels=("source", "result"),
    help="Times that the remote was asked: ok, or what was wrong: unreachable, denied, not-found, too-large, damaged, "
    "error. With several branches the worst of them.",
)
SOURCE_AGE = Metric(
    name="source_age_seconds",
    labels=("source",),
    help="Seconds since the remote last gave a usable answer; since the start before the first. With several branches "
    "the oldest of them.",
)
CLUSTER_UP = Metric(
    name="cluster_up",
    labels=("cluster",),
    help="1 if the cluster can be used, else 0.",
)
API_REQUESTS = Metric(
    name="api_requests_total",
    type=MetricType.COUNTER,
    labels=("cluster", "verb", "code"),
    help="Requests to the API server, watches included, by verb and HTTP status; code is error where no answer came.",
)
WATCHES = Metric(
    name="watch_connections",
    labels=("cluster",),
    help="Watches that are open.",
)
IMAGE_POLICY_STATE = Metric(
    name="image_policy_state",
    labels=("policy", "state"),
    help="1 for the state that the policy is in, as `gitsyncd images` shows it; other states have no series.",
)
IMAGE_LOOK_AGE = Metric(
    name="image_look_age_seconds",
    labels=("policy",),
    help="Seconds since the registry last gave an answer to choose from; missing before the first.",
)
IMAGE_UPDATE_STATE = Metric(
    name="image_update_state",
    labels=("update", "state"),
    help="1 for the state that the update is in: ready, failed (it cannot be written, or one of its files cannot), "
    "unknown (its repository has not been read yet).",
)
IMAGE_COMMITS = Metric(
    name="image_commits_total",
    type=MetricType.COUNTER,
    labels=("update",),
    help="Commits that were pushed, as `images committed` logs them.",
)
LOOP_LAG = Metric(
    name="loop_lag_seconds",
    help="The latest that the event loop was with a timer within the last minute.",
)
READY = Metric(
    name="ready",
    help="1 once every target has had its first turn, or failed it, as /readyz says; else 0.",
)
BUILD_INFO = Metric(
    name="build_info",
    labels=("version", "python", "agent"),
    help="Always 1.",
)

METRICS: tuple[Metric, ...] = (
    BUILD_INFO,
    READY,
    LOOP_LAG,
    TARGET_IN_SYNC,
    TARGET_STATE,
    TARGET_INFO,
    TARGET_OBJECTS,
    TARGET_LAST_SYNC,
    TARGET_ATTEMPT_AGE,
    TARGET_INTERVAL,
    TARGET_TURNS,
    DRIFT_REVERTED,
    REVERTS,
    PLAN_REFUSED,
    SOURCE_POLLS,
    SOURCE_AGE,
    CLUSTER_UP,
    API_REQUESTS,
    WATCHES,
    IMAGE_POLICY_STATE,
    IMAGE_LOOK_AGE,
    IMAGE_UPDATE_STATE,
    IMAGE_COMMITS,
)
"""All of them, in the order of the page."""
