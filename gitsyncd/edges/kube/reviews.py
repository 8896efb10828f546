"""What the present credential may do, asked of the API server itself. Reviews are POSTs that write nothing.

Every authenticated user may ask about themselves, unless somebody took `system:basic-user` away.
"""

from __future__ import annotations

from typing import Any

import orjson

from gitsyncd.core.rbac import expand
from gitsyncd.edges.kube.client import Call, Client
from gitsyncd.edges.kube.objects import decoded
from gitsyncd.model.errors import ClusterUnreachable
from gitsyncd.model.rights import Held, Right

_AUTHORIZATION = "authorization.k8s.io/v1"
_AUTHENTICATION = "authentication.k8s.io/v1"


async def user(client: Client) -> str:
    """As whom the server knows this credential."""
    status = await _review(client, _AUTHENTICATION, "SelfSubjectReview", {})
    info = status.get("userInfo")
    return str(info.get("username", "")) if isinstance(info, dict) else ""


async def held(client: Client, namespace: str) -> Held:
    """What it may do in a namespace, which need not exist: the server looks at bindings alone."""
    status = await _review(client, _AUTHORIZATION, "SelfSubjectRulesReview", {"namespace": namespace})
    rights = {
        right
        for key in ("resourceRules", "nonResourceRules")
        for rule in status.get(key) or ()
        if isinstance(rule, dict)
        for right in expand(rule, namespace)
    }
    return Held(rights=frozenset(rights), complete=not status.get("incomplete"))


async def may(client: Client, right: Right) -> bool:
    """Whether all authorizers together let it do this."""
    if right.url:
        attributes: dict[str, Any] = {"nonResourceAttributes": {"path": right.url, "verb": right.verb}}
    else:
        resource, _, subresource = right.resource.partition("/")
        attributes = {
            "resourceAttributes": {
                "group": right.group,
                "resource": resource,
                "subresource": subresource,
                "verb": right.verb,
                "namespace": right.namespace,
                "name": right.name,
            }
        }
    status = await _review(client, _AUTHORIZATION, "SelfSubjectAccessReview", attributes)
    return status.get("allowed") is True


async def _review(client: Client, api_version: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    body: dict[str, Any] = {"apiVersion": api_version, "kind": kind} | ({"spec": spec} if spec else {})
    call = Call(method="POST", verb="create", path=f"/apis/{api_version}/{kind.lower()}s", body=orjson.dumps(body))
    status = decoded(await client.send(call), client).get("status")
    if not isinstance(status, dict):
        raise ClusterUnreachable("the answer to a review is not one of an API server", subject=client.cluster)
    return status
