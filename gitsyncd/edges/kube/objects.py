"""Objects over REST: read, list, apply, take over, delete. One function per request, and nothing decided."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

import orjson

from gitsyncd.edges.kube.client import LIST, Call, Client
from gitsyncd.edges.kube.depth import loads
from gitsyncd.model.answers import ApplyOptions
from gitsyncd.model.errors import ClusterUnreachable, Expired, NotFound, Rejected
from gitsyncd.model.ids import ObjectId, ResourceType

Json = Mapping[str, Any]

PAGE = 500
"""Objects per request of a list, as kubectl asks for."""

MAX_PAGES = 10_000
"""Of one list: five million objects. A server that always has one more page must end somewhere."""

APPLY = "application/apply-patch+yaml"
"""JSON is YAML, and costs the server the same."""

MAX_BODY_BYTES = 3 * 2**20
"""Of a request: a constant of every API server (k8s.io/apiserver, `MaxRequestBodyBytes`)."""

MERGE = "application/merge-patch+json"
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_PLAIN_NAME = re.compile(r"[A-Za-z0-9.:_-]+")
_RESTARTS = 3
"""Of one list whose continue token expired. Pages are read in seconds and tokens live for minutes."""


class Page(NamedTuple):
    """Objects of a list, in the end all of them, and the version that a watch can start from."""

    items: list[dict[str, Any]]
    resource_version: str


def collection_path(resource: ResourceType, namespace: str = "") -> str:
    """`/apis/apps/v1/namespaces/web/deployments`; across namespaces without one."""
    api_version = resource.type.api_version
    root = f"/apis/{api_version}" if "/" in api_version else f"/api/{api_version}"
    return f"{root}/namespaces/{namespace}/{resource.plural}" if namespace else f"{root}/{resource.plural}"


def object_path(resource: ResourceType, object_id: ObjectId) -> str:
    """Names of RBAC objects may hold what a URL must not."""
    name = object_id.name
    if not _PLAIN_NAME.fullmatch(name):
        name = quote(name, safe=":")
    return f"{collection_path(resource, object_id.namespace if resource.namespaced else '')}/{name}"


async def read(client: Client, resource: ResourceType, object_id: ObjectId) -> Json | None:
    """None only when the server said that it does not exist; a kind that is not served raises `KindUnknown`."""
    call = Call(
        method="GET",
        verb="get",
        path=object_path(resource, object_id),
        subject=str(object_id),
        secret=is_secret(resource),
    )
    try:
        return decoded(await client.send(call), client)
    except NotFound:
        return None


async def list_all(
    client: Client,
    resource: ResourceType,
    *,
    selector: str = "",
    namespace: str = "",
    metadata_only: bool = False,
    each: Callable[[Json], Any] | None = None,
) -> Page:
    """All pages, or an error. A list whose continue token expired begins again.

    With `each`, items are what it returns for the objects, page by page, so that a whole list never lies in memory.
    """
    for left in reversed(range(_RESTARTS)):
        try:
            return await _list_once(client, resource, selector, namespace, metadata_only=metadata_only, each=each)
        except Expired:
            if not left:
                raise
    raise AssertionError("the last try returns or raises")


async def _list_once(
    client: Client,
    resource: ResourceType,
    selector: str,
    namespace: str,
    *,
    metadata_only: bool,
    each: Callable[[Json], Any] | None,
) -> Page:
    query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
    path = collection_path(resource, namespace if resource.namespaced else "")
    items: list[Any] = []
    for _ in range(MAX_PAGES):
        call = Call(
            method="GET",
            verb="list",
            path=f"{path}?{urlencode(query)}",
            accept=_METADATA_ONLY if metadata_only else "application/json",
            timeout=LIST,
            secret=is_secret(resource),
        )
        page = decoded(await client.send(call), client)
        try:
            found, metadata = page["items"] or (), page["metadata"]
            for item in found:
                # Lists of built-in kinds leave these to the list itself.
                item["apiVersion"], item["kind"] = resource.type.api_version, resource.type.kind
                if metadata_only:
                    item["metadata"].pop("managedFields", None)
                items.append(each(item) if each is not None else item)
            following = metadata.get("continue")
            if not following:
                return Page(items, metadata["resourceVersion"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ClusterUnreachable(
                f"the answer to a list of {resource.plural} is no list", subject=client.cluster
            ) from error
        query["continue"] = following
    raise ClusterUnreachable(
        f"a list of {resource.plural} does not end after {MAX_PAGES} pages", subject=client.cluster
    )


async def apply(
    client: Client,
    resource: ResourceType,
    object_id: ObjectId,
    body: bytes,
    *,
    manager: str,
    options: ApplyOptions,
) -> Json:
    """Server-side apply; the object as the server now has it.

    A `resourceVersion` in the body is a precondition and not owned (tried on 1.37): 409 when the object moved on, even
    if nothing would change. On a missing object the server ignores it and creates; a `uid` beside it makes that a 409.
    """
    query = (
        f"?fieldManager={quote(manager, safe='')}&fieldValidation=Strict&force={'true' if options.force else 'false'}"
    )
    if len(body) > MAX_BODY_BYTES:
        raise Rejected(
            f"it is larger than an API server accepts: {len(body)} bytes, at most {MAX_BODY_BYTES}",
            subject=str(object_id),
            hint="Split it, or move the data elsewhere.",
        )
    if options.resource_version or options.uid:
        body = _bound(body, options.resource_version, options.uid)
    call = Call(
        method="PATCH",
        verb="patch",
        path=object_path(resource, object_id) + query + ("&dryRun=All" if options.dry_run else ""),
        subject=str(object_id),
        secret=is_secret(resource),
        body=body,
        content_type=APPLY,
    )
    return decoded(await client.send(call), client)


async def patch_managed_fields(
    client: Client,
    resource: ResourceType,
    object_id: ObjectId,
    *,
    manager: str,
    managed_fields: Sequence[Json],
    resource_version: str,
    annotations: Mapping[str, None],
) -> Json:
    """Rewrite who owns which field, and drop annotations. `Changed` when the object moved from `resource_version`."""
    metadata: dict[str, Any] = {"resourceVersion": resource_version, "managedFields": list(managed_fields)}
    if annotations:
        metadata["annotations"] = dict(annotations)
    call = Call(
        method="PATCH",
        verb="patch",
        path=f"{object_path(resource, object_id)}?fieldManager={quote(manager, safe='')}",
        subject=str(object_id),
        secret=is_secret(resource),
        body=orjson.dumps({"metadata": metadata}),
        content_type=MERGE,
    )
    return decoded(await client.send(call), client)


async def delete(
    client: Client, resource: ResourceType, object_id: ObjectId, *, uid: str, resource_version: str
) -> bool:
    """True when a read, or the server at once, says that this object is gone; False while it still stands."""
    preconditions = {"uid": uid} | ({"resourceVersion": resource_version} if resource_version else {})
    options = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Background",
        "preconditions": preconditions,
    }
    call = Call(
        method="DELETE",
        verb="delete",
        path=object_path(resource, object_id),
        subject=str(object_id),
        secret=is_secret(resource),
        body=orjson.dumps(options),
    )
    try:
        answer = decoded(await client.send(call), client)
    except NotFound:
        return True
    if answer.get("kind") == "Status":
        return True
    # The object itself comes back when finalizers or a grace period hold it, and from some kinds although it is gone:
    # a delete that was only accepted is not done, so ask.
    live = await read(client, resource, object_id)
    return live is None or live["metadata"]["uid"] != uid


def is_secret(resource: ResourceType) -> bool:
    return resource.type.kind == "Secret" and resource.type.api_version == "v1"


def decoded(body: bytes, client: Client) -> dict[str, Any]:
    """JSON of an answer that the server calls a success."""
    try:
        value = loads(body)
    except orjson.JSONDecodeError as error:
        raise _no_api_server(client) from error
    if not isinstance(value, dict):
        raise _no_api_server(client)
    return value


def _no_api_server(client: Client) -> ClusterUnreachable:
    return ClusterUnreachable(
        "the answer is not JSON of an API server",
        subject=client.cluster,
        hint="Check that the address is the API server's own and what proxy stands before it.",
    )


def _bound(body: bytes, resource_version: str, uid: str) -> bytes:
    value = orjson.loads(body)
    if resource_version:
        value["metadata"]["resourceVersion"] = resource_version
    if uid:
        value["metadata"]["uid"] = uid
    return orjson.dumps(value)
