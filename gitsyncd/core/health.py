"""Is a live object what it should be? A pure function of the object and the time, in kstatus' words.

The rules are those of kstatus (kubernetes-sigs/cli-utils, pkg/kstatus/status: generic.go, core.go). What differs:

- Job: current when it is complete, not when it is started (fluxcd/pkg, runtime/statusreaders/job.go).
- Pod: a failed one is failed, and the reason that a container waits for is quoted.
- Service of type LoadBalancer: current with an address, since a cluster IP alone lets nobody in.
- Ingress: in progress until it has an address, for one minute; many controllers never publish one.
- DaemonSet with `OnDelete`: pods of an older revision do not count against it, as for StatefulSet.
- APIService, Namespace and HorizontalPodAutoscaler have rules of their own; kstatus has none for them.

Total: any JSON gives a `Health`, and a shape that no API server would send gives `unknown`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from gitsyncd.model.ids import group_of
from gitsyncd.model.report import CURRENT, Health, HealthStatus

SCHEDULE_WINDOW = timedelta(seconds=15)
"""How long a pod may be unschedulable before that is a failure (kstatus)."""
ADDRESS_WINDOW = timedelta(minutes=1)
"""How long an Ingress is given to get an address."""
LONGEST_MESSAGE = 300
_NO_DEADLINE = 2**31 - 1
"""`progressDeadlineSeconds` of a Deployment that has none: the controller then sets no condition Progressing."""
_SEVERITY = (
    HealthStatus.FAILED,
    HealthStatus.NOT_FOUND,
    HealthStatus.TERMINATING,
    HealthStatus.UNKNOWN,
    HealthStatus.IN_PROGRESS,
    HealthStatus.CURRENT,
)
_WAITING_IS_FAILURE = frozenset({"CrashLoopBackOff"})

_Rule = Callable[["_Live", datetime], Health]


class _Malformed(Exception):
    """A field has a shape that no API server would send. Never leaves this module."""


class _Live:
    """Typed access to the JSON of a live object. Absent and null are the same; another type is `_Malformed`."""

    __slots__ = ("_fields", "_where")

    def __init__(self, fields: Mapping[str, Any], where: str = "") -> None:
        self._fields = fields
        self._where = where

    def _get(self, name: str, kind: type | tuple[type, ...], default: Any) -> Any:
        value = self._fields.get(name)
        if value is None:
            return default
        # A truth value is an int to Python and to nobody else.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
            raise _Malformed(f"{self._where}.{name} has an unexpected type")
        return value

    def child(self, name: str) -> _Live:
        return _Live(self._get(name, Mapping, {}), f"{self._where}.{name}")

    def children(self, name: str) -> list[_Live]:
        items: Sequence[Any] = self._get(name, (list, tuple), ())
        if not all(isinstance(item, Mapping) for item in items):
            raise _Malformed(f"{self._where}.{name} has an unexpected type")
        return [_Live(item, f"{self._where}.{name}[]") for item in items]

    def text(self, name: str, default: str = "") -> str:
        return str(self._get(name, str, default))

    def number(self, name: str, default: int = 0) -> int:
        return int(self._get(name, int, default))

    def has(self, name: str) -> bool:
        return self._fields.get(name) is not None

    def condition(self, kind: str) -> _Live:
        """The condition of that type in `status`; an empty one when there is none."""
        for condition in self.child("status").children("conditions"):
            if condition.text("type") == kind:
                return condition
        return _Live({})

    def says(self, kind: str, status: str = "True") -> bool:
        return self.condition(kind).text("status") == status

    @property
    def why(self) -> str:
        """Reason and message of a condition, in the cluster's own words."""
        reason, message = self.text("reason"), self.text("message")
        return f"{reason}: {message}" if reason and message else reason or message


@lru_cache(maxsize=2048)
def _shared(status: HealthStatus, message: str) -> Health:
    """One instance for equal values: thousands of objects say the same few things."""
    return Health(status, message)


def _say(status: HealthStatus, message: str) -> Health:
    flat = " ".join(message[: 2 * LONGEST_MESSAGE].split())
    return _shared(status, flat if len(flat) <= LONGEST_MESSAGE else flat[: LONGEST_MESSAGE - 1] + "…")


def _current(message: str = "") -> Health:
    return _say(HealthStatus.CURRENT, message) if message else CURRENT


def _in_progress(message: str) -> Health:
    return _say(HealthStatus.IN_PROGRESS, message)


def _failed(message: str) -> Health:
    return _say(HealthStatus.FAILED, message)


def assess(obj: Mapping[str, Any], now: datetime) -> Health:
    """The health of one live object, `status` included. `now` is aware. Never raises."""
    if not isinstance(obj, Mapping):
        return _say(HealthStatus.UNKNOWN, "not an object")
    live = _Live(obj)
    try:
        if (health := _generic(live)) is not None:
            return health
        rule = _RULES.get((group_of(live.text("apiVersion")), live.text("kind")))
        return rule(live, now) if rule else _ready(live)
    except _Malformed as error:
        return _say(HealthStatus.UNKNOWN, str(error))


def worst(healths: Iterable[Health]) -> Health:
    """The health of a target from that of its objects: the most serious one, and how many more are like it."""
    by_status: dict[HealthStatus, list[Health]] = {}
    for health in healths:
        by_status.setdefault(health.status, []).append(health)
    for status in _SEVERITY:
        if status is HealthStatus.CURRENT:
            break
        if found := by_status.get(status):
            more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
            return Health(status, found[0].message + more) if more else found[0]
    return CURRENT


# --- every kind ------------------------------------------------------------------------------------------------------
def _generic(live: _Live) -> Health | None:
    """What can be said of any kind: deletion, generation, and the conditions Reconciling and Stalled."""
    metadata, status = live.child("metadata"), live.child("status")
    if metadata.text("deletionTimestamp"):
        return _say(HealthStatus.TERMINATING, "being deleted")
    if metadata.has("generation") and status.has("observedGeneration"):
        generation, observed = metadata.number("generation"), status.number("observedGeneration")
        if generation != observed:
            return _in_progress("the controller has not seen the latest change yet")
    # In the order of the list, as kstatus does.
    for condition in status.children("conditions"):
        if condition.text("status") == "True":
            if condition.text("type") == "Reconciling":
                return _in_progress(condition.why or "reconciling")
            if condition.text("type") == "Stalled":
                return _failed(condition.why or "stalled")
    return None


def _ready(live: _Live) -> Health:
    """Kinds without a rule: the condition Ready when there is one, else current."""
    ready = live.condition("Ready")
    if ready.text("status") in {"False", "Unknown"}:
        return _in_progress(ready.why or "not ready")
    return CURRENT


# --- workloads -------------------------------------------------------------------------------------------------------
def _first_short(wanted: int, counts: Iterable[tuple[str, int]]) -> Health | None:
    """The first count that falls short of what is wanted, as `Ready: 1/3`."""
    return next((_in_progress(f"{name}: {count}/{wanted}") for name, count in counts if wanted > count), None)


def _deployment(live: _Live, _now: datetime) -> Health:
    spec, status = live.child("spec"), live.child("status")
    progressing = live.condition("Progressing")
    if progressing.text("reason") == "ProgressDeadlineExceeded":
        return _failed(progressing.why)
    wanted, replicas, updated = spec.number("replicas", 1), status.number("replicas"), status.number("updatedReplicas")
    short = (
        _first_short(wanted, (("Replicas", replicas), ("Updated", updated)))
        or (_in_progress(f"Pending termination: {replicas - wanted}") if replicas > wanted else None)
        or _first_short(updated, (("Available", status.number("availableReplicas")),))
        or _first_short(wanted, (("Ready", status.number("readyReplicas")),))
    )
    if short:
        # Quota and admission speak here, while the counts only fall short.
        failure = live.condition("ReplicaFailure")
        return _in_progress(f"{short.message}; {failure.why}") if failure.text("status") == "True" else short
    has_deadline = spec.number("progressDeadlineSeconds", _NO_DEADLINE) != _NO_DEADLINE
    rolled_out = progressing.text("status") == "True" and progressing.text("reason") == "NewReplicaSetAvailable"
    if has_deadline and not rolled_out:
        return _in_progress(progressing.why or "the new ReplicaSet is not available")
    if not live.says("Available"):
        return _in_progress(live.condition("Available").why or "not available")
    return CURRENT


def _replica_set(live: _Live, _now: datetime) -> Health:
    failure = live.condition("ReplicaFailure")
    if failure.text("status") == "True":
        return _in_progress(failure.why or "replica failure")
    status, wanted = live.child("status"), live.child("spec").number("replicas", 1)
    counts = (
        ("Labelled", status.number("fullyLabeledReplicas")),
        ("Available", status.number("availableReplicas")),
        ("Ready", status.number("readyReplicas")),
    )
    if short := _first_short(wanted, counts):
        return short
    extra = status.number("replicas") - wanted
    return _in_progress(f"Pending termination: {extra}") if extra > 0 else CURRENT


def _stateful_set(live: _Live, _now: datetime) -> Health:
    spec, status = live.child("spec"), live.child("status")
    strategy = spec.child("updateStrategy")
    if strategy.text("type") == "OnDelete":
        return _current("updated by hand (OnDelete)")
    wanted, replicas, updated = spec.number("replicas", 1), status.number("replicas"), status.number("updatedReplicas")
    if short := _first_short(wanted, (("Replicas", replicas), ("Ready", status.number("readyReplicas")))):
        return short
    if replicas > wanted:
        return _in_progress(f"Pending termination: {replicas - wanted}")
    partition = strategy.child("rollingUpdate").number("partition", -1)
    if partition != -1:
        return _first_short(wanted - partition, (("Updated", updated),)) or CURRENT
    if short := _first_short(wanted, (("Current", status.number("currentReplicas")),)):
        return short
    if status.text("currentRevision") != status.text("updateRevision"):
        return _in_progress("rolling out a new revision")
    return CURRENT


def _daemon_set(live: _Live, _now: datetime) -> Health:
    status = live.child("status")
    # Other kinds are given the benefit of the doubt here; this controller always sets both (kstatus, core.go).
    if not (live.child("metadata").has("generation") and status.has("observedGeneration")):
        return _in_progress("not seen by its controller yet")
    if not status.has("desiredNumberScheduled"):
        return _in_progress("the number of nodes is not known yet")
    counts = [("Scheduled", status.number("currentNumberScheduled"))]
    if live.child("spec").child("updateStrategy").text("type") != "OnDelete":
        counts.append(("Updated", status.number("updatedNumberScheduled")))
    counts += [("Available", status.number("numberAvailable")), ("Ready", status.number("numberReady"))]
    return _first_short(status.number("desiredNumberScheduled"), counts) or CURRENT


def _job(live: _Live, _now: datetime) -> Health:
    status = live.child("status")
    if live.says("Complete"):
        return CURRENT
    if live.says("Failed"):
        return _failed(live.condition("Failed").why or "the job failed")
    if live.says("Suspended"):
        return _current("suspended")
    if not status.text("startTime"):
        return _in_progress("not started")
    names = ("succeeded", "active", "failed")
    return _in_progress(", ".join(f"{name}: {status.number(name)}" for name in names))


def _pod(live: _Live, now: datetime) -> Health:
    phase = live.child("status").text("phase")
    match phase:
        case "Succeeded":
            return _current("completed")
        case "Failed":
            status = live.child("status")
            return _failed(status.why or "completed, but not successfully")
        case "Running" if live.says("Ready"):
            return CURRENT
        case "Running" | "Pending":
            return _pod_not_ready(live, phase, now)
        case "":
            return _in_progress("not seen by its controller yet")
    return _say(HealthStatus.UNKNOWN, f"phase {phase}")


def _pod_not_ready(live: _Live, phase: str, now: datetime) -> Health:
    status = live.child("status")
    waiting: list[tuple[str, str]] = []
    for statuses in ("initContainerStatuses", "containerStatuses"):
        for container in status.children(statuses):
            if reason := container.child("state").child("waiting").text("reason"):
                waiting.append((container.text("name"), reason))
    crashing = [f"{name}: {reason}" for name, reason in waiting if reason in _WAITING_IS_FAILURE]
    if crashing:
        return _failed(", ".join(crashing))
    scheduled = live.condition("PodScheduled")
    if phase == "Pending" and scheduled.text("status") == "False" and scheduled.text("reason") == "Unschedulable":
        return (_in_progress if _younger_than(live, SCHEDULE_WINDOW, now) else _failed)(scheduled.why)
    why = ", ".join(f"{name}: {reason}" for name, reason in waiting)
    return _in_progress(why or ("pending" if phase == "Pending" else "running, not ready"))


# --- storage, network, scaling ---------------------------------------------------------------------------------------
def _claim(live: _Live, _now: datetime) -> Health:
    phase = live.child("status").text("phase")
    if phase == "Lost":
        return _failed("the volume is lost")
    return CURRENT if phase == "Bound" else _in_progress(f"not bound: {phase or 'no phase yet'}")


def _has_address(live: _Live) -> bool:
    balancer = live.child("status").child("loadBalancer")
    return any(entry.text("ip") or entry.text("hostname") for entry in balancer.children("ingress"))


def _service(live: _Live, _now: datetime) -> Health:
    if live.child("spec").text("type") == "LoadBalancer" and not _has_address(live):
        return _in_progress("no address from the load balancer yet")
    return CURRENT


def _ingress(live: _Live, now: datetime) -> Health:
    if _has_address(live):
        return CURRENT
    if _younger_than(live, ADDRESS_WINDOW, now):
        return _in_progress("no address yet")
    return _current("no address published")


def _autoscaler(live: _Live, _now: datetime) -> Health:
    for kind in ("AbleToScale", "ScalingActive"):
        condition = live.condition(kind)
        if condition.text("status") != "False":
            continue
        reason = condition.text("reason")
        if reason == "ScalingDisabled":
            return _current("scaled to zero")
        # Metrics are missing for a while after every start; a selector or a source that is wrong stays wrong.
        stays = reason.startswith(("Invalid", "Ambiguous"))
        return (_failed if stays else _in_progress)(condition.why or f"{kind} is false")
    return CURRENT


def _budget(_live: _Live, _now: datetime) -> Health:
    """Current once the controller has seen the latest generation, which the generic rule has checked."""
    return CURRENT


# --- definitions -----------------------------------------------------------------------------------------------------
def _definition(live: _Live, _now: datetime) -> Health:
    names, established = live.condition("NamesAccepted"), live.condition("Established")
    if names.text("status") == "False":
        return _failed(names.why or "names not accepted")
    if established.text("status") == "True":
        return CURRENT
    if established.text("status") == "False" and established.text("reason") != "Installing":
        return _failed(established.why or "not established")
    return _in_progress("installing")


def _namespace(live: _Live, _now: datetime) -> Health:
    match live.child("status").text("phase"):
        case "Active":
            return CURRENT
        case "Terminating":
            return _say(HealthStatus.TERMINATING, "being deleted")
    return _in_progress("not active yet")


def _api_service(live: _Live, _now: datetime) -> Health:
    available = live.condition("Available")
    return CURRENT if available.text("status") == "True" else _in_progress(available.why or "not available")


def _always(_live: _Live, _now: datetime) -> Health:
    return CURRENT


def _younger_than(live: _Live, window: timedelta, now: datetime) -> bool:
    """False when the object does not say when it was created, as kstatus has it."""
    try:
        created = datetime.fromisoformat(live.child("metadata").text("creationTimestamp"))
        return now - created < window
    except (ValueError, TypeError, OverflowError):
        return False


_RULES: Mapping[tuple[str, str], _Rule] = {
    ("apps", "Deployment"): _deployment,
    ("apps", "ReplicaSet"): _replica_set,
    ("apps", "StatefulSet"): _stateful_set,
    ("apps", "DaemonSet"): _daemon_set,
    ("batch", "Job"): _job,
    ("batch", "CronJob"): _always,
    ("", "Pod"): _pod,
    ("", "PersistentVolumeClaim"): _claim,
    ("", "Service"): _service,
    ("", "Namespace"): _namespace,
    ("", "ConfigMap"): _always,
    ("", "Secret"): _always,
    ("networking.k8s.io", "Ingress"): _ingress,
    ("policy", "PodDisruptionBudget"): _budget,
    ("autoscaling", "HorizontalPodAutoscaler"): _autoscaler,
    ("apiextensions.k8s.io", "CustomResourceDefinition"): _definition,
    ("apiregistration.k8s.io", "APIService"): _api_service,
}
