"""What the bare client sends: the objects of the corpus as JSON, with the marks that gitsyncd puts on them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import yaml

from tests.bench.corpus import KINDS


@dataclass(frozen=True, slots=True)
class Body:
    """One server-side apply: the path of the object, and what is sent there."""

    stage: int
    """Namespaces first."""
    path: str
    body: bytes


def bodies(files: Mapping[str, str], *, agent: str, target: str) -> list[Body]:
    """One for each file, in the order in which they are to be sent."""
    found = [_body(path, text, agent, target) for path, text in files.items()]
    return sorted(found, key=lambda body: body.stage)


def _body(path: str, text: str, agent: str, target: str) -> Body:
    value: dict[str, Any] = yaml.load(text, yaml.CSafeLoader)
    kind, metadata = value["kind"], value["metadata"]
    root, plural = KINDS[kind]
    namespace, name = metadata.get("namespace", ""), metadata["name"]
    group = root.split("/")[2] if root.startswith("/apis/") else ""
    identity = "/".join(part for part in (f"{kind}.{group}" if group else kind, namespace, name) if part)
    metadata["labels"] = {**metadata.get("labels", {}), "gitsyncd.dev/agent": agent}
    metadata["annotations"] = {
        "gitsyncd.dev/target": target,
        "gitsyncd.dev/id": identity,
        "gitsyncd.dev/path": path,
    }
    if kind == "Deployment":
        del value["spec"]["replicas"]  # the corpus has an autoscaler for each, and replicas are left to it
    place = f"/namespaces/{namespace}" if namespace else ""
    body = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    return Body(0 if kind == "Namespace" else 1, f"{root}{place}/{plural}/{name}", body)
