"""What anybody with a namespace of his own may put into a cluster, on a real API server."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gitsyncd.edges.kube.cluster import KubeCluster
from gitsyncd.model.answers import ApplyOptions
from gitsyncd.model.ids import ObjectId, ObjectType, ResourceType
from gitsyncd.model.target import Agent, Kubeconfig
from gitsyncd.model.target import Cluster as ClusterFacts
from tests.sandbox import Cluster

pytestmark = pytest.mark.real

LEVELS = 3000
DEFINITIONS = ResourceType(
    type=ObjectType(api_version="apiextensions.k8s.io/v1", kind="CustomResourceDefinition"),
    plural="customresourcedefinitions",
    namespaced=False,
)


@pytest.fixture
async def kube(bare_cluster: Cluster) -> AsyncIterator[KubeCluster]:
    agent = Agent(name="edge", state_dir=Path("/nowhere"), cluster_namespace="gitsyncd", socket=Path("/nowhere/socket"))
    made = KubeCluster(ClusterFacts(name="eu", connection=Kubeconfig(file=bare_cluster.kubeconfig)), agent)
    made.allow_writes(float("inf"))
    yield made
    await made.close()


async def defined(kube: KubeCluster) -> ResourceType:
    """A kind that takes anything, served."""
    kind = "Deep" + secrets.token_hex(3)
    plural, group = kind.lower() + "s", "hostile.example.com"
    name = f"{plural}.{group}"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    spec: dict[str, Any] = {
        "group": group,
        "scope": "Namespaced",
        "names": {"plural": plural, "kind": kind},
        "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
    }
    body = {"apiVersion": DEFINITIONS.type.api_version, "kind": DEFINITIONS.type.kind, "metadata": {"name": name}}
    object_id = ObjectId(group="apiextensions.k8s.io", kind=DEFINITIONS.type.kind, namespace="", name=name)
    await kube.apply(DEFINITIONS, object_id, json.dumps(body | {"spec": spec}).encode(), ApplyOptions())
    wanted = ObjectType(api_version=f"{group}/v1", kind=kind)
    async with asyncio.timeout(30):
        while wanted not in (found := (await kube.discover()).resources):  # noqa: ASYNC110
            await asyncio.sleep(0.1)  # only the server knows when
    return found[wanted]


async def test_an_object_of_thousands_of_levels_hides_no_other_from_list_and_watch(
    kube: KubeCluster, bare_cluster: Cluster, namespace: str
) -> None:
    # given
    bare_cluster.create_namespace(namespace)
    resource = await defined(kube)

    def body(name: str, levels: int) -> str:
        head = {"apiVersion": resource.type.api_version, "kind": resource.type.kind}
        metadata = {"name": name, "labels": {"gitsyncd.dev/agent": "edge"}}
        deep = '{"a":' * levels + "1" + "}" * levels
        return json.dumps(head | {"metadata": metadata}).removesuffix("}") + f',"spec":{deep}}}'

    before = await kube.list(resource, selector="gitsyncd.dev/agent=edge")

    # when
    path = f"/apis/{resource.type.api_version}/namespaces/{namespace}/{resource.plural}"
    for name, levels in (("a-deep", LEVELS), ("b-flat", 1)):
        bare_cluster.kubectl("create", "--raw", path, "-f", "-", input=body(name, levels))

    # then
    listing = await kube.list(resource, selector="gitsyncd.dev/agent=edge")
    assert [item["metadata"]["name"] for item in listing.items] == ["a-deep", "b-flat"]
    seen = []
    async with asyncio.timeout(20):
        async for event in kube.watch(
            resource, selector="gitsyncd.dev/agent=edge", resource_version=before.resource_version
        ):
            seen.append(event.name)
            if len(seen) == 2:
                break
    assert seen == ["a-deep", "b-flat"]
