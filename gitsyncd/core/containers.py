"""Which images objects run: the containers of every kind that has a pod in it, by name."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from gitsyncd.model.ids import ObjectId
from gitsyncd.model.immutable import immutable
from gitsyncd.model.manifest import Manifest

_LISTS: Final = ("initContainers", "containers", "ephemeralContainers")
_POD_PATHS: Final = (("spec",), ("spec", "template", "spec"), ("spec", "jobTemplate", "spec", "template", "spec"))
"""Of a Pod, of what makes pods, and of a CronJob."""
_SIGN: Final = b'"image"'


@immutable
class Running:
    """One container of one object."""

    object: ObjectId
    container: str
    image: str


def images_of(manifests: Iterable[Manifest]) -> tuple[Running, ...]:
    """In the order of the manifests. What has no pod in it, or one that cannot be read, has none."""
    return tuple(found for manifest in manifests if _SIGN in manifest.body for found in _containers(manifest))


def _containers(manifest: Manifest) -> Iterator[Running]:
    body: Any = json.loads(manifest.body)
    for path in _POD_PATHS:
        spec = _below(body, path)
        for key in _LISTS:
            containers = spec.get(key)
            for container in containers if isinstance(containers, list) else ():
                image = container.get("image") if isinstance(container, dict) else None
                if isinstance(image, str) and image:
                    yield Running(object=manifest.id, container=str(container.get("name", "")), image=image)


def _below(body: Any, path: tuple[str, ...]) -> Mapping[str, Any]:
    for key in path:
        body = body.get(key) if isinstance(body, dict) else None
    return body if isinstance(body, dict) else {}
