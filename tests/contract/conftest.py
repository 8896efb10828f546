"""One server to speak to, twice: in memory, and for real."""

import itertools
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from gitsyncd.edges.kube.cluster import KubeCluster
from gitsyncd.engine.ports import ClusterApi
from gitsyncd.model.ids import ObjectId, ObjectType, ResourceType
from gitsyncd.model.target import Agent, Kubeconfig
from gitsyncd.model.target import Cluster as ClusterFacts
from tests.engine.cluster import MemoryApi, MemoryCluster
from tests.sandbox import Cluster

SELECTOR = "gitsyncd.dev/agent=edge"
CONFIG_MAPS = ResourceType(type=ObjectType(api_version="v1", kind="ConfigMap"), plural="configmaps", namespaced=True)
_numbers = itertools.count(1)


@dataclass(slots=True)
class Server:
    """A server of either kind, a namespace of the test's own, and the door that other people use."""

    namespace: str
    connect: Callable[[], ClusterApi]
    edit: Callable[[ObjectId, dict[str, Any], str], None]
    """A merge patch by another field manager."""
    remove: Callable[[ObjectId], None]
    api: ClusterApi = field(init=False)

    def __post_init__(self) -> None:
        self.api = self.connect()

    def id(self, name: str) -> ObjectId:
        return ObjectId(group="", kind="ConfigMap", namespace=self.namespace, name=name)

    def body(self, name: str, *, labelled: bool = True, data: Mapping[str, str] | None = None) -> bytes:
        labels = {"gitsyncd.dev/agent": "edge"} if labelled else {}
        metadata = {"name": name, "namespace": self.namespace, "labels": labels}
        return orjson.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data or {}})


@pytest.fixture(params=["memory", pytest.param("real", marks=pytest.mark.real)])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Server]:
    namespace = f"contract-{next(_numbers)}"
    agent = Agent(
        name="edge", state_dir=Path("/nowhere"), cluster_namespace=f"{namespace}-state", socket=Path("/nowhere/s")
    )
    if request.param == "memory":
        yield in_memory(namespace, agent)
        return
    cluster: Cluster = request.getfixturevalue("bare_cluster")
    cluster.create_namespace(namespace)
    edges: list[KubeCluster] = []

    def connect() -> KubeCluster:
        edges.append(KubeCluster(ClusterFacts(name="eu", connection=Kubeconfig(file=cluster.kubeconfig)), agent))
        edges[-1].allow_writes(float("inf"))
        return edges[-1]

    def path(object_id: ObjectId) -> str:
        return f"/api/v1/namespaces/{object_id.namespace}/configmaps/{object_id.name}"

    def edit(object_id: ObjectId, patch: dict[str, Any], manager: str) -> None:
        cluster.request(
            "PATCH",
            f"{path(object_id)}?fieldManager={manager}",
            patch,
            content_type="application/merge-patch+json",
        )

    yield Server(
        namespace=namespace,
        connect=connect,
        edit=edit,
        remove=lambda object_id: _ignored(cluster.request("DELETE", path(object_id))),
    )
    for edge in edges:
        await edge.close()


def in_memory(namespace: str, agent: Agent) -> Server:
    memory = MemoryCluster()
    memory.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})

    def edit(object_id: ObjectId, patch: dict[str, Any], manager: str) -> None:
        memory.edit(object_id, lambda live: _merge(live, patch), manager=manager)

    def connect() -> MemoryApi:
        api = MemoryApi(memory, agent)
        api.allow_writes(float("inf"))
        return api

    return Server(namespace=namespace, connect=connect, edit=edit, remove=memory.remove)


def _merge(live: dict[str, Any], patch: dict[str, Any]) -> None:
    """RFC 7386."""
    for key, value in patch.items():
        if value is None:
            live.pop(key, None)
        elif isinstance(value, dict):
            _merge(live.setdefault(key, {}), value)
        else:
            live[key] = value


def _ignored(_answer: object) -> None:
    return None
