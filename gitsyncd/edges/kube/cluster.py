"""One API server as the engine sees it: the parts of this folder behind one set of methods."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from gitsyncd.edges.kube import discover, objects, watch
from gitsyncd.edges.kube.client import Call, Client, all_of
from gitsyncd.edges.kube.connect import AccessSource
from gitsyncd.edges.kube.fence import Fence
from gitsyncd.edges.kube.histories import Histories
from gitsyncd.edges.kube.lease import LeaseBook
from gitsyncd.edges.kube.ledger import Ledger
from gitsyncd.model.answers import ApplyOptions, ClusterIdentity, Discovery, Listing, WatchEvent
from gitsyncd.model.errors import ClusterUnreachable, NotFound
from gitsyncd.model.ids import ObjectId, ResourceType
from gitsyncd.model.inventory import Inventory
from gitsyncd.model.lease import Candidate, Lease
from gitsyncd.model.rights import Held, Right
from gitsyncd.model.target import Agent, Cluster

Json = Mapping[str, Any]


class KubeCluster:
    """Satisfies the engine's port `ClusterApi`. Connects at the first request; `close` ends everything."""

    def __init__(self, cluster: Cluster, agent: Agent, access: AccessSource | None = None) -> None:
        """`access` may have begun to read the credentials already."""
        self._manager = agent.field_manager
        access = access or AccessSource(cluster, agent)
        self._fence = Fence(cluster=cluster.name, agent=agent.name, namespace=agent.cluster_namespace)
        self._client = Client(
            access, cluster=cluster.name, agent=agent.name, parallel=cluster.parallel, fence=self._fence
        )
        self._pulse = watch.Pulse(self._client)
        self._leases = LeaseBook(self._client, self._pulse, agent=agent.name, namespace=agent.cluster_namespace)
        own = {"agent": agent.name, "namespace": agent.cluster_namespace, "manager": agent.field_manager}
        self._ledger = Ledger(self._client, **own)
        self._histories = Histories(self._client, **own)

    @property
    def requests(self) -> Counter[tuple[str, str]]:
        """Requests so far, by verb and code; the code is `error` where no answer came."""
        return self._client.sent

    @property
    def in_flight_at_most(self) -> int:
        """Requests that may be in flight now, as far as the server's answers have shown."""
        return self._client.width

    @property
    def watching(self) -> int:
        """Watches that are open."""
        return self._client.watching

    async def identity(self) -> ClusterIdentity:
        calls = (
            Call(method="GET", verb="get", path="/api/v1/namespaces/kube-system", subject="Namespace/kube-system"),
            Call(method="GET", verb="get", path="/version"),
            # Not out of a cache: the version of the whole store at this moment.
            Call(method="GET", verb="list", path=f"{self._ledger.path}?limit=1"),
        )
        namespace, version, page = [
            objects.decoded(body, self._client) for body in await all_of(self._client.send(call) for call in calls)
        ]
        try:
            return ClusterIdentity(
                uid=namespace["metadata"]["uid"],
                version=version["gitVersion"],
                resource_version=page["metadata"]["resourceVersion"],
            )
        except (KeyError, TypeError) as error:
            raise ClusterUnreachable(
                "the answers are not those of an API server", subject=self._client.cluster
            ) from error

    async def discover(self) -> Discovery:
        return await discover.discover(self._client)

    async def read(self, resource: ResourceType, object_id: ObjectId) -> Json | None:
        return await objects.read(self._client, resource, object_id)

    async def list(
        self,
        resource: ResourceType,
        *,
        selector: str = "",
        namespace: str = "",
        each: Callable[[Json], Any] | None = None,
    ) -> Listing:
        page = await objects.list_all(self._client, resource, selector=selector, namespace=namespace, each=each)
        return Listing(items=tuple(page.items), resource_version=page.resource_version)

    async def list_metadata(self, resource: ResourceType, *, namespace: str = "") -> Listing:
        page = await objects.list_all(self._client, resource, namespace=namespace, metadata_only=True)
        return Listing(items=tuple(page.items), resource_version=page.resource_version)

    def watch(
        self, resource: ResourceType, *, selector: str, resource_version: str, namespace: str = ""
    ) -> AsyncGenerator[WatchEvent, None]:
        return watch.watch(
            self._client,
            self._pulse,
            resource,
            selector=selector,
            resource_version=resource_version,
            namespace=namespace,
        )

    async def apply(self, resource: ResourceType, object_id: ObjectId, body: bytes, options: ApplyOptions) -> Json:
        return await objects.apply(self._client, resource, object_id, body, manager=self._manager, options=options)

    async def patch_managed_fields(
        self,
        resource: ResourceType,
        object_id: ObjectId,
        managed_fields: Sequence[Json],
        resource_version: str,
        annotations: Mapping[str, None],
    ) -> Json:
        return await objects.patch_managed_fields(
            self._client,
            resource,
            object_id,
            manager=self._manager,
            managed_fields=managed_fields,
            resource_version=resource_version,
            annotations=annotations,
        )

    async def delete(
        self, resource: ResourceType, object_id: ObjectId, *, uid: str, resource_version: str = ""
    ) -> bool:
        return await objects.delete(self._client, resource, object_id, uid=uid, resource_version=resource_version)

    async def load_inventories(self) -> Mapping[str, Inventory]:
        return await self._ledger.load()

    async def save_inventory(self, target: str, inventory: Inventory) -> Inventory:
        return await self._ledger.save(target, inventory)

    async def drop_inventory(self, target: str) -> None:
        await self._ledger.drop(target)

    async def load_histories(self) -> Mapping[str, str]:
        return await self._histories.load()

    async def save_history(self, target: str, text: str) -> None:
        await self._histories.save(target, text)

    async def drop_history(self, target: str) -> None:
        await self._histories.drop(target)

    async def digest_key(self, *, create: bool) -> bytes:
        return await self._ledger.digest_key(create=create)

    # One command asks these three, the daemon never: `reviews` stays out of its memory.

    async def user(self) -> str:
        from gitsyncd.edges.kube import reviews

        return await reviews.user(self._client)

    async def held(self, namespace: str) -> Held:
        from gitsyncd.edges.kube import reviews

        return await reviews.held(self._client, namespace)

    async def may(self, right: Right) -> bool:
        from gitsyncd.edges.kube import reviews

        return await reviews.may(self._client, right)

    async def pause(self, at_most: timedelta) -> bool:
        return await self._client.pause(at_most.total_seconds())

    def allow_writes(self, until: float) -> None:
        self._fence.until = until

    async def read_lease(self) -> Lease | None:
        return await self._leases.read()

    async def take_lease(self, before: Lease | None, *, holder: str, duration_s: float) -> Lease:
        try:
            return await self._leases.take(before, holder=holder, duration_s=duration_s)
        except NotFound:
            await self._ledger.create_namespace()
        return await self._leases.take(before, holder=holder, duration_s=duration_s)

    async def renew_lease(self, *, holder: str) -> Lease:
        return await self._leases.renew(holder=holder)

    async def pass_lease_on(self, *, holder: str, heir: str) -> None:
        await self._leases.pass_on(holder=holder, heir=heir)

    async def stand_by(self, holder: str, candidate: Candidate | None) -> Lease:
        return await self._leases.stand(holder, candidate)

    def lease_changes(self, lease: Lease) -> AsyncGenerator[Lease, None]:
        return self._leases.changes(lease)

    async def close(self) -> None:
        await self._client.close()
