"""The section `images` of the agent file: registries, policies, and the updates that write what policies choose."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from gitsyncd.core.images import compiled, group_names
from gitsyncd.edges.config import image_schema
from gitsyncd.edges.config.files import Files
from gitsyncd.edges.config.mistakes import Mistakes
from gitsyncd.edges.config.sources import credentials, hook
from gitsyncd.edges.config.wording import near
from gitsyncd.edges.yaml.agentfile import KeyPath
from gitsyncd.model.address import redacted
from gitsyncd.model.image import (
    DockerConfigAuth,
    Filter,
    ImagePolicy,
    Order,
    PinDigest,
    RegistryAccess,
    RegistryAuth,
    Rule,
    Schedule,
    Select,
)
from gitsyncd.model.source import BearerAuth, PasswordAuth, Source
from gitsyncd.model.target import Images
from gitsyncd.model.units import parse_duration
from gitsyncd.model.update import Author, Forge, KeyKind, PullRequest, SigningKey, Update

_AT: KeyPath = ("images",)


def images(section: image_schema.Images, sources: Mapping[str, Source], files: Files, mistakes: Mistakes) -> Images:
    """What the file says of images; only to be used when there is no mistake."""
    helpers = tuple(
        files.program(name, (*_AT, "credential_helpers", index))
        for index, name in enumerate(section.credential_helpers)
    )
    _unique("registries", [item.prefix for item in section.registries], "prefix", mistakes)
    _unique("policies", [item.name for item in section.policies], "name", mistakes)
    _unique("updates", [item.name for item in section.updates], "name", mistakes)
    _own_branches(section.updates, sources, mistakes)
    names = [policy.name for policy in section.policies]
    return Images(
        registries=tuple(_registries(section.registries, helpers, files, mistakes)),
        policies=tuple(
            _policy(item, (*_AT, "policies", index), files, mistakes) for index, item in enumerate(section.policies)
        ),
        updates=tuple(
            update
            for index, item in enumerate(section.updates)
            if (update := _update(item, (*_AT, "updates", index), names, sources, files, mistakes))
        ),
    )


def _unique(key: str, names: Sequence[str], what: str, mistakes: Mistakes) -> None:
    for index, name in enumerate(names):
        if name in names[:index]:
            other = names.index(name)
            mistakes.add(
                (*_AT, key, index, what),
                f"{name} is the {what} of {key}[{other}] too",
                f"give each a {what} of its own",
            )


# --- Registries ------------------------------------------------------------------------------------------------------
def _registries(
    items: Sequence[image_schema.Registry], helpers: tuple[Path, ...], files: Files, mistakes: Mistakes
) -> Iterator[RegistryAccess]:
    for index, item in enumerate(items):
        at = (*_AT, "registries", index)
        if item.allow_plain_http and item.tls:
            mistakes.add((*at, "tls"), "means nothing without TLS", "remove it, or allow_plain_http")
        yield RegistryAccess(
            prefix=item.prefix,
            auth=_registry_auth(item.auth, (*at, "auth"), files, mistakes) if item.auth else None,
            ca_file=files.readable(item.tls.ca_file, (*at, "tls", "ca_file")) if item.tls else None,
            allow_plain_http=item.allow_plain_http,
            proxy=item.proxy or "",
            credential_helpers=helpers,
            webhook=hook(item.webhook, (*at, "webhook"), files),
        )


def _registry_auth(
    auth: image_schema.RegistryAuth, at: KeyPath, files: Files, mistakes: Mistakes
) -> RegistryAuth | None:
    keys = ("password_file", "bearer_file", "docker_config_file")
    given = [key for key in keys if getattr(auth, key) is not None]
    fix = "write username and password_file, bearer_file, or docker_config_file"
    if not given:
        mistakes.add(at, "names no credentials", fix)
        return None
    if len(given) > 1:
        mistakes.add((*at, given[1]), f"excludes {given[0]}", "keep one of them")
        return None
    if given == ["password_file"] and not auth.username:
        mistakes.add((*at, "password_file"), "stands without username", "write username too")
    elif given != ["password_file"] and auth.username is not None:
        mistakes.add((*at, "username"), f"means nothing beside {given[0]}", "remove it")
    file = files.readable(getattr(auth, given[0]), (*at, given[0]), secret=True) or Path()
    match given[0]:
        case "password_file":
            return PasswordAuth(username=auth.username or "", password_file=file)
        case "bearer_file":
            return BearerAuth(token_file=file)
        case _:
            return DockerConfigAuth(file=file)


# --- Policies --------------------------------------------------------------------------------------------------------
def _policy(item: image_schema.ImagePolicy, at: KeyPath, files: Files, mistakes: Mistakes) -> ImagePolicy:
    if item.schedule and "interval" in item.model_fields_set:
        mistakes.add((*at, "schedule"), "excludes interval", "keep one of them")
    if item.time_zone and not item.schedule:
        mistakes.add((*at, "time_zone"), "means nothing without schedule", "remove it, or write schedule")
    if item.filter:
        _check_extract(item.filter, (*at, "filter", "extract"), mistakes)
    return ImagePolicy(
        name=item.name,
        image=item.image,
        select=_select(item.select, (*at, "select"), mistakes),
        filter=Filter(pattern=item.filter.pattern, extract=item.filter.extract) if item.filter else None,
        min_age=parse_duration(item.min_age) if item.min_age else timedelta(0),
        allow_backwards=item.allow_backwards,
        pin_digest=PinDigest(item.pin_digest),
        platforms=tuple(item.platforms),
        signing_key=files.readable(item.verify.cosign_key_file, (*at, "verify", "cosign_key_file"))
        if item.verify
        else None,
        interval=parse_duration(item.interval),
        schedule=Schedule(cron=item.schedule, time_zone=item.time_zone or "UTC") if item.schedule else None,
    )


def _check_extract(item: image_schema.TagFilter, at: KeyPath, mistakes: Mistakes) -> None:
    pattern = compiled(item.pattern)
    for name in group_names(item.extract):
        known = int(name) <= pattern.groups if name.isdecimal() else name in pattern.groupindex
        if not known:
            mistakes.add(at, f"names the group {name}, which the pattern does not have", near(name, pattern.groupindex))


_RULES = ("semver", "alphabetical", "numerical", "newest", "digest")


def _select(select: image_schema.Select, at: KeyPath, mistakes: Mistakes) -> Select:
    given = [rule for rule in _RULES if getattr(select, rule) is not None]
    if len(given) > 1:
        mistakes.add((*at, given[1]), f"excludes {given[0]}", "keep one of them")
    if not given:
        mistakes.add(at, "names no rule", f"write one of {', '.join(_RULES)}")
        return Select(rule=Rule.ALPHABETICAL)
    rule, value = Rule(given[0]), getattr(select, given[0])
    if rule in {Rule.ALPHABETICAL, Rule.NUMERICAL}:
        return Select(rule=rule, order=Order(value))
    return Select(rule=rule, wanted="" if rule is Rule.NEWEST else value)


# --- Updates ---------------------------------------------------------------------------------------------------------
def _update(
    item: image_schema.ImageUpdate,
    at: KeyPath,
    policies: Sequence[str],
    sources: Mapping[str, Source],
    files: Files,
    mistakes: Mistakes,
) -> Update | None:
    source = sources.get(item.source)
    if source is None:
        if not mistakes.spoilt("sources"):
            mistakes.add((*at, "source"), f"{item.source} is no source", near(item.source, sources))
        return None
    for index, name in enumerate(item.policies or ()):
        if name not in policies:
            mistakes.add((*at, "policies", index), f"{name} is no policy", near(name, policies))
    if item.policies == []:
        mistakes.add((*at, "policies"), "selects nothing", "leave it out for all policies")
    if item.pull_request and not item.push:
        mistakes.add(
            (*at, "pull_request"), "has no branch to merge from", "write push: {branch: image-updates} beside it"
        )
    if item.pull_request and source.repository.url.startswith("file:"):
        mistakes.add((*at, "pull_request"), "means nothing for a file:// address", "remove it")
    branch = item.branch or source.branch
    if item.push and item.push.branch == branch:
        mistakes.add((*at, "push", "branch"), "is the branch that is followed", "name another one, or leave push out")
    auth = credentials(item.auth, source.repository.url, (*at, "auth"), files, mistakes) if item.auth else None
    return Update(
        name=item.name,
        source=item.source,
        repository=replace(source.repository, auth=auth) if auth else source.repository,
        branch=branch,
        timeout=source.timeout,
        author=Author(name=item.author.name, email=item.author.email),
        paths=tuple(_clean(path) for path in item.paths),
        policies=tuple(item.policies if item.policies is not None else policies),
        message=item.message,
        signing=_signing(item.sign, (*at, "sign"), files, mistakes) if item.sign else None,
        push_branch=item.push.branch if item.push else "",
        pull_request=_pull_request(item.pull_request, (*at, "pull_request"), files) if item.pull_request else None,
        max_commits_per_hour=item.max_commits_per_hour,
    )


def _own_branches(items: Sequence[image_schema.ImageUpdate], sources: Mapping[str, Source], mistakes: Mistakes) -> None:
    """A branch that an update makes anew with each commit is nobody else's."""
    written: dict[tuple[str, str], int] = {}
    for index, item in enumerate(items):
        if (source := sources.get(item.source)) is None:
            continue
        repository = redacted(source.repository.url).rstrip("/").removesuffix(".git")
        branch = item.push.branch if item.push else item.branch or source.branch
        other = written.setdefault((repository, branch), index)
        if other == index or not (item.push or items[other].push):
            continue
        at, than = (index, other) if item.push else (other, index)
        mistakes.add(
            (*_AT, "updates", at, "push", "branch"),
            f"{branch} is written to by updates[{than}] too",
            "give each a branch of its own",
        )


def _clean(path: str) -> str:
    clean = posixpath.normpath(path)
    return "" if clean == "." else clean


def _signing(sign: image_schema.Sign, at: KeyPath, files: Files, mistakes: Mistakes) -> SigningKey | None:
    if sign.ssh_key_file is not None and sign.openpgp_key_file is not None:
        mistakes.add((*at, "openpgp_key_file"), "excludes ssh_key_file", "keep one of them")
        return None
    for kind, key in ((KeyKind.SSH, "ssh_key_file"), (KeyKind.OPENPGP, "openpgp_key_file")):
        if (name := getattr(sign, key)) is not None:
            return SigningKey(kind=kind, file=files.readable(name, (*at, key), secret=True) or Path())
    mistakes.add(at, "names no key", "write ssh_key_file or openpgp_key_file")
    return None


def _pull_request(item: image_schema.PullRequest, at: KeyPath, files: Files) -> PullRequest:
    token = files.readable(item.token_file, (*at, "token_file"), secret=True)
    return PullRequest(forge=Forge(item.host), token_file=token or Path(), labels=tuple(item.labels))
