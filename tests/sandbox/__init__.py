"""A real Kubernetes control plane on this machine, for tests, benchmarks, the demo and people.

etcd and kube-apiserver, and on demand controllers, a scheduler and simulated nodes, listening on loopback only. The
first use builds them (`binaries`), which takes minutes; after that a cluster starts in seconds.

    with Sandbox(clusters=1, nodes=2) as box:
        print(box.clusters[0].kubectl("get", "nodes"))

Nothing in here knows gitsyncd, and nothing in here is shipped with it.
"""

from tests.sandbox.binaries import KUBERNETES, BuildFailed
from tests.sandbox.cluster import (
    PLAIN_USERS,
    ApiError,
    AuditEvent,
    Cluster,
    ClusterOptions,
    KubectlFailed,
    NotReady,
)
from tests.sandbox.processes import ProcessEnded
from tests.sandbox.sandbox import Sandbox

__all__ = [
    "KUBERNETES",
    "PLAIN_USERS",
    "ApiError",
    "AuditEvent",
    "BuildFailed",
    "Cluster",
    "ClusterOptions",
    "KubectlFailed",
    "NotReady",
    "ProcessEnded",
    "Sandbox",
]
