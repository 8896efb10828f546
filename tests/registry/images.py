"""Images of one tiny layer, as bytes: configuration, manifest, index, in OCI's words or in Docker's."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

OCI = {
    "index": "application/vnd.oci.image.index.v1+json",
    "manifest": "application/vnd.oci.image.manifest.v1+json",
    "config": "application/vnd.oci.image.config.v1+json",
    "layer": "application/vnd.oci.image.layer.v1.tar+gzip",
}
DOCKER = {
    "index": "application/vnd.docker.distribution.manifest.list.v2+json",
    "manifest": "application/vnd.docker.distribution.manifest.v2+json",
    "config": "application/vnd.docker.container.image.v1+json",
    "layer": "application/vnd.docker.image.rootfs.diff.tar.gzip",
}


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


@dataclass(slots=True)
class Image:
    """What has to be pushed: blobs first, then manifests, the last of which gets the tag."""

    blobs: list[bytes] = field(default_factory=list)
    manifests: list[tuple[str, bytes]] = field(default_factory=list)
    """Media type and body."""

    @property
    def digest(self) -> str:
        return digest(self.manifests[-1][1])


def image(
    content: str = "hello",
    *,
    created: str | None = "2026-01-02T03:04:05.123456789Z",
    platform: str = "linux/amd64",
    labels: Mapping[str, str] | None = None,
    kinds: Mapping[str, str] = OCI,
) -> Image:
    """One image for one platform."""
    system, architecture, *variant = platform.split("/")
    layer, raw = _layer(content)
    config: dict[str, Any] = {
        "os": system,
        "architecture": architecture,
        "config": {"Labels": dict(labels or {})},
        "rootfs": {"type": "layers", "diff_ids": [digest(raw)]},
    }
    if variant:
        config["variant"] = variant[0]
    if created is not None:
        config["created"] = created
    blob = json.dumps(config).encode()
    manifest = {
        "schemaVersion": 2,
        "mediaType": kinds["manifest"],
        "config": described(kinds["config"], blob),
        "layers": [described(kinds["layer"], layer)],
    }
    return Image([blob, layer], [(kinds["manifest"], json.dumps(manifest).encode())])


def index(images: Mapping[str, Image], *, kinds: Mapping[str, str] = OCI, beside: Sequence[Any] = ()) -> Image:
    """One image for several platforms, `os/architecture[/variant]` to image."""
    listed: list[Any] = []
    joined = Image()
    for platform, each in images.items():
        system, architecture, *variant = platform.split("/")
        named = {"os": system, "architecture": architecture} | ({"variant": variant[0]} if variant else {})
        kind, body = each.manifests[-1]
        listed.append({**described(kind, body), "platform": named})
        joined.blobs += each.blobs
        joined.manifests += each.manifests
    body = json.dumps({"schemaVersion": 2, "mediaType": kinds["index"], "manifests": [*listed, *beside]}).encode()
    joined.manifests.append((kinds["index"], body))
    return joined


def described(kind: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": kind, "size": len(content), "digest": digest(content)}


def _layer(content: str) -> tuple[bytes, bytes]:
    """A layer with one file, packed and not."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        entry = tarfile.TarInfo("content")
        entry.size = len(content.encode())
        archive.addfile(entry, io.BytesIO(content.encode()))
    return gzip.compress(raw.getvalue(), mtime=0), raw.getvalue()
