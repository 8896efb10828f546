"""From documents to manifests: scope, namespace, marks, and what is left out because others rightly own it.

Belongs here: everything between "what the file says" and "the bytes that are sent". Does not belong here: reading YAML
(an edge), and anything that depends on one live object (`ownership`, `ignore`).
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from gitsyncd.core.controls import controls
from gitsyncd.core.marks import AGENT_LABEL, ID_ANNOTATION, LAST_APPLIED, PATH_ANNOTATION, TARGET_ANNOTATION
from gitsyncd.core.order import CRD, stages, waits_for
from gitsyncd.model.errors import ManifestInvalid
from gitsyncd.model.ids import ObjectId, ObjectType, ResourceType, group_of
from gitsyncd.model.immutable import immutable
from gitsyncd.model.manifest import DEFAULT_CONTROLS, Controls, Desired, Document, Manifest
from gitsyncd.model.target import IgnoreRule

# What only a server writes. People commit it when they save the output of `kubectl get -o yaml`; sent back it would be
# refused (managedFields) or turn the apply into a precondition that nobody meant (resourceVersion, uid).
_SERVER_FIELDS = (
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
)

SCALABLE = frozenset(
    {("apps", "Deployment"), ("apps", "StatefulSet"), ("apps", "ReplicaSet"), ("", "ReplicationController")}
)
HPA = ("autoscaling", "HorizontalPodAutoscaler")
SECRET = ("", "Secret")


@immutable
class Place:
    """Where a set of documents goes: what the server knows, and who is writing."""

    agent: str
    target: str
    """The target's name, without the cluster."""
    cluster: str
    namespace: str
    """For namespaced objects that name none."""
    resources: Mapping[ObjectType, ResourceType]
    autoscaled: Mapping[ObjectId, str]
    """Workloads that an autoscaler on the cluster scales, and its name."""
    ignore: tuple[IgnoreRule, ...] = ()
    key: bytes = b""
    """For digests of Secrets."""


def desired(documents: Iterable[Document], place: Place) -> Desired:
    """Settle every document in its place.

    Raises `ManifestInvalid` for the same object twice (naming both files), a namespace on a cluster-scoped object,
    and annotations that make no sense. An object of a kind that nobody serves or defines is set apart, not an error.
    """
    read = [(document, orjson.loads(document.body)) for document in documents]
    defined = _defined_kinds(body for document, body in read if _kind(document) == CRD)
    scopes = {kind: resource.namespaced for kind, resource in place.resources.items()} | defined
    autoscaled = dict(place.autoscaled)
    for document, body in read:
        if _kind(document) == HPA:
            autoscaled.update(scaled_by(body, document.namespace or place.namespace))
    manifests: dict[ObjectId, Manifest] = {}
    unknown: dict[ObjectId, Manifest] = {}
    for document, body in read:
        namespaced = scopes.get(ObjectType(api_version=document.api_version, kind=document.kind))
        object_id = _identity(document, namespaced, place.namespace)
        twin = manifests.get(object_id) or unknown.get(object_id)
        if twin is not None:
            raise ManifestInvalid(
                f"{object_id} stands twice: here and at {twin.origin}",
                file=document.origin.file,
                line=document.origin.line,
                hint="Remove one of the two, or give it another name.",
            )
        manifest = _settle(document, body, object_id, autoscaled.get(object_id, ""), place)
        (unknown if namespaced is None else manifests)[object_id] = manifest
    waits = waits_for(manifests)
    return Desired(manifests=manifests, unknown=unknown, waits=waits, stages=stages(manifests, waits))


def scaled_by(autoscaler: Mapping[str, Any], namespace: str) -> dict[ObjectId, str]:
    """The workload that a HorizontalPodAutoscaler scales, with the autoscaler's name. Empty for odd shapes."""
    spec = autoscaler.get("spec")
    reference = spec.get("scaleTargetRef") if isinstance(spec, Mapping) else None
    metadata = autoscaler.get("metadata")
    if not isinstance(reference, Mapping) or not isinstance(metadata, Mapping):
        return {}
    kind, name, version = reference.get("kind"), reference.get("name"), reference.get("apiVersion", "apps/v1")
    if not (isinstance(kind, str) and isinstance(name, str) and isinstance(version, str)):
        return {}
    workload = ObjectId(group=group_of(version), kind=kind, namespace=namespace, name=name)
    return {workload: f"HorizontalPodAutoscaler/{namespace}/{metadata.get('name', '')}"}


def digest(body: bytes, *, key: bytes = b"") -> str:
    """32 hexadecimal digits. With a key it tells nothing to somebody who guesses the body."""
    return hashlib.blake2b(body, digest_size=16, key=key).hexdigest()


def _kind(document: Document) -> tuple[str, str]:
    return group_of(document.api_version), document.kind


def _defined_kinds(definitions: Iterable[Mapping[str, Any]]) -> dict[ObjectType, bool]:
    """Kinds that CustomResourceDefinitions of the same set will serve, and whether they live in namespaces."""
    kinds: dict[ObjectType, bool] = {}
    for definition in definitions:
        spec = definition.get("spec")
        names = spec.get("names") if isinstance(spec, Mapping) else None
        versions = spec.get("versions") if isinstance(spec, Mapping) else None
        if not isinstance(spec, Mapping) or not isinstance(names, Mapping) or not isinstance(versions, list):
            continue
        for version in versions:
            if isinstance(version, Mapping):
                kind = ObjectType(api_version=f"{spec.get('group')}/{version.get('name')}", kind=str(names.get("kind")))
                kinds[kind] = spec.get("scope") == "Namespaced"
    return kinds


def _identity(document: Document, namespaced: bool | None, default_namespace: str) -> ObjectId:
    if namespaced is False and document.namespace:
        raise ManifestInvalid(
            f"{document.kind} {document.name!r} is cluster-scoped and cannot have the namespace {document.namespace!r}",
            file=document.origin.file,
            line=document.origin.line,
            hint="Remove `metadata.namespace`.",
        )
    namespace = document.namespace if namespaced is None else (document.namespace or default_namespace) * namespaced
    return ObjectId(group=group_of(document.api_version), kind=document.kind, namespace=namespace, name=document.name)


def _settle(document: Document, body: dict[str, Any], object_id: ObjectId, autoscaler: str, place: Place) -> Manifest:
    metadata = body["metadata"]
    annotations = _string_map(metadata, "annotations", document)
    labels = _string_map(metadata, "labels", document)
    asked = _controls(annotations, document, place.cluster)
    for name in _SERVER_FIELDS:
        metadata.pop(name, None)
    body.pop("status", None)
    annotations.pop(LAST_APPLIED, None)
    if object_id.namespace:
        metadata["namespace"] = object_id.namespace
    metadata["labels"] = labels | {AGENT_LABEL: place.agent}
    metadata["annotations"] = annotations | {
        TARGET_ANNOTATION: place.target,
        ID_ANNOTATION: str(object_id),
        PATH_ANNOTATION: document.origin.file,
    }
    secret = (object_id.group, object_id.kind) == SECRET
    if secret:
        _fold_string_data(body, document)
    yields = tuple(path for rule in place.ignore if rule.matches(object_id) for path in rule.paths)
    left_out = ""
    spec = body.get("spec")
    if autoscaler and isinstance(spec, dict) and spec.pop("replicas", None) is not None:
        yields += ("/spec/replicas",)
        left_out = f".spec.replicas is left to {autoscaler}"
    # A copy: what orjson returns keeps the room of the buffer it was written in, some 4 kB for the usual 1 kB.
    encoded = memoryview(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).tobytes()
    return Manifest(
        id=object_id,
        api_version=document.api_version,
        body=encoded,
        origin=document.origin,
        controls=asked,
        digest=digest(encoded, key=place.key if secret else b""),
        yields=yields,
        left_out=left_out,
    )


def _controls(annotations: Mapping[str, Any], document: Document, cluster: str) -> Controls:
    if not annotations:
        return DEFAULT_CONTROLS
    try:
        return controls(annotations, cluster=cluster)
    except ManifestInvalid as error:
        raise ManifestInvalid(
            error.message, file=document.origin.file, line=document.origin.line, hint=error.hint
        ) from error


def _string_map(metadata: Mapping[str, Any], field: str, document: Document) -> dict[str, str]:
    value = metadata.get(field)
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, str) for text in value.values()):
        wrong = (
            next((key for key, text in value.items() if not isinstance(text, str)), "")
            if isinstance(value, dict)
            else ""
        )
        raise ManifestInvalid(
            f"metadata.{field}{f'[{wrong!r}]' if wrong else ''} must be text",
            file=document.origin.file,
            line=document.origin.line,
            hint="Put the value in quotes: YAML reads yes, 1 and 1.0 as something else than text.",
        )
    return dict(value)


def _fold_string_data(body: dict[str, Any], document: Document) -> None:
    """`stringData` becomes `data` before sending.

    The server folds it too, but server-side apply records ownership of what was sent: of the write-only field, so that
    a key removed from Git would stay in `data` for ever.
    """
    text = body.pop("stringData", None)
    if text is None:
        return
    data = body.get("data") or {}
    if (
        not isinstance(text, dict)
        or not isinstance(data, dict)
        or not all(isinstance(value, str) for value in text.values())
    ):
        raise ManifestInvalid(
            "stringData of a Secret must map names to text",
            file=document.origin.file,
            line=document.origin.line,
            hint="Put the values in quotes.",
        )
    body["data"] = data | {name: base64.b64encode(value.encode()).decode() for name, value in text.items()}
