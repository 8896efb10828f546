"""What is on the API server, asked without gitsyncd: objects, snapshots, and writes as the audit log has them."""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tests.sandbox import ApiError, Cluster

AGENT_LABEL = "gitsyncd.dev/agent"
TARGET_ANNOTATION = "gitsyncd.dev/target"
MANAGER = "gitsyncd/demo"
WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})

_COLLECTIONS = {
    "Namespace": "/api/v1/namespaces",
    "ConfigMap": "/api/v1/configmaps",
    "Secret": "/api/v1/secrets",
    "Service": "/api/v1/services",
    "ServiceAccount": "/api/v1/serviceaccounts",
    "Deployment": "/apis/apps/v1/deployments",
    "CronJob": "/apis/batch/v1/cronjobs",
    "Ingress": "/apis/networking.k8s.io/v1/ingresses",
    "NetworkPolicy": "/apis/networking.k8s.io/v1/networkpolicies",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/horizontalpodautoscalers",
    "PodDisruptionBudget": "/apis/policy/v1/poddisruptionbudgets",
    "Role": "/apis/rbac.authorization.k8s.io/v1/roles",
    "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/rolebindings",
    "ClusterRole": "/apis/rbac.authorization.k8s.io/v1/clusterroles",
    "ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
    "CustomResourceDefinition": "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
    "Offer": "/apis/shop.example.com/v1/offers",
    "Report": "/apis/shop.example.com/v1/reports",
}
"""Every kind of the example application."""


@dataclass(frozen=True, slots=True)
class Version:
    """Which object it is, and in which state.

    `state` is the resourceVersion; of an object with a status, which controllers write as they please, it is everything
    but the status.
    """

    uid: str
    state: str


def path_of(kind: str, name: str = "", namespace: str = "shop") -> str:
    """The path of an object, or of its collection within the namespace. Empty namespace: a cluster-wide kind."""
    head, _, plural = _COLLECTIONS[kind].rpartition("/")
    scope = f"namespaces/{namespace}/" if namespace else ""
    return f"{head}/{scope}{plural}{f'/{name}' if name else ''}"


def find(cluster: Cluster, kind: str, name: str, namespace: str = "shop") -> dict[str, Any] | None:
    """The object, or None when there is none."""
    try:
        answer: dict[str, Any] = cluster.request("GET", path_of(kind, name, namespace))
    except ApiError as error:
        if error.status != 404:
            raise
        return None
    return answer


def get(cluster: Cluster, kind: str, name: str, namespace: str = "shop") -> dict[str, Any]:
    """The object. Raises ApiError when there is none."""
    answer: dict[str, Any] = cluster.request("GET", path_of(kind, name, namespace))
    return answer


def managed(cluster: Cluster) -> dict[str, Version]:
    """Every object that carries the agent's label, by `Kind/namespace/name`: what it is and in which version."""
    found = {}
    for kind, path in _COLLECTIONS.items():
        try:
            items = cluster.request("GET", f"{path}?labelSelector={AGENT_LABEL}%3Ddemo")["items"]
        except ApiError as error:
            if error.status != 404:
                raise
            continue  # the definition of this kind is not there
        for item in items:
            meta = item["metadata"]
            # Endpoints' controllers copy labels of Services; what describes itself is what was applied.
            if TARGET_ANNOTATION not in meta.get("annotations", {}):
                continue
            name = "/".join(part for part in (kind, meta.get("namespace", ""), meta["name"]) if part)
            found[name] = Version(meta["uid"], _state(item))
    return found


def _state(item: dict[str, Any]) -> str:
    if not item.get("status"):
        return str(item["metadata"]["resourceVersion"])
    entries = [entry for entry in item["metadata"]["managedFields"] if entry.get("subresource") != "status"]
    meta = {**item["metadata"], "resourceVersion": "", "managedFields": entries}
    return json.dumps({**item, "metadata": meta, "status": None}, sort_keys=True)


def differing(before: dict[str, Version], after: dict[str, Version], *, but: Collection[str] = ()) -> list[str]:
    """Names that are not in both, or not in the same version in both."""
    return sorted(
        name for name in (before.keys() | after.keys()).difference(but) if before.get(name) != after.get(name)
    )


def written(cluster: Cluster, since: int) -> list[str]:
    """Writes of gitsyncd that the API server's audit log has from a record on, dry runs and leases left out."""
    return [
        f"{event.verb} {event.uri.partition('?')[0]}"
        for event in cluster.audit()[since:]
        if event.user_agent.startswith("gitsyncd/")
        and event.verb in WRITES
        and event.resource != "leases"
        and "dryRun=" not in event.uri
    ]


def lifetime_ms(cluster: Cluster, path: str, offset: int) -> float | None:
    """How long a change by kubectl to one object lived, by the API server's own clock.

    From receiving kubectl's last write to having answered gitsyncd's last one, as the audit log has them from a byte on:
    an upper bound. None until it has both.
    """
    begun = ended = None
    with cluster.audit_log.open("rb") as file:
        file.seek(offset)
        records = [json.loads(line) for line in file if line.endswith(b"\n")]
    for record in records:
        agent, uri = record.get("userAgent", ""), record["requestURI"]
        on_object = uri.partition("?")[0] in {path, f"{path}/scale"} and "dryRun=" not in uri
        if record["verb"] not in WRITES or not on_object:
            continue
        if agent.startswith("kubectl/"):
            begun = datetime.fromisoformat(record["requestReceivedTimestamp"])
        elif agent.startswith("gitsyncd/"):
            ended = datetime.fromisoformat(record["stageTimestamp"])
    return (ended - begun).total_seconds() * 1000 if begun and ended else None


def owns(item: dict[str, Any], field: str) -> bool:
    """Whether our manager's entry in managedFields has a field of `spec`, such as `f:replicas`."""
    entries = [e for e in item["metadata"].get("managedFields", ()) if e.get("manager") == MANAGER]
    return any(field in json.dumps(entry.get("fieldsV1", {}).get("f:spec", {})) for entry in entries)
