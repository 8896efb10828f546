"""What a delivery of a webhook speaks of: which branches moved, which images were pushed.

Total: any JSON value is understood somehow. What is plainly of something else (a comment, a tag, a build) is news of
nothing; what should name a branch or an image and does not is news of everything, since one look too many costs little
and one too few a whole interval. Names are only compared with configured ones: none of them is ever asked for.
Does not belong here: whether the delivery is to be believed (`hook_proof`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from gitsyncd.core.reference import image_name, reference
from gitsyncd.model.hook import EVERYTHING, NOTHING, HookKind, News

EVENT_HEADERS: Final[Mapping[HookKind, str]] = {
    HookKind.GITHUB: "X-GitHub-Event",
    HookKind.GITLAB: "X-Gitlab-Event",
    HookKind.GITEA: "X-Gitea-Event",
    HookKind.BITBUCKET: "X-Event-Key",
    HookKind.GHCR: "X-GitHub-Event",
}
"""By kind, the header that says what happened; the others say it in the body, or not at all."""

DELIVERY_HEADERS: Final[Mapping[HookKind, str]] = {
    HookKind.GITHUB: "X-GitHub-Delivery",
    HookKind.GITLAB: "Idempotency-Key",
    HookKind.GITEA: "X-Gitea-Delivery",
    HookKind.BITBUCKET: "X-Request-UUID",
    HookKind.GHCR: "X-GitHub-Delivery",
}
"""By kind, the header that stays the same when a delivery is repeated."""

MOST_NAMES: Final = 1000
"""In one delivery; one that names more is news of everything."""

_HEADS: Final = "refs/heads/"
_LONGEST: Final = 1024
"""Of what could be an image, in characters."""


# --- Repositories ----------------------------------------------------------------------------------------------------
def moved_branches(kind: HookKind, event: str, body: Any) -> News:
    """Of a delivery whose event header is `event`, empty where there is none, and whose body means `body`."""
    return _FORGES.get(kind, _generic)(event, body)


def _github(event: str, body: Any) -> News:
    # docs.github.com/webhooks/webhook-events-and-payloads#push: new and deleted branches are pushes as well.
    return _branches([_at(body, "ref")]) if event in {"push", ""} else NOTHING


def _gitlab(event: str, body: Any) -> News:
    # docs.gitlab.com/user/project/integrations/webhook_events, and administration/system_hooks for whole instances.
    what = _at(body, "event_name") or _at(body, "object_kind")
    if what == "repository_update":
        return _branches(_items(_at(body, "refs")))
    if what == "push" or (not isinstance(what, str) and event in {"Push Hook", "System Hook", ""}):
        return _branches([_at(body, "ref")])
    return NOTHING


def _gitea(event: str, body: Any) -> News:
    # docs.gitea.com/usage/webhooks; Forgejo sends the same headers.
    return _branches([_at(body, "ref")]) if event in {"push", ""} else NOTHING


def _bitbucket(event: str, body: Any) -> News:
    # Cloud: support.atlassian.com/bitbucket-cloud/docs/event-payloads (repo:push). Data Center:
    # confluence.atlassian.com/bitbucketserver/event-payload-938025882.html (repo:refs_changed).
    match event:
        case "repo:push" | "":
            # Of a branch that is deleted `new` is null.
            ends = [_at(change, "new") or _at(change, "old") for change in _items(_at(body, "push", "changes"))]
            branches = [end for end in ends if _at(end, "type") not in ("tag", "annotated_tag")]
            return NOTHING if ends and not branches else _of([_at(end, "name") for end in branches])
        case "repo:refs_changed":
            return _branches([_at(change, "ref", "id") for change in _items(_at(body, "changes"))])
        case "mirror:repo_synchronized":
            return EVERYTHING
    return NOTHING


def _azure(_event: str, body: Any) -> News:
    # learn.microsoft.com/azure/devops/service-hooks/events#code-pushed
    if _at(body, "eventType") not in ("git.push", None):
        return NOTHING
    return _branches([_at(update, "name") for update in _items(_at(body, "resource", "refUpdates"))])


def _generic(_event: str, _body: Any) -> News:
    return EVERYTHING


_FORGES: Final[Mapping[HookKind, Callable[[str, Any], News]]] = {
    HookKind.GITHUB: _github,
    HookKind.GITLAB: _gitlab,
    HookKind.GITEA: _gitea,
    HookKind.BITBUCKET: _bitbucket,
    HookKind.AZURE: _azure,
}


def _branches(refs: Iterable[Any]) -> News:
    """Of full refs, those of branches."""
    found = list(refs)
    if not 0 < len(found) <= MOST_NAMES or not all(isinstance(ref, str) and ref.startswith("refs/") for ref in found):
        return EVERYTHING
    return News(frozenset(ref.removeprefix(_HEADS) for ref in found if ref.startswith(_HEADS)))


def _of(names: Iterable[Any]) -> News:
    """Of names as they are."""
    found = list(names)
    if not 0 < len(found) <= MOST_NAMES or not all(isinstance(name, str) and name for name in found):
        return EVERYTHING
    return News(frozenset(found))


# --- Registries ------------------------------------------------------------------------------------------------------
def pushed_images(kind: HookKind, event: str, body: Any) -> News:
    """As `moved_branches`; images by their whole name, without tag and digest."""
    return _REGISTRIES.get(kind, _any_image)(event, body)


def _dockerhub(_event: str, body: Any) -> News:
    # docs.docker.com/docker-hub/repos/manage/webhooks
    return _images([_at(body, "repository", "repo_name")])


def _ghcr(event: str, body: Any) -> News:
    # docs.github.com/webhooks/webhook-events-and-payloads#package and #registry_package: the same thing twice.
    if event not in {"package", "registry_package", ""}:
        return NOTHING
    package = _at(body, "registry_package") or _at(body, "package")
    kind = _at(package, "package_type")
    if isinstance(kind, str) and kind.lower() != "container":
        return NOTHING
    owner, name = _at(package, "owner", "login") or _at(package, "namespace"), _at(package, "name")
    if not isinstance(owner, str) or not isinstance(name, str):
        return EVERYTHING
    # Accounts are written with capitals, images never are.
    return _images([f"ghcr.io/{owner}/{name}".lower()])


def _harbor(_event: str, body: Any) -> News:
    # goharbor.io/docs/working-with-projects/project-configuration/configure-webhooks: its own form, and CloudEvents.
    match _at(body, "type"):
        case "PUSH_ARTIFACT" | "harbor.artifact.pushed" | None:
            data = _at(body, "event_data") or _at(body, "data")
            return _images([_at(resource, "resource_url") for resource in _items(_at(data, "resources"))])
        case "REPLICATION" | "harbor.replication.status.changed":
            return EVERYTHING
    return NOTHING


def _quay(_event: str, body: Any) -> News:
    # docs.quay.io/guides/notifications.html: what happened is not named, but each notification is set up for one event.
    return _images([_at(body, "docker_url")])


def _any_image(_event: str, body: Any) -> News:
    one = _at(body, "image")
    return _images([one] if one is not None else _items(_at(body, "images")))


_REGISTRIES: Final[Mapping[HookKind, Callable[[str, Any], News]]] = {
    HookKind.DOCKER_HUB: _dockerhub,
    HookKind.GHCR: _ghcr,
    HookKind.HARBOR: _harbor,
    HookKind.QUAY: _quay,
}


def _images(references: Iterable[Any]) -> News:
    """Of references, with or without tag and digest, the names of the images."""
    found = list(references)
    if not 0 < len(found) <= MOST_NAMES or not all(isinstance(text, str) and len(text) < _LONGEST for text in found):
        return EVERYTHING
    try:
        return News(frozenset(str(image_name(reference(text).name)) for text in found))
    except ValueError:
        return EVERYTHING


# --- Any JSON --------------------------------------------------------------------------------------------------------
def _at(value: Any, *keys: str) -> Any:
    """What stands there; None where nothing does."""
    for key in keys:
        if not isinstance(value, Mapping):
            return None
        value = value.get(key)
    return value


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
