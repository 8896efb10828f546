"""What the agent keeps for itself in a cluster: the inventories' ConfigMaps and the key for digests of Secrets.

All in one namespace, which is made when it is missing. Written by PUT and POST, never by apply: a write here must fail
when somebody else wrote in between. None of it wears the label of applied objects, so no watch and no prune sees it.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import orjson

from gitsyncd.edges.kube import inventory as records
from gitsyncd.edges.kube.client import Call, Client, all_of
from gitsyncd.edges.kube.inventory import Shard
from gitsyncd.edges.kube.objects import decoded, list_all
from gitsyncd.model.errors import Changed, ClusterDenied, NotFound, StateError
from gitsyncd.model.ids import ObjectType, ResourceType
from gitsyncd.model.inventory import Inventory

KEY_BYTES = 32

_CONFIG_MAPS = ResourceType(type=ObjectType(api_version="v1", kind="ConfigMap"), plural="configmaps", namespaced=True)
_MARKS = {"app.kubernetes.io/managed-by": "gitsyncd"}


class Ledger:
    """The agent's own objects in one cluster. One writer per target: calls for one target must not overlap."""

    def __init__(self, client: Client, *, agent: str, namespace: str, manager: str) -> None:
        self._client = client
        self._agent = agent
        self._namespace = namespace
        self.path = f"/api/v1/namespaces/{namespace}/configmaps"
        """Of the inventories."""
        self._query = f"?fieldManager={quote(manager, safe='')}"
        self._shards: dict[str, list[Shard]] = {}
        self._saved: dict[str, Inventory] = {}
        self._lost: set[str] = set()
        """Targets whose last save found that somebody else wrote: nothing is written before a fresh load."""
        self._writing: set[str] = set()
        """Targets of which a write is on its way now."""
        self._written: Counter[str] = Counter()
        """Writes by target that are over, good or bad."""

    async def load(self) -> Mapping[str, Inventory]:
        """All inventories by target name, from one list; what of them cannot be read is told in `damage`.

        Of a target that is written meanwhile the list may tell what was before: of that one the writer knows better.
        """
        written = Counter(self._written)
        page = await list_all(
            self._client, _CONFIG_MAPS, selector=f"{records.LABEL}={self._agent}", namespace=self._namespace
        )
        found = records.read_shards(self._agent, page.items)
        loaded = {
            target: records.restore(self._agent, target, self._client.cluster, items) for target, items in found.items()
        }
        busy = self._writing | {target for target, times in self._written.items() if times != written[target]}
        for target in (self._shards.keys() | loaded.keys() | self._lost) - busy:
            self._lost.discard(target)
            self._saved.pop(target, None)
            self._shards.pop(target, None)
            if target in loaded:
                self._saved[target], self._shards[target] = loaded[target]
        return dict(self._saved)

    async def save(self, target: str, inventory: Inventory) -> Inventory:
        """Write what differs; shard 0 first, which decides between two writers. Returns it with its new serial."""
        with self._a_write(target):
            return await self._save(target, inventory)

    async def drop(self, target: str) -> None:
        """Remove all shards; the last first, so that what a crash leaves is still missed and read as unusable."""
        with self._a_write(target):
            await self._drop(target)

    @contextlib.contextmanager
    def _a_write(self, target: str) -> Iterator[None]:
        self._writing.add(target)
        try:
            yield
        finally:
            self._writing.discard(target)
            self._written[target] += 1

    async def _save(self, target: str, inventory: Inventory) -> Inventory:
        if target in self._lost:
            raise self._outrun(target)
        before = self._saved.get(target)
        if before is not None and not before.damage and _same(before, inventory):
            return replace(inventory, serial=before.serial)
        shards = self._shards.get(target, [])
        placed = records.place(inventory.entries, [shard.entries for shard in shards])
        serial = max(inventory.serial, before.serial if before else 0) + 1
        names = [records.shard_name(self._agent, target, number) for number in range(len(placed))]
        shards = [*shards, *(Shard(name=name) for name in names[len(shards) :])]
        changed = [
            number
            for number, entries in enumerate(placed)
            if number == 0
            or shards[number].damaged
            or not shards[number].resource_version
            or entries != shards[number].entries
        ]

        async def write(number: int) -> None:
            body = records.config_map(
                name=names[number],
                agent=self._agent,
                target=target,
                inventory=inventory,
                serial=serial,
                shards=len(placed),
                entries=placed[number],
            )
            shards[number] = await self._write(shards[number], body, placed[number])

        # Until all is written, what is known of these shards is not what is there.
        self._lost.add(target)
        await write(0)
        await all_of(write(number) for number in changed[1:])
        self._shards[target] = shards
        saved = replace(inventory, serial=serial, damage="")
        self._saved[target] = saved
        self._lost.discard(target)
        return saved

    async def _drop(self, target: str) -> None:
        if target in self._lost:
            raise self._outrun(target)
        for shard in reversed(self._shards.get(target, [])):
            await self._delete(shard)
        self._shards.pop(target, None)
        self._saved.pop(target, None)

    async def digest_key(self, *, create: bool) -> bytes:
        """From the Secret `gitsyncd.<agent>.key`; whoever makes it first, all get the same.

        Without `create`, a key for this once where there is none.
        """
        name = f"gitsyncd.{self._agent}.key"
        path = self._path("secrets")
        read = Call(method="GET", verb="get", path=f"{path}/{name}", subject=self._subject("Secret", name), secret=True)
        try:
            return _key_of(decoded(await self._client.send(read), self._client), name)
        except NotFound:
            if not create:
                return secrets.token_bytes(KEY_BYTES)
        key = base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()
        body = {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "labels": {records.LABEL: self._agent, **_MARKS}},
            "type": "Opaque",
            "data": {"key": key},
        }
        with contextlib.suppress(Changed):  # somebody else was first
            await self._create(path, body, self._subject("Secret", name), secret=True)
        return _key_of(decoded(await self._client.send(read), self._client), name)

    async def _write(self, shard: Shard, body: dict[str, Any], entries: Mapping[Any, Any]) -> Shard:
        subject = self._subject("ConfigMap", shard.name)
        if shard.resource_version:
            body["metadata"] |= {"uid": shard.uid, "resourceVersion": shard.resource_version}
            call = Call(
                method="PUT",
                verb="update",
                path=f"{self.path}/{shard.name}{self._query}",
                subject=subject,
                body=orjson.dumps(body),
                idempotent=False,
            )
            try:
                answer = decoded(await self._client.send(call), self._client)
            except NotFound as gone:
                raise Changed("the inventory was deleted in between", subject=subject) from gone
        else:
            answer = await self._create(self.path, body, subject)
        metadata = answer["metadata"]
        return Shard(
            name=shard.name, uid=metadata["uid"], resource_version=metadata["resourceVersion"], entries=dict(entries)
        )

    async def _create(
        self, path: str, body: Mapping[str, Any], subject: str, *, secret: bool = False
    ) -> dict[str, Any]:
        call = Call(
            method="POST",
            verb="create",
            path=path + self._query,
            subject=subject,
            body=orjson.dumps(body),
            secret=secret,
            idempotent=False,
        )
        try:
            return decoded(await self._client.send(call), self._client)
        except NotFound:
            await self.create_namespace()
        return decoded(await self._client.send(call), self._client)

    async def create_namespace(self) -> None:
        """The agent's own. Raises `ClusterDenied` with the command that makes it."""
        body = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": self._namespace, "labels": _MARKS},
        }
        call = Call(
            method="POST",
            verb="create",
            path=f"/api/v1/namespaces{self._query}",
            subject=f"Namespace/{self._namespace}",
            body=orjson.dumps(body),
            idempotent=False,
        )
        try:
            await self._client.send(call)
        except Changed:
            pass  # somebody else was first
        except ClusterDenied as denied:
            raise ClusterDenied(
                f"the agent's own namespace {self._namespace!r} is missing and may not be created: {denied.message}",
                subject=self._client.cluster,
                hint=f"kubectl create namespace {self._namespace}",
            ) from denied

    async def _delete(self, shard: Shard) -> None:
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": shard.uid, "resourceVersion": shard.resource_version},
        }
        call = Call(
            method="DELETE",
            verb="delete",
            path=f"{self.path}/{shard.name}",
            subject=self._subject("ConfigMap", shard.name),
            body=orjson.dumps(options),
        )
        with contextlib.suppress(NotFound):
            await self._client.send(call)

    def _path(self, plural: str) -> str:
        return f"/api/v1/namespaces/{self._namespace}/{plural}"

    def _subject(self, kind: str, name: str) -> str:
        return f"{kind}/{self._namespace}/{name}"

    def _outrun(self, target: str) -> Changed:
        return Changed("somebody else wrote this inventory: load it afresh", subject=f"{target}@{self._client.cluster}")


def _same(before: Inventory, after: Inventory) -> bool:
    return before.entries == after.entries and before.commit == after.commit and before.cluster_uid == after.cluster_uid


def _key_of(secret: Mapping[str, Any], name: str) -> bytes:
    try:
        key = base64.b64decode(secret["data"]["key"], validate=True)
    except (KeyError, TypeError, binascii.Error):
        key = b""
    if len(key) != KEY_BYTES:
        raise StateError(
            f"Secret {name!r} does not hold a key of {KEY_BYTES} bytes",
            hint="Delete it: a new one is made, and every Secret is applied once more.",
        )
    return key
