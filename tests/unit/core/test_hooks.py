"""What deliveries speak of: bodies as the forges and registries document them, cut to what matters."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from gitsyncd.core.hooks import DELIVERY_HEADERS, EVENT_HEADERS, MOST_NAMES, moved_branches, pushed_images
from gitsyncd.model.hook import EVERYTHING, NOTHING, REGISTRY_KINDS, SOURCE_KINDS, HookKind, News

READERS = [(moved_branches, kind) for kind in sorted(SOURCE_KINDS)] + [
    (pushed_images, kind) for kind in sorted(REGISTRY_KINDS)
]


def of(*names: str) -> News:
    return News(frozenset(names))


def bitbucket(*changes: Any) -> Any:
    return {"push": {"changes": changes and list(changes)}}


MAIN = {"type": "branch", "name": "main"}
V1 = {"type": "tag", "name": "v1"}

# fmt: off
PUSHES: list[tuple[HookKind, str, Any, News]] = [
    # a branch moved
    (HookKind.GITHUB, "push", {"ref": "refs/heads/main", "before": "0" * 40, "after": "1" * 40}, of("main")),
    (HookKind.GITHUB, "push", {"ref": "refs/heads/env/eu-1"}, of("env/eu-1")),
    (HookKind.GITHUB, "push", {"ref": "refs/heads/gone", "deleted": True}, of("gone")),
    (HookKind.GITLAB, "Push Hook", {"object_kind": "push", "event_name": "push", "ref": "refs/heads/main"}, of("main")),
    (HookKind.GITLAB, "System Hook", {"event_name": "push", "ref": "refs/heads/main"}, of("main")),
    (HookKind.GITLAB, "System Hook", {"event_name": "repository_update", "refs": ["refs/heads/a", "refs/tags/b"]}, of("a")),
    (HookKind.GITEA, "push", {"ref": "refs/heads/main"}, of("main")),
    (HookKind.BITBUCKET, "repo:push", {"push": {"changes": [{"new": MAIN, "old": None}]}}, of("main")),
    (HookKind.BITBUCKET, "repo:push", {"push": {"changes": [{"new": None, "old": MAIN}, {"new": V1}]}}, of("main")),
    (HookKind.BITBUCKET, "repo:refs_changed", {"changes": [{"ref": {"id": "refs/heads/main", "type": "BRANCH"}}]}, of("main")),
    (HookKind.AZURE, "", {"eventType": "git.push", "resource": {"refUpdates": [{"name": "refs/heads/main"}]}}, of("main")),
    # something else happened
    (HookKind.GITHUB, "push", {"ref": "refs/tags/v1"}, NOTHING),
    (HookKind.GITHUB, "ping", {"zen": "Keep it logically awesome.", "hook_id": 1}, NOTHING),
    (HookKind.GITHUB, "pull_request", {"action": "opened"}, NOTHING),
    (HookKind.GITLAB, "Tag Push Hook", {"object_kind": "tag_push", "ref": "refs/tags/v1"}, NOTHING),
    (HookKind.GITLAB, "Note Hook", {"object_kind": "note"}, NOTHING),
    (HookKind.GITLAB, "System Hook", {"event_name": "project_create"}, NOTHING),
    (HookKind.GITEA, "issues", {"action": "opened"}, NOTHING),
    (HookKind.BITBUCKET, "diagnostics:ping", {"test": True}, NOTHING),
    (HookKind.BITBUCKET, "repo:push", {"push": {"changes": [{"new": V1}]}}, NOTHING),
    (HookKind.BITBUCKET, "pr:opened", {}, NOTHING),
    (HookKind.AZURE, "", {"eventType": "git.pullrequest.created", "resource": {}}, NOTHING),
    # a push that does not say of what
    (HookKind.GITHUB, "push", {}, EVERYTHING),
    (HookKind.GITHUB, "push", {"ref": "main"}, EVERYTHING),
    (HookKind.GITHUB, "push", {"ref": ["refs/heads/main"]}, EVERYTHING),
    (HookKind.GITHUB, "", None, EVERYTHING),
    (HookKind.GITLAB, "Push Hook", [], EVERYTHING),
    (HookKind.GITLAB, "System Hook", {"event_name": "repository_update", "refs": []}, EVERYTHING),
    (HookKind.BITBUCKET, "repo:push", {"push": {"changes": []}}, EVERYTHING),
    (HookKind.BITBUCKET, "repo:push", {"push": {"changes": [{"new": None, "old": None}]}}, EVERYTHING),
    (HookKind.BITBUCKET, "mirror:repo_synchronized", {}, EVERYTHING),
    (HookKind.AZURE, "", {"eventType": "git.push"}, EVERYTHING),
    (HookKind.GENERIC, "", {"ref": "refs/heads/other"}, EVERYTHING),
    (HookKind.GENERIC, "", None, EVERYTHING),
]

STORED: list[tuple[HookKind, str, Any, News]] = [
    # an image was pushed
    (HookKind.DOCKER_HUB, "", {"push_data": {"tag": "1.2"}, "repository": {"repo_name": "team/front"}}, of("docker.io/team/front")),
    (HookKind.DOCKER_HUB, "", {"repository": {"repo_name": "nginx"}}, of("docker.io/library/nginx")),
    (HookKind.GHCR, "package", {"action": "published", "package": {"name": "front", "package_type": "CONTAINER", "owner": {"login": "Team"}}}, of("ghcr.io/team/front")),
    (HookKind.GHCR, "registry_package", {"registry_package": {"name": "shop/front", "namespace": "team", "package_type": "container"}}, of("ghcr.io/team/shop/front")),
    (HookKind.HARBOR, "", {"type": "PUSH_ARTIFACT", "event_data": {"resources": [{"tag": "1", "resource_url": "harbor.example.com/team/front:1"}]}}, of("harbor.example.com/team/front")),
    (HookKind.HARBOR, "", {"type": "harbor.artifact.pushed", "data": {"resources": [{"resource_url": "harbor.example.com:8443/a/b@sha256:" + "0" * 64}]}}, of("harbor.example.com:8443/a/b")),
    (HookKind.QUAY, "", {"docker_url": "quay.io/team/front", "updated_tags": ["latest"]}, of("quay.io/team/front")),
    (HookKind.GENERIC, "", {"image": "registry.example.com/team/front:1.2"}, of("registry.example.com/team/front")),
    (HookKind.GENERIC, "", {"images": ["a.example.com/b", "a.example.com/c:1"]}, of("a.example.com/b", "a.example.com/c")),
    # something else happened
    (HookKind.GHCR, "ping", {}, NOTHING),
    (HookKind.GHCR, "package", {"package": {"name": "front", "package_type": "npm", "owner": {"login": "team"}}}, NOTHING),
    (HookKind.HARBOR, "", {"type": "SCANNING_COMPLETED"}, NOTHING),
    (HookKind.HARBOR, "", {"type": "harbor.artifact.deleted"}, NOTHING),
    # a push that does not say of what
    (HookKind.DOCKER_HUB, "", {}, EVERYTHING),
    (HookKind.DOCKER_HUB, "", {"repository": {"repo_name": "No/Image"}}, EVERYTHING),
    (HookKind.GHCR, "package", {"package": {"name": 1}}, EVERYTHING),
    (HookKind.HARBOR, "", {"type": "REPLICATION"}, EVERYTHING),
    (HookKind.HARBOR, "", {"type": "PUSH_ARTIFACT", "event_data": {"resources": [{}]}}, EVERYTHING),
    (HookKind.QUAY, "", {"updated_tags": []}, EVERYTHING),
    (HookKind.GENERIC, "", {}, EVERYTHING),
    (HookKind.GENERIC, "", {"image": "registry.example.com/front:" + "x" * 5000}, EVERYTHING),
]
# fmt: on


@pytest.mark.parametrize(("kind", "event", "body", "news"), PUSHES, ids=lambda value: str(value)[:30])
def test_which_branches_a_delivery_speaks_of(kind: HookKind, event: str, body: Any, news: News) -> None:
    assert moved_branches(kind, event, body) == news


@pytest.mark.parametrize(("kind", "event", "body", "news"), STORED, ids=lambda value: str(value)[:30])
def test_which_images_a_delivery_speaks_of(kind: HookKind, event: str, body: Any, news: News) -> None:
    assert pushed_images(kind, event, body) == news


def test_a_delivery_of_too_many_names_is_news_of_everything() -> None:
    refs = [f"refs/heads/{number}" for number in range(MOST_NAMES + 1)]

    assert moved_branches(HookKind.GITLAB, "", {"event_name": "repository_update", "refs": refs}) == EVERYTHING
    assert (
        len(moved_branches(HookKind.GITLAB, "", {"event_name": "repository_update", "refs": refs[1:]}).names)
        == MOST_NAMES
    )


def test_news_of_everything_concerns_every_name_and_news_of_nothing_none() -> None:
    assert EVERYTHING.concerns("main") and EVERYTHING
    assert not NOTHING.concerns("main") and not NOTHING
    assert of("main").concerns("main") and not of("main").concerns("other") and of("main")


# What the parsers look for, so that chance gets beyond the first key.
_KEYS = sorted(
    {
        "action", "body", "changes", "data", "docker_url", "eventType", "event_data", "event_name", "id", "image", "images",
        "login", "name", "namespace", "new", "object_kind", "old", "owner", "package", "package_type", "push", "ref",
        "refUpdates", "refs", "registry_package", "repo_name", "repository", "resource", "resource_url", "resources",
        "type", "updated_tags", "",
    }
)  # fmt: skip
_TEXTS = [
    "push", "repository_update", "git.push", "PUSH_ARTIFACT", "harbor.artifact.pushed", "REPLICATION", "CONTAINER", "tag",
    "branch", "refs/heads/main", "refs/tags/v1", "refs/", "registry.example.com/team/front:1", "a/b@sha256:0", "", ":", "/",
    "@", "\ud800", "\x00", "x" * 2000,
]  # fmt: skip
_EVENTS = ["", "push", "package", "registry_package", "repo:push", "repo:refs_changed", "Push Hook", "System Hook", "?"]


def _value(chance: random.Random, depth: int) -> Any:
    match chance.randrange(4 if depth == 0 else 9):
        case 0:
            return chance.choice(_TEXTS)
        case 1:
            return chance.choice([0, -1, 1.5, 10**30, float("nan"), float("inf")])
        case 2:
            return chance.choice([None, True, False])
        case 3:
            return chance.choice([[], {}])
        case 4 | 5:
            return [_value(chance, depth - 1) for _ in range(chance.randrange(4))]
        case _:
            return {chance.choice(_KEYS): _value(chance, depth - 1) for _ in range(chance.randrange(1, 6))}


def test_a_hundred_thousand_bodies_by_chance_are_understood_somehow() -> None:
    chance = random.Random(20261127)
    seen: set[tuple[bool, bool]] = set()
    for number in range(100_000):
        (read, kind), event, body = READERS[number % len(READERS)], chance.choice(_EVENTS), _value(chance, 5)
        news = read(kind, event, body)
        assert all(isinstance(name, str) for name in news.names), (kind, event, body)
        assert not (news.everything and news.names)
        seen.add((news.everything, bool(news.names)))

    assert seen == {(True, False), (False, True), (False, False)}


def test_names_come_from_the_body_and_nowhere_else() -> None:
    chance = random.Random(7)
    for number in range(5_000):
        body = _value(chance, 5)
        text = json.dumps(body, ensure_ascii=False).lower()
        read, kind = READERS[number % len(READERS)]
        for name in read(kind, chance.choice(_EVENTS), body).names:
            last = name.rpartition("/")[2]
            assert json.dumps(last, ensure_ascii=False)[1:-1].lower() in text


@pytest.mark.parametrize("kind", HookKind)
def test_a_kind_that_speaks_of_something_else_is_news_of_everything(kind: HookKind) -> None:
    if kind not in SOURCE_KINDS:
        assert moved_branches(kind, "", {"ref": "refs/heads/main"}) == EVERYTHING
    if kind not in REGISTRY_KINDS:
        assert pushed_images(kind, "", {}) == EVERYTHING


def test_headers_are_known_of_kinds_only() -> None:
    assert set(EVENT_HEADERS) | set(DELIVERY_HEADERS) <= set(HookKind)
