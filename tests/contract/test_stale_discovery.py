"""An aggregated API that does not answer is named by discovery, and never taken for one that is gone."""

import asyncio
from pathlib import Path

import pytest

from gitsyncd.edges.kube.cluster import KubeCluster
from gitsyncd.model.target import Agent, Kubeconfig
from gitsyncd.model.target import Cluster as ClusterFacts
from tests.sandbox.fixtures import MakeCluster

pytestmark = pytest.mark.real

GROUP = "metrics.example.com"
API_SERVICE = {
    "apiVersion": "apiregistration.k8s.io/v1",
    "kind": "APIService",
    "metadata": {"name": f"v1.{GROUP}"},
    "spec": {
        "group": GROUP,
        "version": "v1",
        "service": {"name": "nobody", "namespace": "default"},
        "insecureSkipTLSVerify": True,
        "groupPriorityMinimum": 100,
        "versionPriority": 100,
    },
}


async def test_a_group_whose_api_does_not_answer_is_stale_and_the_others_are_not(make_cluster: MakeCluster) -> None:
    # given
    cluster = make_cluster()
    agent = Agent(name="edge", state_dir=Path("/nowhere"), cluster_namespace="gitsyncd", socket=Path("/nowhere/s"))
    kube = KubeCluster(ClusterFacts(name="eu", connection=Kubeconfig(file=cluster.kubeconfig)), agent)
    before = await kube.discover()

    # when
    cluster.request("POST", "/apis/apiregistration.k8s.io/v1/apiservices", API_SERVICE)
    async with asyncio.timeout(30):
        while not (found := await kube.discover()).stale:  # noqa: ASYNC110 - only the server knows
            await asyncio.sleep(0.1)
    await kube.close()

    # then
    assert before.stale == frozenset()
    assert found.stale == {GROUP}
    assert found.resources.keys() == before.resources.keys()
