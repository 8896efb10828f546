"""An API server in memory: enough of one for every step of a turn. What it does, `tests/contract` holds against a real one.

`MemoryCluster` is the server and the people at its other doors; `MemoryApi` is one client's way in and satisfies the
engine's `ClusterApi`. Lists in bodies are atomic; a namespace that is deleted is gone at once with all that is in it.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import orjson

from gitsyncd.model.answers import ApplyOptions, ClusterIdentity, Discovery, Listing, WatchEvent
from gitsyncd.model.errors import Changed, ClusterUnreachable, Conflict, Expired, KindUnknown, LeaseLost, NotFound
from gitsyncd.model.ids import ObjectId, ObjectType, ResourceType
from gitsyncd.model.inventory import Inventory
from gitsyncd.model.lease import Candidate, Lease
from gitsyncd.model.rights import Held, Right
from gitsyncd.model.target import Agent
from tests.engine.fields import FieldManagers, Json

VERBS = frozenset({"get", "list", "watch", "create", "patch", "delete"})


def resource(api_version: str, kind: str, *, namespaced: bool = True) -> ResourceType:
    plural = kind.lower() + ("es" if kind.endswith("s") else "s")
    kind_type = ObjectType(api_version=api_version, kind=kind)
    return ResourceType(type=kind_type, plural=plural, namespaced=namespaced, verbs=VERBS)


BUILT_IN = (
    resource("v1", "ConfigMap"),
    resource("v1", "Secret"),
    resource("v1", "Service"),
    resource("v1", "Namespace", namespaced=False),
    resource("apps/v1", "Deployment"),
    resource("autoscaling/v2", "HorizontalPodAutoscaler"),
    resource("apiextensions.k8s.io/v1", "CustomResourceDefinition", namespaced=False),
)


@dataclass(frozen=True, slots=True)
class Call:
    """One request that reached the server."""

    method: str
    kind: str = ""
    name: str = ""
    at: float = 0.0


@dataclass(slots=True)
class Fault:
    """What happens to calls of one method, or (`*`) of every: an error, a wait, or both."""

    method: str
    error: Callable[[], Exception] | None = None
    kind: str = ""
    name: str = ""
    times: int = -1
    """How often; -1 until it is over."""
    gate: asyncio.Event | None = None
    """The call waits for it."""
    reached: asyncio.Event = field(default_factory=asyncio.Event)

    def concerns(self, call: Call) -> bool:
        named = self.kind in {"", call.kind} and self.name in {"", call.name}
        return self.times != 0 and self.method in {"*", call.method} and named

    def over(self) -> None:
        self.times = 0
        if self.gate is not None:
            self.gate.set()


@dataclass(eq=False, slots=True)
class Watch:
    """One open watch."""

    type: ObjectType
    selector: str
    namespace: str
    queue: asyncio.Queue[WatchEvent | Exception | None] = field(default_factory=asyncio.Queue)


@dataclass(frozen=True, slots=True)
class Moment:
    """One write, as watches tell it."""

    version: int
    id: ObjectId
    before: Json | None
    after: Json | None


class MemoryCluster:
    """The server."""

    def __init__(self, *, uid: str = "kube-system-1") -> None:
        self.uid = uid
        self.objects: dict[ObjectId, dict[str, Any]] = {}
        self.kinds: dict[ObjectType, ResourceType] = {kind.type: kind for kind in BUILT_IN}
        self.stale: set[str] = set()
        """Groups whose API does not answer."""
        self.calls: list[Call] = []
        self.lease_calls: list[Call] = []
        """Apart, since a daemon holds its lease whatever happens."""
        self.faults: list[Fault] = []
        self.watches: set[Watch] = set()
        self.inventories: dict[tuple[str, str], tuple[Inventory, int]] = {}
        self.histories: dict[tuple[str, str], str] = {}
        self.leases: dict[str, Lease] = {}
        self.lease_told = asyncio.Event()
        self.lease_latency_s = 0.001
        self.latency_s = 0.001
        self.quick_watches = False
        """Every watch ends as soon as it began."""
        self.served_after_s = 0.5
        """Between the acceptance of a CustomResourceDefinition and the first request for its kind."""
        self._managers = FieldManagers()
        self._version = 1000
        self._uids = 0
        self._history: list[Moment] = []
        self._oldest = 0
        for name in ("default", "kube-system"):
            self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})

    # --- what tests ask of it ------------------------------------------------------------------------------------

    def count(self) -> Counter[str]:
        """Requests so far, by method."""
        return Counter(call.method for call in self.calls)

    def fail(
        self, method: str, error: Callable[[], Exception], *, kind: str = "", name: str = "", times: int = -1
    ) -> Fault:
        fault = Fault(method, error, kind, name, times)
        self.faults.append(fault)
        return fault

    def hold(self, method: str, *, name: str = "") -> Fault:
        """The next such call stops at the server's door until the fault is `over`."""
        fault = Fault(method, name=name, times=1, gate=asyncio.Event())
        self.faults.append(fault)
        return fault

    def go_down(self) -> Fault:
        """Nothing answers, and open watches break."""
        self.break_watches(lambda: ClusterUnreachable("no connection"))
        return self.fail("*", lambda: ClusterUnreachable("no connection"))

    def break_watches(self, error: Callable[[], Exception] | None = None) -> None:
        """End every open watch: as the server ends it, or with an error."""
        for watch in self.watches:
            watch.queue.put_nowait(error() if error else None)

    def compact(self) -> None:
        """Forget the past: a watch that begins before now is `Expired`."""
        self._oldest, self._history = self._version, []

    def put(self, body: Json, *, manager: str = "kubectl-create") -> dict[str, Any]:
        """Create or replace an object as somebody else would."""
        object_id = self._identify(body)

        def replaced(live: dict[str, Any]) -> None:
            live.clear()
            live.update(deepcopy(dict(body)))

        return self.edit(object_id, replaced, manager=manager)

    def edit(
        self, object_id: ObjectId, change: Callable[[dict[str, Any]], None], *, manager: str = "kubectl-edit"
    ) -> dict[str, Any]:
        """Change an object as somebody else would, past every fault."""
        before = self.objects.get(object_id, {})
        after = deepcopy(before)
        kept = {key: before["metadata"][key] for key in ("uid", "resourceVersion")} if before else {}
        change(after)
        after["metadata"] |= kept
        self._managers.updated(before, after, manager)
        return self._write(object_id, after)

    def remove(self, object_id: ObjectId) -> None:
        """Delete as somebody else would; finalizers hold it."""
        live = deepcopy(self.objects[object_id])
        if live["metadata"].get("finalizers"):
            live["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            self._write(object_id, live)
            return
        self._vanish(object_id)

    def serve(self, definition: Json) -> None:
        """The kind of a CustomResourceDefinition is served from now on."""
        spec = definition["spec"]
        for version in spec["versions"]:
            kind = ObjectType(api_version=f"{spec['group']}/{version['name']}", kind=spec["names"]["kind"])
            self.kinds[kind] = ResourceType(
                type=kind, plural=spec["names"]["plural"], namespaced=spec["scope"] == "Namespaced", verbs=VERBS
            )

    # --- leases --------------------------------------------------------------------------------------------------

    def grant(self, agent: str, *, holder: str, candidates: Mapping[str, Candidate], duration_s: float = 15.0) -> Lease:
        renewed = f"at {asyncio.get_running_loop().time():.3f}"
        lease = Lease(holder=holder, renewed=renewed, duration_s=duration_s, resource_version="", candidates=candidates)
        return self.tell(agent, lease)

    def tell(self, agent: str, lease: Lease) -> Lease:
        self._version += 1
        self.leases[agent] = replace(lease, resource_version=str(self._version))
        self.lease_told.set()
        self.lease_told = asyncio.Event()
        return self.leases[agent]

    # --- objects -------------------------------------------------------------------------------------------------

    def version(self) -> str:
        return str(self._version)

    def live(self, kind: ResourceType, object_id: ObjectId) -> dict[str, Any] | None:
        self.require(kind.type)
        return self.objects.get(object_id)

    def require(self, kind: ObjectType) -> None:
        if kind not in self.kinds:
            raise KindUnknown(f"no kind {kind} here")

    def matching(self, kind: ObjectType, selector: str, namespace: str) -> list[dict[str, Any]]:
        self.require(kind)
        return [
            deepcopy(live) | {"apiVersion": kind.api_version, "kind": kind.kind}
            for object_id, live in self.objects.items()
            if (object_id.group, object_id.kind) == (kind.group, kind.kind)
            and namespace in {"", object_id.namespace}
            and _selected(live, selector)
        ]

    def apply(
        self, kind: ResourceType, object_id: ObjectId, body: bytes, manager: str, options: ApplyOptions
    ) -> dict[str, Any]:
        self.require(kind.type)
        given = orjson.loads(body)
        before = self.objects.get(object_id, {})
        if options.uid and options.uid != (before.get("metadata") or {}).get("uid"):
            raise Changed("it was deleted and created again in between")
        if before and options.resource_version not in {"", before["metadata"]["resourceVersion"]}:
            raise Changed("it was changed by somebody else in between")
        if (
            kind.namespaced
            and ObjectId(group="", kind="Namespace", namespace="", name=object_id.namespace) not in self.objects
        ):
            raise NotFound(f"there is no namespace {object_id.namespace}")
        after, conflicts = self._managers.applied(before, given, manager)
        if conflicts and not options.force:
            raise Conflict(f"conflict with {', '.join(sorted(conflicts))}")
        return deepcopy(after) if options.dry_run else self._write(object_id, after)

    def rewrite(
        self, object_id: ObjectId, managed: Sequence[Json], version: str, annotations: Mapping[str, None]
    ) -> dict[str, Any]:
        live = deepcopy(self.objects.get(object_id))
        if live is None:
            raise NotFound("it does not exist")
        if live["metadata"]["resourceVersion"] != version:
            raise Changed("it was changed by somebody else in between")
        live["metadata"]["managedFields"] = [dict(entry) for entry in managed]
        for name in annotations:
            live["metadata"].get("annotations", {}).pop(name, None)
        return self._write(object_id, live)

    def delete(self, kind: ResourceType, object_id: ObjectId, uid: str, version: str) -> bool:
        self.require(kind.type)
        live = self.objects.get(object_id)
        if live is None:
            return True
        if live["metadata"]["uid"] != uid or version not in {"", live["metadata"]["resourceVersion"]}:
            raise Changed("it is another object now")
        self.remove(object_id)
        return object_id not in self.objects

    def _write(self, object_id: ObjectId, after: dict[str, Any]) -> dict[str, Any]:
        """A write that changes nothing leaves no trace."""
        before = self.objects.get(object_id)
        if before == after:
            return deepcopy(after)
        metadata = after["metadata"]
        if before is None:
            self._uids += 1
            metadata |= {"uid": f"uid-{self._uids}", "creationTimestamp": "2026-01-01T00:00:00Z"}
        self._version += 1
        metadata["resourceVersion"] = str(self._version)
        _settle(object_id, after)
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers"):
            self._vanish(object_id)
            return deepcopy(after)
        self.objects[object_id] = after
        self._tell(object_id, before, after)
        if object_id.kind == "CustomResourceDefinition":
            self._define(after)
        return deepcopy(after)

    def _define(self, definition: Json) -> None:
        if self.served_after_s:
            asyncio.get_running_loop().call_later(self.served_after_s, self.serve, definition)
        else:
            self.serve(definition)

    def _vanish(self, object_id: ObjectId) -> None:
        before = self.objects.pop(object_id)
        self._version += 1
        self._tell(object_id, before, None)
        if object_id.kind == "Namespace":
            for inner in [known for known in self.objects if known.namespace == object_id.name]:
                self._vanish(inner)
        if object_id.kind == "CustomResourceDefinition":
            group, kind = before["spec"]["group"], before["spec"]["names"]["kind"]
            for instance in [known for known in self.objects if (known.group, known.kind) == (group, kind)]:
                self._vanish(instance)
            self.kinds = {t: r for t, r in self.kinds.items() if (t.group, t.kind) != (group, kind)}
            for watch in self.watches:
                if (watch.type.group, watch.type.kind) == (group, kind):
                    watch.queue.put_nowait(None)

    def _identify(self, body: Json) -> ObjectId:
        group, _, _ = body["apiVersion"].rpartition("/")
        metadata = body["metadata"]
        return ObjectId(group=group, kind=body["kind"], namespace=metadata.get("namespace", ""), name=metadata["name"])

    # --- watches -------------------------------------------------------------------------------------------------

    def subscribe(self, watch: Watch, since: str) -> None:
        self.require(watch.type)
        if int(since) < self._oldest:
            raise Expired("the server no longer has this resourceVersion")
        for moment in self._history:
            if moment.version > int(since):
                _deliver(watch, moment)
        self.watches.add(watch)

    def _tell(self, object_id: ObjectId, before: Json | None, after: Json | None) -> None:
        moment = Moment(self._version, object_id, deepcopy(before), deepcopy(after))
        self._history.append(moment)
        for watch in self.watches:
            _deliver(watch, moment)


class MemoryApi:
    """One client of a `MemoryCluster`: satisfies `ClusterApi`."""

    def __init__(self, server: MemoryCluster, agent: Agent) -> None:
        self.server = server
        self._agent = agent.name
        self._manager = agent.field_manager
        self._loaded: dict[str, int] = {}
        self._lost: set[str] = set()
        self._until = float("-inf")
        self.requests: Counter[tuple[str, str]] = Counter()
        self.watching = 0

    async def _arrive(self, method: str, kind: str = "", name: str = "") -> None:
        call = Call(method, kind, name, asyncio.get_running_loop().time())
        (self.server.lease_calls if method.startswith("lease") else self.server.calls).append(call)
        self.requests[method, "200"] += 1
        for fault in self.server.faults:
            if fault.concerns(call):
                fault.times -= 1 if fault.times > 0 else 0
                fault.reached.set()
                if fault.gate is not None:
                    await fault.gate.wait()
                if fault.error is not None:
                    raise fault.error()
        await asyncio.sleep(self.server.lease_latency_s if method.startswith("lease") else self.server.latency_s)

    def allow_writes(self, until: float) -> None:
        self._until = until

    def _fenced(self) -> None:
        if asyncio.get_running_loop().time() >= self._until:
            raise LeaseLost("nothing is written without the lease")

    async def read_lease(self) -> Lease | None:
        await self._arrive("lease-read")
        return self.server.leases.get(self._agent)

    async def take_lease(self, before: Lease | None, *, holder: str, duration_s: float) -> Lease:
        await self._arrive("lease-take")
        if self.server.leases.get(self._agent) != before:
            raise Changed("the lease was taken by another daemon")
        return self.server.grant(
            self._agent, holder=holder, duration_s=duration_s, candidates=before.candidates if before else {}
        )

    async def renew_lease(self, *, holder: str) -> Lease:
        await self._arrive("lease-renew")
        return self.server.grant(self._agent, holder=holder, candidates=self._own_lease(holder).candidates)

    async def pass_lease_on(self, *, holder: str, heir: str) -> None:
        await self._arrive("lease-pass")
        self.server.grant(self._agent, holder=heir, candidates=self._own_lease(holder).candidates)

    def _own_lease(self, holder: str) -> Lease:
        lease = self.server.leases.get(self._agent)
        if lease is None or lease.holder != holder:
            raise Changed("the lease was taken by another daemon")
        return lease

    async def stand_by(self, holder: str, candidate: Candidate | None) -> Lease:
        await self._arrive("lease-stand")
        lease = self.server.leases[self._agent]
        others = {name: said for name, said in lease.candidates.items() if name != holder}
        candidates = {**others, holder: candidate} if candidate else others
        return self.server.tell(self._agent, replace(lease, candidates=candidates))

    async def lease_changes(self, lease: Lease) -> AsyncGenerator[Lease, None]:
        await self._arrive("lease-watch")
        while True:
            now = self.server.leases.get(self._agent)
            if now is not None and now != lease:
                lease = now
                yield now
            else:
                await self.server.lease_told.wait()

    async def identity(self) -> ClusterIdentity:
        await self._arrive("identity")
        return ClusterIdentity(uid=self.server.uid, version="v1.37.0", resource_version=self.server.version())

    async def discover(self) -> Discovery:
        await self._arrive("discover")
        known = {t: r for t, r in self.server.kinds.items() if t.group not in self.server.stale}
        return Discovery(resources=known, stale=frozenset(self.server.stale))

    async def read(self, resource: ResourceType, object_id: ObjectId) -> Json | None:
        await self._arrive("read", object_id.kind, object_id.name)
        return deepcopy(self.server.live(resource, object_id))

    async def list(
        self,
        resource: ResourceType,
        *,
        selector: str = "",
        namespace: str = "",
        each: Callable[[Json], Any] | None = None,
    ) -> Listing:
        await self._arrive("list" if not namespace else "list in namespace", resource.type.kind)
        items = self.server.matching(resource.type, selector, namespace)
        return Listing(items=tuple(map(each, items) if each else items), resource_version=self.server.version())

    async def list_metadata(self, resource: ResourceType, *, namespace: str = "") -> Listing:
        await self._arrive("list metadata", resource.type.kind)
        items = self.server.matching(resource.type, "", namespace)
        for item in items:
            item["metadata"].pop("managedFields", None)
        slim = tuple({key: item[key] for key in ("apiVersion", "kind", "metadata")} for item in items)
        return Listing(items=slim, resource_version=self.server.version())

    async def watch(
        self, resource: ResourceType, *, selector: str, resource_version: str, namespace: str = ""
    ) -> AsyncIterator[WatchEvent]:
        await self._arrive("watch", resource.type.kind)
        watch = Watch(resource.type, selector, namespace)
        if self.server.quick_watches:
            return
        self.server.subscribe(watch, resource_version)
        self.watching += 1
        try:
            while True:
                event = await watch.queue.get()
                if event is None:
                    return
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.watching -= 1
            self.server.watches.discard(watch)

    async def apply(self, resource: ResourceType, object_id: ObjectId, body: bytes, options: ApplyOptions) -> Json:
        if not options.dry_run:
            self._fenced()
        await self._arrive("dry run" if options.dry_run else "apply", object_id.kind, object_id.name)
        return self.server.apply(resource, object_id, body, self._manager, options)

    async def patch_managed_fields(
        self,
        resource: ResourceType,
        object_id: ObjectId,
        managed_fields: Sequence[Json],
        resource_version: str,
        annotations: Mapping[str, None],
    ) -> Json:
        self._fenced()
        await self._arrive("patch", object_id.kind, object_id.name)
        return self.server.rewrite(object_id, managed_fields, resource_version, annotations)

    async def delete(
        self, resource: ResourceType, object_id: ObjectId, *, uid: str, resource_version: str = ""
    ) -> bool:
        self._fenced()
        await self._arrive("delete", object_id.kind, object_id.name)
        done = self.server.delete(resource, object_id, uid, resource_version)
        await asyncio.sleep(self.server.latency_s)  # the watch is often faster than the answer
        return done

    async def load_inventories(self) -> Mapping[str, Inventory]:
        await self._arrive("load")
        self._lost.clear()
        mine = {t: record for (agent, t), record in self.server.inventories.items() if agent == self._agent}
        self._loaded = {target: version for target, (_, version) in mine.items()}
        return {target: inventory for target, (inventory, _) in mine.items()}

    async def save_inventory(self, target: str, inventory: Inventory) -> Inventory:
        self._fenced()
        await self._arrive("save", name=target)
        known, version = self.server.inventories.get((self._agent, target), (None, 0))
        if target in self._lost or version != self._loaded.get(target, 0):
            self._lost.add(target)
            raise Changed("somebody else wrote this inventory")
        if known is not None and not known.damage and _same(known, inventory):
            return replace(inventory, serial=known.serial)
        saved = replace(inventory, serial=max(inventory.serial, known.serial if known else 0) + 1)
        # What is stored is what a fresh load finds: trust is no part of it.
        self.server.inventories[self._agent, target] = (replace(saved, trusted=True, damage=""), version + 1)
        self._loaded[target] = version + 1
        return saved

    async def drop_inventory(self, target: str) -> None:
        self._fenced()
        await self._arrive("drop", name=target)
        self.server.inventories.pop((self._agent, target), None)
        self._loaded.pop(target, None)

    async def load_histories(self) -> Mapping[str, str]:
        await self._arrive("load histories")
        return {target: text for (agent, target), text in self.server.histories.items() if agent == self._agent}

    async def save_history(self, target: str, text: str) -> None:
        self._fenced()
        await self._arrive("save history", name=target)
        self.server.histories[self._agent, target] = text

    async def drop_history(self, target: str) -> None:
        self._fenced()
        await self._arrive("drop history", name=target)
        self.server.histories.pop((self._agent, target), None)

    async def digest_key(self, *, create: bool) -> bytes:
        await self._arrive("key")
        return b"k" * 32

    async def user(self) -> str:
        return "anybody"

    async def held(self, namespace: str) -> Held:
        return Held(rights=frozenset(), complete=False)

    async def may(self, right: Right) -> bool:
        return True

    async def pause(self, at_most: timedelta) -> bool:
        await asyncio.sleep(at_most.total_seconds())
        return False

    async def close(self) -> None: ...


def _settle(object_id: ObjectId, live: dict[str, Any]) -> None:
    """What controllers write at once."""
    if object_id.kind == "Namespace":
        live["status"] = {"phase": "Active"}
    if object_id.kind == "CustomResourceDefinition":
        conditions = [{"type": kind, "status": "True"} for kind in ("NamesAccepted", "Established")]
        live["status"] = {"conditions": conditions}


def _same(before: Inventory, after: Inventory) -> bool:
    return before.entries == after.entries and before.commit == after.commit and before.cluster_uid == after.cluster_uid


def _selected(live: Json | None, selector: str) -> bool:
    if live is None:
        return False
    name, _, value = selector.partition("=")
    return not selector or (live["metadata"].get("labels") or {}).get(name) == value


def _deliver(watch: Watch, moment: Moment) -> None:
    """A change of label looks like a creation or a deletion to a watch that selects by it."""
    if (moment.id.group, moment.id.kind) != (watch.type.group, watch.type.kind):
        return
    if watch.namespace not in {"", moment.id.namespace}:
        return
    before, after = _selected(moment.before, watch.selector), _selected(moment.after, watch.selector)
    if not before and not after:
        return
    kind = "MODIFIED" if before and after else "ADDED" if after else "DELETED"
    shown = moment.after or moment.before
    assert shown is not None
    body = {
        **shown,
        "apiVersion": watch.type.api_version,
        "kind": watch.type.kind,
        "metadata": {**shown["metadata"], "resourceVersion": str(moment.version)},
    }
    watch.queue.put_nowait(
        WatchEvent(
            kind=kind,
            namespace=moment.id.namespace,
            name=moment.id.name,
            uid=shown["metadata"]["uid"],
            resource_version=str(moment.version),
            object=orjson.dumps(body),
        )
    )
