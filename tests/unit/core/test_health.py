"""kstatus' rules, case by case, in the manner of its own tests: the object as YAML, the status it has."""

from datetime import UTC, datetime
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from gitsyncd.core.health import _RULES, LONGEST_MESSAGE, assess, worst
from gitsyncd.model.report import CURRENT, Health, HealthStatus

NOW = datetime(2026, 7, 1, 12, 0, 0, tzinfo=UTC)
S = HealthStatus

CASES: list[tuple[str, str, Health]] = [
    # --- every kind ---
    ("a kind without rules", "{apiVersion: something/v1, kind: MyCR, metadata: {generation: 1}}", CURRENT),
    (
        "a generation that was not seen",
        "{apiVersion: something/v1, kind: MyCR, metadata: {generation: 2}, status: {observedGeneration: 1}}",
        Health(S.IN_PROGRESS, "the controller has not seen the latest change yet"),
    ),
    (
        "ready",
        "{kind: MyCR, status: {conditions: [{type: Ready, status: 'True', reason: AllOk}]}}",
        CURRENT,
    ),
    (
        "not ready",
        "{kind: MyCR, status: {conditions: [{type: Ready, status: 'False', reason: NotReadyYet}]}}",
        Health(S.IN_PROGRESS, "NotReadyYet"),
    ),
    (
        "readiness unknown",
        "{kind: MyCR, status: {conditions: [{type: Ready, status: Unknown}]}}",
        Health(S.IN_PROGRESS, "not ready"),
    ),
    ("some other condition", "{kind: MyCR, status: {conditions: [{type: Odd, status: 'False'}]}}", CURRENT),
    (
        "reconciling",
        "{kind: MyCR, status: {conditions: [{type: Ready, status: 'True'}, {type: Reconciling, status: 'True', message: half way}]}}",
        Health(S.IN_PROGRESS, "half way"),
    ),
    (
        "stalled",
        "{kind: MyCR, status: {conditions: [{type: Stalled, status: 'True', reason: NoQuota, message: too much}]}}",
        Health(S.FAILED, "NoQuota: too much"),
    ),
    (
        "being deleted, whatever else it says",
        "{kind: MyCR, metadata: {deletionTimestamp: '2026-07-01T11:00:00Z'}, status: {conditions: [{type: Stalled, status: 'True'}]}}",
        Health(S.TERMINATING, "being deleted"),
    ),
    ("null where a value may be", "{kind: MyCR, metadata: null, status: null}", CURRENT),
    ("a config map", "{apiVersion: v1, kind: ConfigMap}", CURRENT),
    # --- Deployment ---
    (
        "deployment without status",
        "{apiVersion: apps/v1, kind: Deployment, metadata: {generation: 1}}",
        Health(S.IN_PROGRESS, "Replicas: 0/1"),
    ),
    (
        "deployment ready",
        """
        {apiVersion: apps/v1, kind: Deployment, metadata: {generation: 1}, status: {observedGeneration: 1, updatedReplicas: 1,
         readyReplicas: 1, availableReplicas: 1, replicas: 1, conditions: [
         {type: Progressing, status: 'True', reason: NewReplicaSetAvailable}, {type: Available, status: 'True'}]}}
        """,
        CURRENT,
    ),
    (
        "deployment with a deadline, not progressed",
        """
        {apiVersion: apps/v1, kind: Deployment, spec: {progressDeadlineSeconds: 45}, status: {updatedReplicas: 1,
         readyReplicas: 1, availableReplicas: 1, replicas: 1, conditions: [
         {type: Progressing, status: 'False', reason: Some reason}, {type: Available, status: 'True'}]}}
        """,
        Health(S.IN_PROGRESS, "Some reason"),
    ),
    (
        "deployment without a deadline",
        """
        {apiVersion: apps/v1, kind: Deployment, status: {updatedReplicas: 1, readyReplicas: 1, availableReplicas: 1, replicas: 1,
         conditions: [{type: Available, status: 'True'}]}}
        """,
        CURRENT,
    ),
    (
        "deployment not available",
        """
        {apiVersion: apps/v1, kind: Deployment, status: {updatedReplicas: 1, readyReplicas: 1, availableReplicas: 1, replicas: 1,
         conditions: [{type: Progressing, status: 'True', reason: NewReplicaSetAvailable}, {type: Available, status: 'False'}]}}
        """,
        Health(S.IN_PROGRESS, "not available"),
    ),
    (
        "deployment past its deadline",
        """
        {apiVersion: apps/v1, kind: Deployment, spec: {progressDeadlineSeconds: 45}, status: {replicas: 1, updatedReplicas: 1,
         conditions: [{type: Progressing, status: 'False', reason: ProgressDeadlineExceeded, message: timed out}]}}
        """,
        Health(S.FAILED, "ProgressDeadlineExceeded: timed out"),
    ),
    (
        "deployment rolling out",
        "{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 3}, status: {replicas: 3, updatedReplicas: 1}}",
        Health(S.IN_PROGRESS, "Updated: 1/3"),
    ),
    (
        "deployment with old pods left",
        "{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 1}, status: {replicas: 2, updatedReplicas: 1}}",
        Health(S.IN_PROGRESS, "Pending termination: 1"),
    ),
    (
        "deployment whose pods are not available",
        "{apiVersion: apps/v1, kind: Deployment, spec: {replicas: 2}, status: {replicas: 2, updatedReplicas: 2, availableReplicas: 1}}",
        Health(S.IN_PROGRESS, "Available: 1/2"),
    ),
    (
        "deployment whose pods are refused",
        """
        {apiVersion: apps/v1, kind: Deployment, status: {conditions: [
         {type: ReplicaFailure, status: 'True', reason: FailedCreate, message: exceeded quota}]}}
        """,
        Health(S.IN_PROGRESS, "Replicas: 0/1; FailedCreate: exceeded quota"),
    ),
    # --- ReplicaSet ---
    ("replica set without status", "{apiVersion: apps/v1, kind: ReplicaSet}", Health(S.IN_PROGRESS, "Labelled: 0/1")),
    (
        "replica set ready",
        """
        {apiVersion: apps/v1, kind: ReplicaSet, spec: {replicas: 2}, status: {replicas: 2, readyReplicas: 2, availableReplicas: 2,
         fullyLabeledReplicas: 2, conditions: [{type: ReplicaFailure, status: 'False'}]}}
        """,
        CURRENT,
    ),
    (
        "replica set less available",
        "{apiVersion: apps/v1, kind: ReplicaSet, spec: {replicas: 4}, status: {replicas: 4, readyReplicas: 4, availableReplicas: 2, fullyLabeledReplicas: 4}}",
        Health(S.IN_PROGRESS, "Available: 2/4"),
    ),
    (
        "replica set less ready",
        "{apiVersion: apps/v1, kind: ReplicaSet, spec: {replicas: 4}, status: {replicas: 4, readyReplicas: 2, availableReplicas: 4, fullyLabeledReplicas: 4}}",
        Health(S.IN_PROGRESS, "Ready: 2/4"),
    ),
    (
        "replica set with pods to end",
        "{apiVersion: apps/v1, kind: ReplicaSet, spec: {replicas: 0}, status: {replicas: 2}}",
        Health(S.IN_PROGRESS, "Pending termination: 2"),
    ),
    (
        "replica set failing",
        "{apiVersion: apps/v1, kind: ReplicaSet, status: {conditions: [{type: ReplicaFailure, status: 'True'}]}}",
        Health(S.IN_PROGRESS, "replica failure"),
    ),
    # --- StatefulSet ---
    ("stateful set without status", "{apiVersion: apps/v1, kind: StatefulSet}", Health(S.IN_PROGRESS, "Replicas: 0/1")),
    (
        "stateful set ready",
        "{apiVersion: apps/v1, kind: StatefulSet, spec: {replicas: 4}, status: {currentReplicas: 4, readyReplicas: 4, replicas: 4}}",
        CURRENT,
    ),
    (
        "stateful set less ready",
        "{apiVersion: apps/v1, kind: StatefulSet, spec: {replicas: 4}, status: {currentReplicas: 4, readyReplicas: 2, replicas: 4}}",
        Health(S.IN_PROGRESS, "Ready: 2/4"),
    ),
    (
        "stateful set less current",
        "{apiVersion: apps/v1, kind: StatefulSet, spec: {replicas: 4}, status: {currentReplicas: 2, readyReplicas: 4, replicas: 4}}",
        Health(S.IN_PROGRESS, "Current: 2/4"),
    ),
    (
        "stateful set with extra pods",
        "{apiVersion: apps/v1, kind: StatefulSet, spec: {replicas: 4}, status: {currentReplicas: 4, readyReplicas: 4, replicas: 8}}",
        Health(S.IN_PROGRESS, "Pending termination: 4"),
    ),
    (
        "stateful set between revisions",
        "{apiVersion: apps/v1, kind: StatefulSet, status: {currentReplicas: 1, readyReplicas: 1, replicas: 1, currentRevision: a, updateRevision: b}}",
        Health(S.IN_PROGRESS, "rolling out a new revision"),
    ),
    (
        "stateful set rolling out a partition",
        "{apiVersion: apps/v1, kind: StatefulSet, spec: {replicas: 4, updateStrategy: {rollingUpdate: {partition: 1}}}, status: {readyReplicas: 4, replicas: 4, updatedReplicas: 2}}",
        Health(S.IN_PROGRESS, "Updated: 2/3"),
    ),
    (
        "stateful set with its partition rolled out",
        "{apiVersion: apps/v1, kind: StatefulSet, spec: {replicas: 4, updateStrategy: {rollingUpdate: {partition: 1}}}, status: {readyReplicas: 4, replicas: 4, updatedReplicas: 3}}",
        CURRENT,
    ),
    (
        "stateful set updated by hand",
        "{apiVersion: apps/v1, kind: StatefulSet, spec: {updateStrategy: {type: OnDelete}}}",
        Health(S.CURRENT, "updated by hand (OnDelete)"),
    ),
    # --- DaemonSet ---
    (
        "daemon set without status",
        "{apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 1}}",
        Health(S.IN_PROGRESS, "not seen by its controller yet"),
    ),
    (
        "daemon set without a desired number",
        "{apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 1}, status: {observedGeneration: 1}}",
        Health(S.IN_PROGRESS, "the number of nodes is not known yet"),
    ),
    (
        "daemon set ready",
        """
        {apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 1}, status: {observedGeneration: 1, desiredNumberScheduled: 4,
         currentNumberScheduled: 4, updatedNumberScheduled: 4, numberAvailable: 4, numberReady: 4}}
        """,
        CURRENT,
    ),
    (
        "daemon set less ready",
        """
        {apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 1}, status: {observedGeneration: 1, desiredNumberScheduled: 4,
         currentNumberScheduled: 4, updatedNumberScheduled: 4, numberAvailable: 4, numberReady: 2}}
        """,
        Health(S.IN_PROGRESS, "Ready: 2/4"),
    ),
    (
        "daemon set updated by hand",
        """
        {apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 1}, spec: {updateStrategy: {type: OnDelete}},
         status: {observedGeneration: 1, desiredNumberScheduled: 4, currentNumberScheduled: 4, numberAvailable: 4, numberReady: 4}}
        """,
        CURRENT,
    ),
    (
        "daemon set without nodes",
        "{apiVersion: apps/v1, kind: DaemonSet, metadata: {generation: 1}, status: {observedGeneration: 1, desiredNumberScheduled: 0}}",
        CURRENT,
    ),
    # --- Job, CronJob ---
    ("job not started", "{apiVersion: batch/v1, kind: Job}", Health(S.IN_PROGRESS, "not started")),
    (
        "job running",
        "{apiVersion: batch/v1, kind: Job, status: {startTime: '2026-07-01T11:00:00Z', succeeded: 3, failed: 1, active: 2}}",
        Health(S.IN_PROGRESS, "succeeded: 3, active: 2, failed: 1"),
    ),
    (
        "job complete",
        "{apiVersion: batch/v1, kind: Job, status: {conditions: [{type: Complete, status: 'True'}]}}",
        CURRENT,
    ),
    (
        "job failed",
        "{apiVersion: batch/v1, kind: Job, status: {conditions: [{type: Failed, status: 'True', reason: BackoffLimitExceeded}]}}",
        Health(S.FAILED, "BackoffLimitExceeded"),
    ),
    (
        "job suspended",
        "{apiVersion: batch/v1, kind: Job, status: {conditions: [{type: Suspended, status: 'True'}]}}",
        Health(S.CURRENT, "suspended"),
    ),
    ("cron job", "{apiVersion: batch/v1, kind: CronJob}", CURRENT),
    # --- Pod ---
    ("pod without status", "{apiVersion: v1, kind: Pod}", Health(S.IN_PROGRESS, "not seen by its controller yet")),
    (
        "pod ready",
        "{apiVersion: v1, kind: Pod, status: {phase: Running, conditions: [{type: Ready, status: 'True'}]}}",
        CURRENT,
    ),
    (
        "pod running",
        "{apiVersion: v1, kind: Pod, status: {phase: Running, conditions: [{type: Ready, status: 'False'}]}}",
        Health(S.IN_PROGRESS, "running, not ready"),
    ),
    ("pod succeeded", "{apiVersion: v1, kind: Pod, status: {phase: Succeeded}}", Health(S.CURRENT, "completed")),
    (
        "pod failed",
        "{apiVersion: v1, kind: Pod, status: {phase: Failed, reason: Evicted, message: low on memory}}",
        Health(S.FAILED, "Evicted: low on memory"),
    ),
    (
        "pod crash looping",
        "{apiVersion: v1, kind: Pod, status: {phase: Running, containerStatuses: [{name: nginx, state: {waiting: {reason: CrashLoopBackOff}}}]}}",
        Health(S.FAILED, "nginx: CrashLoopBackOff"),
    ),
    (
        "pod crash looping before it starts",
        "{apiVersion: v1, kind: Pod, status: {phase: Pending, initContainerStatuses: [{name: migrate, state: {waiting: {reason: CrashLoopBackOff}}}]}}",
        Health(S.FAILED, "migrate: CrashLoopBackOff"),
    ),
    (
        "pod without its image",
        "{apiVersion: v1, kind: Pod, status: {phase: Pending, containerStatuses: [{name: nginx, state: {waiting: {reason: ImagePullBackOff}}}]}}",
        Health(S.IN_PROGRESS, "nginx: ImagePullBackOff"),
    ),
    (
        "pod being scheduled",
        "{apiVersion: v1, kind: Pod, metadata: {creationTimestamp: '2026-07-01T11:59:50Z'}, status: {phase: Pending, conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable}]}}",
        Health(S.IN_PROGRESS, "Unschedulable"),
    ),
    (
        "pod unschedulable",
        "{apiVersion: v1, kind: Pod, metadata: {creationTimestamp: '2026-07-01T11:59:40Z'}, status: {phase: Pending, conditions: [{type: PodScheduled, status: 'False', reason: Unschedulable, message: no nodes}]}}",
        Health(S.FAILED, "Unschedulable: no nodes"),
    ),
    ("pod lost sight of", "{apiVersion: v1, kind: Pod, status: {phase: Unknown}}", Health(S.UNKNOWN, "phase Unknown")),
    # --- storage, network, scaling ---
    ("claim bound", "{apiVersion: v1, kind: PersistentVolumeClaim, status: {phase: Bound}}", CURRENT),
    (
        "claim pending",
        "{apiVersion: v1, kind: PersistentVolumeClaim, status: {phase: Pending}}",
        Health(S.IN_PROGRESS, "not bound: Pending"),
    ),
    (
        "claim lost",
        "{apiVersion: v1, kind: PersistentVolumeClaim, status: {phase: Lost}}",
        Health(S.FAILED, "the volume is lost"),
    ),
    ("service", "{apiVersion: v1, kind: Service, spec: {type: NodePort}}", CURRENT),
    (
        "load balancer without address",
        "{apiVersion: v1, kind: Service, spec: {type: LoadBalancer, clusterIP: 10.0.0.1}, status: {loadBalancer: {}}}",
        Health(S.IN_PROGRESS, "no address from the load balancer yet"),
    ),
    (
        "load balancer with address",
        "{apiVersion: v1, kind: Service, spec: {type: LoadBalancer}, status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}}",
        CURRENT,
    ),
    (
        "ingress with address",
        "{apiVersion: networking.k8s.io/v1, kind: Ingress, status: {loadBalancer: {ingress: [{hostname: lb.example.com}]}}}",
        CURRENT,
    ),
    (
        "young ingress without address",
        "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {creationTimestamp: '2026-07-01T11:59:30Z'}}",
        Health(S.IN_PROGRESS, "no address yet"),
    ),
    (
        "old ingress without address",
        "{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {creationTimestamp: '2026-07-01T11:58:30Z'}}",
        Health(S.CURRENT, "no address published"),
    ),
    (
        "budget not seen",
        "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {generation: 2}, status: {observedGeneration: 1}}",
        Health(S.IN_PROGRESS, "the controller has not seen the latest change yet"),
    ),
    (
        "budget seen",
        "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {generation: 1}, status: {observedGeneration: 1}}",
        CURRENT,
    ),
    ("autoscaler without status", "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler}", CURRENT),
    (
        "autoscaler at its limit",
        """
        {apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, status: {conditions: [{type: AbleToScale, status: 'True'},
         {type: ScalingActive, status: 'True'}, {type: ScalingLimited, status: 'True', reason: TooManyReplicas}]}}
        """,
        CURRENT,
    ),
    (
        "autoscaler without metrics",
        "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, status: {conditions: [{type: ScalingActive, status: 'False', reason: FailedGetResourceMetric}]}}",
        Health(S.IN_PROGRESS, "FailedGetResourceMetric"),
    ),
    (
        "autoscaler with a wrong selector",
        "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, status: {conditions: [{type: ScalingActive, status: 'False', reason: InvalidSelector}]}}",
        Health(S.FAILED, "InvalidSelector"),
    ),
    (
        "autoscaler of a workload at zero",
        "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, status: {conditions: [{type: ScalingActive, status: 'False', reason: ScalingDisabled}]}}",
        Health(S.CURRENT, "scaled to zero"),
    ),
    # --- definitions ---
    (
        "definition without conditions",
        "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition}",
        Health(S.IN_PROGRESS, "installing"),
    ),
    (
        "definition installing",
        "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, status: {conditions: [{type: NamesAccepted, status: 'True'}, {type: Established, status: 'False', reason: Installing}]}}",
        Health(S.IN_PROGRESS, "installing"),
    ),
    (
        "definition whose names are taken",
        "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, status: {conditions: [{type: NamesAccepted, status: 'False', reason: Taken}]}}",
        Health(S.FAILED, "Taken"),
    ),
    (
        "definition established",
        "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, status: {conditions: [{type: NamesAccepted, status: 'True'}, {type: Established, status: 'True'}]}}",
        CURRENT,
    ),
    ("namespace active", "{apiVersion: v1, kind: Namespace, status: {phase: Active}}", CURRENT),
    ("namespace young", "{apiVersion: v1, kind: Namespace}", Health(S.IN_PROGRESS, "not active yet")),
    (
        "namespace going",
        "{apiVersion: v1, kind: Namespace, status: {phase: Terminating}}",
        Health(S.TERMINATING, "being deleted"),
    ),
    (
        "api service available",
        "{apiVersion: apiregistration.k8s.io/v1, kind: APIService, status: {conditions: [{type: Available, status: 'True'}]}}",
        CURRENT,
    ),
    (
        "api service unavailable",
        "{apiVersion: apiregistration.k8s.io/v1, kind: APIService, status: {conditions: [{type: Available, status: 'False', reason: MissingEndpoints}]}}",
        Health(S.IN_PROGRESS, "MissingEndpoints"),
    ),
]


@pytest.mark.parametrize(("text", "expected"), [row[1:] for row in CASES], ids=[row[0] for row in CASES])
def test_an_object_has_the_health_that_kstatus_gives_it(text: str, expected: Health) -> None:
    assert assess(yaml.safe_load(text), NOW) == expected


def test_every_kind_with_a_rule_is_among_the_cases() -> None:
    kinds = {yaml.safe_load(text)["kind"] for _, text, _ in CASES}

    assert {kind for _, kind in _RULES} - {"Secret"} <= kinds


HOSTILE: list[tuple[Any, str]] = [
    ([], "not an object"),
    (None, "not an object"),
    ({"metadata": []}, ".metadata has an unexpected type"),
    ({"metadata": {"generation": "1"}, "status": {"observedGeneration": 1}}, ".metadata.generation"),
    ({"metadata": {"generation": True}, "status": {"observedGeneration": 1}}, ".metadata.generation"),
    ({"status": {"conditions": {"type": "Ready"}}}, ".status.conditions"),
    ({"status": {"conditions": ["Ready"]}}, ".status.conditions"),
    ({"status": {"conditions": [{"type": 5, "status": "True"}]}}, ".type"),
    ({"kind": {}, "apiVersion": []}, ".apiVersion"),
    ({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": "3"}}, ".spec.replicas"),
    ({"apiVersion": "v1", "kind": "Pod", "status": {"phase": "Pending", "containerStatuses": 5}}, ".containerStatuses"),
]


@pytest.mark.parametrize(("obj", "words"), HOSTILE)
def test_a_shape_that_no_server_would_send_is_unknown(obj: Any, words: str) -> None:
    health = assess(obj, NOW)

    assert health.status is S.UNKNOWN
    assert words in health.message


def test_a_long_message_is_cut_and_stays_on_one_line() -> None:
    condition = {"type": "Stalled", "status": "True", "message": "first\nsecond " + "x" * 10_000}

    message = assess({"status": {"conditions": [condition]}}, NOW).message

    assert (len(message), message[:14]) == (LONGEST_MESSAGE, "first second x")


def test_equal_words_share_one_instance() -> None:
    pods = [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": str(n)}} for n in range(2)]

    assert assess(pods[0], NOW) is assess(pods[1], NOW)


keys = st.sampled_from(
    [
        "apiVersion",
        "kind",
        "metadata",
        "spec",
        "status",
        "generation",
        "observedGeneration",
        "conditions",
        "type",
        "reason",
        "message",
        "phase",
        "replicas",
        "deletionTimestamp",
        "creationTimestamp",
        "loadBalancer",
        "ingress",
        "containerStatuses",
        "state",
        "waiting",
        "updateStrategy",
    ]
)
kinds = st.sampled_from(sorted({(f"{group}/v1" if group else "v1", kind) for group, kind in _RULES}))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["True", "False", "Pending"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys | st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(anything=json_values)
def test_any_json_has_a_health(anything: Any) -> None:
    assert isinstance(assess(anything, NOW), Health)


@given(kind=kinds, rest=st.fixed_dictionaries({}, optional=dict.fromkeys(("metadata", "spec", "status"), json_values)))
def test_any_object_of_a_known_kind_has_a_health(kind: tuple[str, str], rest: dict[str, Any]) -> None:
    health = assess({"apiVersion": kind[0], "kind": kind[1]} | rest, NOW)

    assert isinstance(health, Health)


WORST: list[tuple[list[Health], Health]] = [
    ([], CURRENT),
    ([CURRENT, Health(S.CURRENT, "completed")], CURRENT),
    ([CURRENT, Health(S.IN_PROGRESS, "a")], Health(S.IN_PROGRESS, "a")),
    ([Health(S.IN_PROGRESS, "a"), Health(S.UNKNOWN, "b")], Health(S.UNKNOWN, "b")),
    ([Health(S.TERMINATING, "a"), Health(S.NOT_FOUND, "b")], Health(S.NOT_FOUND, "b")),
    ([Health(S.NOT_FOUND, "a"), Health(S.FAILED, "b")], Health(S.FAILED, "b")),
    (
        [Health(S.FAILED, "a"), CURRENT, Health(S.FAILED, "b"), Health(S.FAILED, "c")],
        Health(S.FAILED, "a (and 2 more)"),
    ),
]


@pytest.mark.parametrize(("healths", "expected"), WORST)
def test_a_target_is_as_healthy_as_its_worst_object(healths: list[Health], expected: Health) -> None:
    assert worst(healths) == expected


def test_every_status_has_its_place_among_the_serious_ones() -> None:
    assert {worst([CURRENT, Health(status)]).status for status in S} == set(S)
