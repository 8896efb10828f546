"""Writing to a cluster as others do: by the managers that persons, delivery tools and controllers appear as.

Here: requests and paths of the kinds that these tests use. What is expected of the daemon stands in the tests.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from tests.e2e.daemon import Json
from tests.sandbox import ApiError, Cluster

MERGE, JSON_PATCH, STRATEGIC, APPLY = (
    "merge-patch+json",
    "json-patch+json",
    "strategic-merge-patch+json",
    "apply-patch+yaml",
)
PLURALS = {
    "ConfigMap": "/api/v1/namespaces/{}/configmaps",
    "Secret": "/api/v1/namespaces/{}/secrets",
    "Service": "/api/v1/namespaces/{}/services",
    "Pod": "/api/v1/namespaces/{}/pods",
    "PersistentVolumeClaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "Namespace": "/api/v1/namespaces",
}
AGENT_LABEL = "gitsyncd.dev/agent"
MARKS = ("gitsyncd.dev/target", "gitsyncd.dev/id", "gitsyncd.dev/path")


class Hand:
    """One live object, and whoever writes to it."""

    def __init__(self, cluster: Cluster, kind: str, namespace: str, name: str) -> None:
        self.cluster = cluster
        self.kind = kind
        self.namespace = namespace
        self.name = name
        self.collection = PLURALS[kind].format(namespace)
        self.path = f"{self.collection}/{name}"

    @property
    def id(self) -> str:
        """As the log names it."""
        group = {"Deployment": ".apps", "HorizontalPodAutoscaler": ".autoscaling"}.get(self.kind, "")
        return "/".join(part for part in (f"{self.kind}{group}", self.namespace, self.name) if part)

    def get(self) -> Json:
        return dict(self.cluster.request("GET", self.path))

    def find(self) -> Json | None:
        try:
            return self.get()
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    @property
    def version(self) -> str:
        return str(self.get()["metadata"]["resourceVersion"])

    @property
    def uid(self) -> str:
        return str(self.get()["metadata"]["uid"])

    def patch(self, body: Any, manager: str, *, kind: str = MERGE, at: str = "") -> Json:
        path = f"{self.path}{at}?fieldManager={quote(manager, safe='')}"
        return dict(self.cluster.request("PATCH", path, body, content_type=f"application/{kind}"))

    def apply(self, body: Json, manager: str) -> Json:
        """By server-side apply, taking what it names from whoever has it."""
        path = f"{self.path}?fieldManager={quote(manager, safe='')}&force=true"
        return dict(self.cluster.request("PATCH", path, body, content_type=f"application/{APPLY}"))

    def put(self, body: Json, manager: str) -> Json:
        return dict(self.cluster.request("PUT", f"{self.path}?fieldManager={quote(manager, safe='')}", body))

    def create(self, body: Json, manager: str) -> Json:
        path = f"{self.collection}?fieldManager={quote(manager, safe='')}"
        return dict(self.cluster.request("POST", path, body))

    def delete(self) -> None:
        self.cluster.request("DELETE", self.path)

    def kubectl(self, *arguments: str) -> None:
        """A verb, and what follows the object's name."""
        verb, *rest = arguments
        self.cluster.kubectl(*verb.split(), f"{self.kind.lower()}/{self.name}", "-n", self.namespace, *rest)


def config_map(name: str, namespace: str = "", **metadata: Any) -> Json:
    """With two values, `value: git` and another."""
    where = {"namespace": namespace} if namespace else {}
    return {
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **where, **metadata}, "data": {"value": "git", "other": "git"}
    }  # fmt: skip


def deployment(name: str, *, replicas: int | None = 2, **metadata: Any) -> Json:
    spec: Json = {
        "selector": {"matchLabels": {"app": name}},
        "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "web", "image": "nginx:1", "args": ["-a"]}]},
        },
    }
    if replicas is not None:
        spec["replicas"] = replicas
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, **metadata}, "spec": spec}


def autoscaler(name: str, workload: str) -> Json:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": workload}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name},
        "spec": {"scaleTargetRef": target, "minReplicas": 2, "maxReplicas": 9},
    }


def text(*objects: Json) -> str:
    """A file of manifests."""
    return "\n---\n".join(json.dumps(item) for item in objects)


def files(objects: Iterable[Json]) -> dict[str, str]:
    """A file for each."""
    return {f"{item['kind'].lower()}-{item['metadata']['name']}.yaml": json.dumps(item) for item in objects}
