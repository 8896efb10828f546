"""What a webhook proves and says. A payload chooses who looks now and nothing else: no address, commit or tag of it is
used.

Total: whatever the bytes are, there is an answer. Does not belong here: HTTP, files, and ringing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, Final

from gitsyncd.core.reference import image_name, reference
from gitsyncd.model.hook import HookKind

GENERIC_HEADER: Final = "x-gitsyncd-signature"
_PARAMETER: Final = "token"
"""Of the address, for senders that sign nothing."""
_MOST_IMAGES: Final = 100

_SIGNATURES: Final[Mapping[HookKind, tuple[str, str]]] = {
    HookKind.GITHUB: ("x-hub-signature-256", "sha256="),
    HookKind.GHCR: ("x-hub-signature-256", "sha256="),
    HookKind.BITBUCKET: ("x-hub-signature", "sha256="),
    HookKind.GITEA: ("x-gitea-signature", ""),
    HookKind.GENERIC: (GENERIC_HEADER, "sha256="),
}
"""By kind: the header with HMAC-SHA256 of the body in hexadecimal digits, and what stands before them.

docs.github.com/en/webhooks; support.atlassian.com/bitbucket-cloud, "Manage webhooks"; docs.gitea.com/usage/webhooks.
"""
_EVENTS: Final[Mapping[HookKind, tuple[str, frozenset[str]]]] = {
    HookKind.GITHUB: ("x-github-event", frozenset({"push", "create", "delete"})),
    HookKind.GHCR: ("x-github-event", frozenset({"package", "registry_package"})),
    HookKind.GITEA: ("x-gitea-event", frozenset({"push", "create", "delete"})),
    HookKind.GITLAB: ("x-gitlab-event", frozenset({"Push Hook", "Tag Push Hook", "System Hook"})),
    HookKind.BITBUCKET: ("x-event-key", frozenset({"repo:push", "repo:refs_changed"})),
}
"""By kind: the header that names the event, and those that are news. Where it is left out, all are."""


def is_authentic(
    kind: HookKind, secret: bytes, headers: Mapping[str, str], query: Mapping[str, str], body: bytes
) -> bool:
    """Whether the sender knows the secret. Names of headers are in small letters; compared in constant time."""
    if not secret:
        return False
    match kind:
        case HookKind.GITLAB:
            return _same(headers.get("x-gitlab-token", ""), secret)
        case HookKind.HARBOR:
            return _same(headers.get("authorization", ""), secret)
        case HookKind.DOCKER_HUB | HookKind.QUAY:
            return _same(query.get(_PARAMETER, ""), secret)
        case HookKind.AZURE:
            return _same(_password(headers.get("authorization", "")), secret)
    name, prefix = _SIGNATURES[kind]
    wanted = prefix + hmac.new(secret, body, hashlib.sha256).hexdigest()
    return _same(headers.get(name, "").lower(), wanted.encode())


def _same(sent: str, wanted: bytes) -> bool:
    return hmac.compare_digest(sent.encode("utf-8", "surrogateescape"), wanted)


def _password(authorization: str) -> str:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2]
    except (binascii.Error, ValueError):
        return ""


def is_news(kind: HookKind, headers: Mapping[str, str]) -> bool:
    """Whether it may mean that something was pushed. A greeting is authentic and no news."""
    name, events = _EVENTS.get(kind, ("", frozenset()))
    event = headers.get(name, "")
    return not event or event in events


def pushed_images(kind: HookKind, body: bytes) -> frozenset[str]:
    """Images that a registry says were pushed, normalised; empty where it does not say, which may mean all."""
    try:
        document: Any = json.loads(body)
    except (ValueError, RecursionError):
        return frozenset()
    match kind:
        case HookKind.DOCKER_HUB:
            named = [_at(document, "repository", "repo_name")]
        case HookKind.QUAY:
            named = [_at(document, "docker_url")]
        case HookKind.GHCR:
            package = _at(document, "registry_package") or _at(document, "package")
            named = [f"ghcr.io/{_at(package, 'namespace')}/{_at(package, 'name')}".lower()]
        case HookKind.HARBOR:
            resources = _at(document, "event_data", "resources")
            listed = resources[:_MOST_IMAGES] if isinstance(resources, list) else []
            named = [_at(resource, "resource_url") for resource in listed]
        case _:
            named = [_at(document, "image")]
    return frozenset(found for text in named if (found := _image(text)))


def _at(value: Any, *path: str) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _image(text: Any) -> str:
    if not isinstance(text, str):
        return ""
    try:
        return str(image_name(reference(text).name))
    except ValueError:
        return ""
