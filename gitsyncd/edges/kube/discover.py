"""Which kinds a server serves, and how each is addressed: two aggregated discovery documents, some 30 kB together.

A version whose API is down is *stale* there and left out, and its group is named: its kinds are unknown for the moment,
which is never taken for "its objects are gone".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from gitsyncd.edges.kube.client import Call, Client, all_of
from gitsyncd.model.answers import Discovery
from gitsyncd.model.errors import ClusterError, ClusterUnreachable
from gitsyncd.model.ids import ObjectType, ResourceType

_ACCEPT = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
_NEEDED = frozenset({"get", "list"})


async def discover(client: Client) -> Discovery:
    """Every kind at every served version that can be got and listed. Raises `ClusterError`."""
    calls = [Call(method="GET", verb="get", path=path, accept=_ACCEPT) for path in ("/api", "/apis")]
    found: dict[ObjectType, ResourceType] = {}
    stale: set[str] = set()
    for body in await all_of(client.send(call) for call in calls):
        for resource in parse(body, client.cluster):
            if isinstance(resource, str):
                stale.add(resource)
            else:
                # Two resources of one kind in one group are rare; the first is the one that others use as well.
                found.setdefault(resource.type, resource)
    return Discovery(resources=found, stale=frozenset(stale))


def parse(body: bytes, cluster: str) -> Iterator[ResourceType | str]:
    """The usable kinds of one document, in the server's order: its preferred version of each group first.

    Among them, as text, the names of groups of which something is stale.
    """
    try:
        document = orjson.loads(body)
        if document["kind"] != "APIGroupDiscoveryList":
            raise ClusterError(
                "the API server is too old: it knows no aggregated discovery",
                subject=cluster,
                hint="Kubernetes 1.30 or newer is needed.",
            )
        for group in document.get("items") or ():
            yield from _of_group(group)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ClusterUnreachable("the answer to discovery is not a discovery document", subject=cluster) from error


def _of_group(group: Mapping[str, Any]) -> Iterator[ResourceType | str]:
    name = group["metadata"].get("name", "")
    for position, version in enumerate(group.get("versions") or ()):
        if version.get("freshness") == "Stale":
            yield name
            continue
        api_version = f"{name}/{version['version']}" if name else version["version"]
        for resource in version.get("resources") or ():
            verbs = frozenset(resource.get("verbs") or ())
            kind = (resource.get("responseKind") or {}).get("kind", "")
            if kind and verbs >= _NEEDED:
                yield ResourceType(
                    type=ObjectType(api_version=api_version, kind=kind),
                    plural=resource["resource"],
                    namespaced=resource["scope"] == "Namespaced",
                    verbs=verbs,
                    preferred=position == 0,
                )
