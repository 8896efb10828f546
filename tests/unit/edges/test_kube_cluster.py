"""The edge has the shape of the port; the type checker compares the signatures, this test that the checker was asked."""

from __future__ import annotations

from pathlib import Path

from gitsyncd.edges.kube.cluster import KubeCluster
from gitsyncd.engine.ports import ClusterApi
from gitsyncd.model.target import Agent, Cluster, InCluster


async def test_the_edge_satisfies_the_port() -> None:
    agent = Agent(name="edge", state_dir=Path("/x"), cluster_namespace="gitsyncd", socket=Path("/x/socket"))

    api: ClusterApi = KubeCluster(Cluster(name="eu", connection=InCluster()), agent)

    wanted = {name for name in vars(ClusterApi) if not name.startswith("_")}
    assert wanted <= set(dir(api))
    await api.close()
