"""The agent's `Lease` in one cluster: reading, taking, renewing, handing on and watching it.

Every write is a JSON patch that tests what it was decided upon, so that of two daemons one is refused; a renewal tests
the holder alone, and does not mind that candidates write beside it. What a reading means is decided elsewhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson

from gitsyncd.edges.kube import watch
from gitsyncd.edges.kube.client import Call, Client
from gitsyncd.edges.kube.objects import MERGE, decoded
from gitsyncd.model.errors import Changed, ClusterUnreachable, NotFound, Rejected
from gitsyncd.model.ids import ObjectType, ResourceType
from gitsyncd.model.lease import Candidate, Lease

CANDIDATE = "candidate.gitsyncd.dev/"
"""An annotation for each daemon that stands by: what follows is a digest of its name, the value JSON."""

LEASES = ResourceType(
    type=ObjectType(api_version="coordination.k8s.io/v1", kind="Lease"), plural="leases", namespaced=True
)
_JSON_PATCH = "application/json-patch+json"
_TIMEOUT = aiohttp.ClientTimeout(total=4.0)
"""Of one request: a renewal that takes longer has to be tried again while the lease still holds."""
_LONGEST_S = 300
"""What another daemon may ask for; a lease that says more was not written by one."""


def lease_name(agent: str) -> str:
    return f"gitsyncd.{agent}"


class LeaseBook:
    """The Lease of one agent in one cluster."""

    def __init__(self, client: Client, pulse: watch.Pulse, *, agent: str, namespace: str) -> None:
        self._client = client
        self._pulse = pulse
        self._agent = agent
        self._namespace = namespace
        self._name = lease_name(agent)
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._path = f"{self._collection}/{self._name}"
        self._subject = f"Lease.coordination.k8s.io/{namespace}/{self._name}"

    async def read(self) -> Lease | None:
        """None when there is none yet."""
        call = Call(method="GET", verb="get", path=self._path, subject=self._subject, timeout=_TIMEOUT, urgent=True)
        try:
            return _read(decoded(await self._client.send(call), self._client))
        except NotFound:
            return None

    async def take(self, before: Lease | None, *, holder: str, duration_s: float) -> Lease:
        """Make it ours. Raises `Changed` when it is no longer `before`, `NotFound` when its namespace is missing."""
        now = _now()
        spec = {"holderIdentity": holder, "leaseDurationSeconds": round(duration_s), "acquireTime": now}
        if before is None:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name, "labels": {"app.kubernetes.io/managed-by": "gitsyncd"}},
                "spec": {**spec, "renewTime": now, "leaseTransitions": 0},
            }
            return _read(decoded(await self._client.send(self._call("POST", "create", body)), self._client))
        return await self._patch(
            _test("/metadata/resourceVersion", before.resource_version),
            *(_set(f"/spec/{key}", value) for key, value in {**spec, "renewTime": now}.items()),
        )

    async def renew(self, *, holder: str) -> Lease:
        """Raises `Changed` when it is another's by now."""
        return await self._patch(_test("/spec/holderIdentity", holder), _set("/spec/renewTime", _now()))

    async def pass_on(self, *, holder: str, heir: str) -> None:
        """Give up what is ours: to `heir`, or (empty) to whoever comes first. Raises `Changed` when it is not ours."""
        step = _set("/spec/holderIdentity", heir) if heir else {"op": "remove", "path": "/spec/holderIdentity"}
        await self._patch(_test("/spec/holderIdentity", holder), step, _set("/spec/renewTime", _now()))

    async def stand(self, holder: str, candidate: Candidate | None) -> Lease:
        """Say that we stand by, or (None) no longer do. Raises `NotFound` when there is no lease."""
        key = CANDIDATE + hashlib.sha256(holder.encode()).hexdigest()[:20]
        said = {"holder": holder, "holds": candidate.holds, "beat": candidate.beat} if candidate else None
        value = orjson.dumps(said).decode() if said else None
        call = self._call("PATCH", "patch", {"metadata": {"annotations": {key: value}}}, MERGE)
        return _read(decoded(await self._client.send(call), self._client))

    async def changes(self, lease: Lease) -> AsyncGenerator[Lease, None]:
        """Each new state of it after this reading, until the stream ends or it is deleted. Raises `ClusterError`."""
        async for event in watch.watch(
            self._client,
            self._pulse,
            LEASES,
            selector="",
            resource_version=lease.resource_version,
            namespace=self._namespace,
            name=self._name,
        ):
            if event.kind == "DELETED":
                return
            if event.kind != "BOOKMARK":
                yield _read(orjson.loads(event.object))

    async def _patch(self, *steps: Mapping[str, Any]) -> Lease:
        try:
            answer = await self._client.send(self._call("PATCH", "patch", steps, _JSON_PATCH))
        except (NotFound, Rejected) as error:
            # A test that fails is answered by 422 (k8s.io/apiserver, patch.go), as is a patch to a lease without spec.
            raise Changed("the lease was taken by another daemon", subject=self._subject) from error
        return _read(decoded(answer, self._client))

    def _call(self, method: str, verb: str, body: Any, content_type: str = "application/json") -> Call:
        field_manager = urlencode({"fieldManager": f"gitsyncd/{self._agent}"})
        return Call(
            method=method,
            verb=verb,
            path=f"{self._collection if method == 'POST' else self._path}?{field_manager}",
            subject=self._subject,
            body=orjson.dumps(body),
            content_type=content_type,
            timeout=_TIMEOUT,
            idempotent=False,
            urgent=True,
        )


def _read(item: Mapping[str, Any]) -> Lease:
    """Total: a Lease that others have written to may hold anything that its schema takes."""
    spec, metadata = item.get("spec") or {}, item["metadata"]
    try:
        return Lease(
            holder=spec.get("holderIdentity") or "",
            renewed=spec.get("renewTime") or "",
            duration_s=min(int(spec.get("leaseDurationSeconds") or 1), _LONGEST_S),
            resource_version=metadata["resourceVersion"],
            candidates=_candidates(metadata.get("annotations") or {}),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ClusterUnreachable("the answer is no Lease", subject=f"Lease/{metadata.get('name')}") from error


def _candidates(annotations: Mapping[str, str]) -> dict[str, Candidate]:
    found = {}
    for key, value in annotations.items():
        if key.startswith(CANDIDATE):
            try:
                said = orjson.loads(value)
                found[str(said["holder"])] = Candidate(holds=int(said["holds"]), beat=int(said["beat"]))
            except (orjson.JSONDecodeError, KeyError, TypeError, ValueError):
                continue  # written by somebody else: nobody's candidate
    return found


def _test(path: str, value: str) -> dict[str, Any]:
    return {"op": "test", "path": path, "value": value}


def _set(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
