"""The histories of targets: one ConfigMap each, beside the inventories, in text that people can read.

Unlike an inventory a history decides nothing: one that is lost or spoilt costs knowledge and nothing else. Written by
PUT and POST, so that of two writers one is told. What is in it is `core.history`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from urllib.parse import quote

import orjson

from gitsyncd.edges.kube.client import Call, Client
from gitsyncd.edges.kube.inventory import TARGET
from gitsyncd.edges.kube.objects import decoded, list_all
from gitsyncd.model.errors import Changed, NotFound
from gitsyncd.model.ids import ObjectType, ResourceType
from gitsyncd.model.immutable import immutable

LABEL = "gitsyncd.dev/history"
_KEY = "revisions"
_CONFIG_MAPS = ResourceType(type=ObjectType(api_version="v1", kind="ConfigMap"), plural="configmaps", namespaced=True)


@immutable(kw_only=False)
class _Stored:
    uid: str
    resource_version: str


class Histories:
    """All of them on one cluster."""

    def __init__(self, client: Client, *, agent: str, namespace: str, manager: str) -> None:
        self._client = client
        self._agent = agent
        self._namespace = namespace
        self._path = f"/api/v1/namespaces/{namespace}/configmaps"
        self._query = f"?fieldManager={quote(manager, safe='')}"
        self._stored: dict[str, _Stored] = {}

    async def load(self) -> Mapping[str, str]:
        """Text by target. What is not text is none."""
        page = await list_all(self._client, _CONFIG_MAPS, selector=f"{LABEL}={self._agent}", namespace=self._namespace)
        found: dict[str, str] = {}
        self._stored.clear()
        for item in page.items:
            metadata, data = item["metadata"], item.get("data") or {}
            target = (metadata.get("annotations") or {}).get(TARGET, "")
            if metadata["name"] == self._name(target):
                self._stored[target] = _Stored(metadata["uid"], metadata["resourceVersion"])
                found[target] = str(data.get(_KEY, ""))
        return found

    async def save(self, target: str, text: str) -> None:
        """Raises `Changed`."""
        before = self._stored.pop(target, None)
        metadata = {
            "name": self._name(target),
            "labels": {LABEL: self._agent, "app.kubernetes.io/managed-by": "gitsyncd"},
            "annotations": {TARGET: target},
        }
        if before is not None:
            metadata |= {"uid": before.uid, "resourceVersion": before.resource_version}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {_KEY: text}}
        call = Call(
            method="PUT" if before else "POST",
            verb="update" if before else "create",
            path=(f"{self._path}/{self._name(target)}" if before else self._path) + self._query,
            subject=self._subject(target),
            body=orjson.dumps(body),
            idempotent=False,
        )
        try:
            answer = decoded(await self._client.send(call), self._client)
        except NotFound as gone:
            raise Changed("the history was deleted in between", subject=self._subject(target)) from gone
        self._stored[target] = _Stored(answer["metadata"]["uid"], answer["metadata"]["resourceVersion"])

    async def drop(self, target: str) -> None:
        if target not in self._stored:
            await self.load()
        stored = self._stored.pop(target, None)
        if stored is None:
            return
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": stored.uid}}
        call = Call(
            method="DELETE",
            verb="delete",
            path=f"{self._path}/{self._name(target)}",
            subject=self._subject(target),
            body=orjson.dumps(options),
        )
        with contextlib.suppress(NotFound):
            await self._client.send(call)

    def _name(self, target: str) -> str:
        return f"gitsyncd.{self._agent}.{target}.history"

    def _subject(self, target: str) -> str:
        return f"ConfigMap/{self._namespace}/{self._name(target)}"
