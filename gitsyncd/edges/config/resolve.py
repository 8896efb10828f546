"""What the agent file means: names become references, text becomes durations and files, one target per cluster.

Everything that needs more than one key is checked here: names that lead nowhere, ways to connect that exclude each
other, placeholders that nothing fills.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from gitsyncd.edges.config import schema
from gitsyncd.edges.config.files import Files
from gitsyncd.edges.config.images import images
from gitsyncd.edges.config.mistakes import Mistakes
from gitsyncd.edges.config.sources import source
from gitsyncd.edges.config.values import PLACEHOLDER, is_branch, quoted, split_address
from gitsyncd.edges.config.wording import near
from gitsyncd.edges.yaml.agentfile import KeyPath
from gitsyncd.model.immutable import immutable
from gitsyncd.model.source import Source
from gitsyncd.model.target import (
    Adopt,
    Agent,
    Cluster,
    Configuration,
    DriftAction,
    ForeignFields,
    IgnoreRule,
    Images,
    InCluster,
    Kubeconfig,
    Listen,
    LogFormat,
    Policy,
    PrunePolicy,
    Server,
    Target,
    Webhook,
)
from gitsyncd.model.units import parse_duration

LONGEST_SOCKET = 107
"""Bytes of a Unix socket's name on Linux, unix(7)."""


@immutable
class Draft:
    """A checked file, possibly with gaps. Items are kept by their index in the file, for lines in messages."""

    file: schema.AgentFile
    sources: Mapping[int, schema.Source]
    clusters: Mapping[int, schema.Cluster]
    targets: Mapping[int, schema.Target]
    names: Mapping[str, frozenset[str]]
    """By list, every name that the file gives, also of items that were left out for other mistakes."""


def resolve(draft: Draft, file: Path, environ: Mapping[str, str], mistakes: Mistakes, *, opened: bool) -> Configuration:
    """The configuration; only to be used when `mistakes` is still empty afterwards. `file` is an absolute path."""
    files = Files(file.parent, environ, mistakes, opened=opened)
    for key, items in (("sources", draft.sources), ("clusters", draft.clusters), ("targets", draft.targets)):
        _unique(key, items, mistakes)
    sources = {item.name: source(item, ("sources", index), files, mistakes) for index, item in draft.sources.items()}
    clusters = {
        item.name: _cluster(item, ("clusters", index), files, mistakes) for index, item in draft.clusters.items()
    }
    places = {item.name: index for index, item in draft.clusters.items()}
    resolver = _Targets(draft, sources, clusters, places, mistakes)
    _heard(draft, mistakes)
    return Configuration(
        file=file,
        agent=_agent(draft.file.agent, files, mistakes),
        sources=tuple(sources.values()),
        clusters=tuple(clusters.values()),
        targets=tuple(target for index, item in draft.targets.items() for target in resolver.expand(index, item)),
        images=images(draft.file.images, sources, files, mistakes) if draft.file.images else Images(),
    )


def _unique(key: str, items: Mapping[int, schema.Source | schema.Cluster | schema.Target], mistakes: Mistakes) -> None:
    first: dict[str, int] = {}
    for index, item in items.items():
        other = first.setdefault(item.name, index)
        if other != index:
            mistakes.add(
                (key, index, "name"), f"{item.name} is the name of {key}[{other}] too", "give each a name of its own"
            )


def _heard(draft: Draft, mistakes: Mistakes) -> None:
    """Whoever may ring needs somebody who listens."""
    if draft.file.agent.webhook is not None or mistakes.spoilt("agent"):
        return
    registries = draft.file.images.registries if draft.file.images else []
    ringing: list[KeyPath] = [("sources", index) for index, item in draft.sources.items() if item.webhook]
    ringing += [("images", "registries", index) for index, item in enumerate(registries) if item.webhook]
    for at in ringing:
        mistakes.add((*at, "webhook"), "is heard by nobody", 'write webhook: {listen: "0.0.0.0:9481"} in agent')


def _agent(agent: schema.Agent, files: Files, mistakes: Mistakes) -> Agent:
    socket = files.named(agent.socket, ("agent", "socket"))
    if len(str(socket).encode()) > LONGEST_SOCKET:
        mistakes.add(
            ("agent", "socket"), f"is longer than {LONGEST_SOCKET} bytes with its folder", "write a shorter name"
        )
    return Agent(
        name=agent.name,
        state_dir=files.named(agent.state_dir, ("agent", "state_dir")),
        cluster_namespace=agent.cluster_namespace,
        socket=socket,
        http=_listen(agent.http),
        webhook=_webhook(agent, files, mistakes),
        log_level=agent.log.level,
        log_format=LogFormat(agent.log.format),
        writers={
            "person": tuple(agent.writers.person),
            "delivery": tuple(agent.writers.delivery),
            "controller": tuple(agent.writers.controller),
        },
        exec_plugins=tuple(
            files.program(name, ("agent", "exec_plugins", index)) for index, name in enumerate(agent.exec_plugins)
        ),
        shares=agent.shard is not None,
    )


def _listen(http: schema.Http) -> Listen | None:
    address = split_address(http.listen) if http.listen is not None else None
    if address is None:
        return None
    return Listen(host=address[0], port=address[1], asked="listen" in http.model_fields_set)


def _webhook(agent: schema.Agent, files: Files, mistakes: Mistakes) -> Webhook | None:
    at = ("agent", "webhook")
    if agent.webhook is None:
        return None
    address = split_address(agent.webhook.listen)
    if address is None:
        return None  # a mistake that is told already
    if agent.webhook.listen == agent.http.listen and address[1]:
        mistakes.add((*at, "listen"), "is the address of http too", "give it a port of its own")
    tls = agent.webhook.tls
    certificate = None
    if tls is not None:
        chain = files.readable(tls.cert_file, (*at, "tls", "cert_file"))
        key = files.readable(tls.key_file, (*at, "tls", "key_file"), secret=True)
        certificate = (chain or Path(), key or Path())
    return Webhook(listen=Listen(host=address[0], port=address[1]), certificate=certificate)


def _cluster(cluster: schema.Cluster, at: KeyPath, files: Files, mistakes: Mistakes) -> Cluster:
    return Cluster(
        name=cluster.name,
        connection=_connection(cluster, at, files, mistakes),
        labels=cluster.labels,
        parallel=cluster.limits.parallel,
    )


_WAYS = ("kubeconfig", "in_cluster", "server")
_SERVER_FILES = ("ca_file", "token_file", "client_cert_file", "client_key_file")


def _connection(
    cluster: schema.Cluster, at: KeyPath, files: Files, mistakes: Mistakes
) -> Kubeconfig | InCluster | Server:
    ways = [way for way in _WAYS if getattr(cluster, way)]
    spoilt = any(mistakes.spoilt(*at, way) for way in _WAYS)
    if len(ways) > 1:
        mistakes.add((*at, ways[1]), f"excludes {ways[0]}", "keep one of them")
    if not ways and not spoilt:
        mistakes.add(at, f"{cluster.name} cannot be reached", "write one of kubeconfig, in_cluster: true and server")
    if not cluster.server and not spoilt:
        for key in _SERVER_FILES:
            if getattr(cluster, key):
                mistakes.add((*at, key), "belongs to server, which is not there", "write server, or remove it")
    if cluster.kubeconfig:
        file = files.readable(cluster.kubeconfig.file, (*at, "kubeconfig", "file"))
        return Kubeconfig(file=file or Path(), context=cluster.kubeconfig.context)
    if cluster.server:
        return _server(cluster, cluster.server, at, files, mistakes)
    return InCluster()


def _server(cluster: schema.Cluster, url: str, at: KeyPath, files: Files, mistakes: Mistakes) -> Server:
    cert, key, token = cluster.client_cert_file, cluster.client_key_file, cluster.token_file
    if not any(mistakes.spoilt(*at, name) for name in _SERVER_FILES):
        if token and (cert or key):
            mistakes.add((*at, "token_file"), "excludes a client certificate", "keep one of them")
        elif bool(cert) != bool(key):
            given, wanted = ("client_cert_file", "client_key_file") if cert else ("client_key_file", "client_cert_file")
            mistakes.add((*at, given), f"stands without {wanted}", f"write {wanted} too")
        elif not token and not cert:
            fix = "write token_file, or client_cert_file and client_key_file"
            mistakes.add((*at, "server"), "has no credentials", fix)
    return Server(
        url=url,
        ca_file=files.readable(cluster.ca_file, (*at, "ca_file")),
        token_file=files.readable(token, (*at, "token_file"), secret=True),
        client_cert_file=files.readable(cert, (*at, "client_cert_file")),
        client_key_file=files.readable(key, (*at, "client_key_file"), secret=True),
    )


class _Targets:
    """One target of the file to one target per cluster."""

    def __init__(
        self,
        draft: Draft,
        sources: Mapping[str, Source],
        clusters: Mapping[str, Cluster],
        places: Mapping[str, int],
        mistakes: Mistakes,
    ) -> None:
        self._draft = draft
        self._sources = sources
        self._clusters = clusters
        self._places = places
        self._mistakes = mistakes

    def expand(self, index: int, target: schema.Target) -> Iterable[Target]:
        at: KeyPath = ("targets", index)
        source = self._sources.get(target.source)
        if target.source not in self._draft.names["sources"]:
            self._mistakes.add(
                (*at, "source"), f"{target.source} is no source", near(target.source, self._draft.names["sources"])
            )
        if target.was in self._draft.names["targets"]:
            fix = "remove it, or the other target: a name that is still used keeps what it owns"
            self._mistakes.add((*at, "was"), f"{target.was} is a target of this file", fix)
        policy = _policy(target)
        for cluster in self._selected(target, at):
            path = self._filled(target.path, (*at, "path"), target, cluster)
            branch = self._filled(target.ref.branch, (*at, "ref", "branch"), target, cluster) if target.ref else None
            if branch and not is_branch(branch):
                self._mistakes.add(
                    (*at, "ref", "branch"), f"{quoted(branch)} on {cluster.name} is no branch", "correct the label"
                )
            if source is None or path is None:
                continue
            yield Target(
                name=target.name,
                cluster=cluster.name,
                source=replace(source, branch=branch) if branch else source,
                path="" if (clean := posixpath.normpath(path)) == "." else clean,
                namespace=target.namespace,
                interval=parse_duration(target.interval),
                timeout=parse_duration(target.timeout),
                retry_interval=parse_duration(target.retry_interval),
                policy=policy,
                wait=target.wait.enabled,
                wait_timeout=parse_duration(target.wait.timeout),
                suspend=target.suspend,
                was=target.was or "",
            )

    def _selected(self, target: schema.Target, at: KeyPath) -> list[Cluster]:
        if self._mistakes.spoilt(*at, "clusters"):
            return []
        selection = target.clusters
        at_clusters = (*at, "clusters")
        if selection is None:
            found = list(self._clusters.values())
            if not found and not self._draft.names["clusters"]:
                self._mistakes.add(at, f"there is no cluster for {target.name}", "define one under clusters")
            return found
        if selection.names is not None and selection.match is not None:
            self._mistakes.add(at_clusters, "names and match exclude each other", "keep one of them")
            return []
        if not selection.names and not selection.match:
            fix = "write names: [NAME] or match: {LABEL: VALUE}, or leave clusters out for every cluster"
            self._mistakes.add(at_clusters, "selects nothing", fix)
            return []
        if selection.names:
            return self._named(selection.names, (*at_clusters, "names"))
        return self._matched(selection.match or {}, (*at_clusters, "match"))

    def _named(self, names: list[str], at: KeyPath) -> list[Cluster]:
        for index, name in enumerate(names):
            if name not in self._draft.names["clusters"]:
                fix = near(name, self._draft.names["clusters"])
                self._mistakes.add((*at, index), f"{name} is no cluster", fix)
            elif name in names[:index]:
                self._mistakes.add((*at, index), f"{name} is listed twice", "keep one of them")
        return [self._clusters[name] for name in dict.fromkeys(names) if name in self._clusters]

    def _matched(self, wanted: Mapping[str, str], at: KeyPath) -> list[Cluster]:
        found = [cluster for cluster in self._clusters.values() if wanted.items() <= cluster.labels.items()]
        # A cluster that was refused might have been meant.
        if not found and not self._mistakes.spoilt("clusters"):
            self._mistakes.add(at, "matches no cluster", "correct it, or the labels of a cluster")
        return found

    def _filled(self, text: str, at: KeyPath, target: schema.Target, cluster: Cluster) -> str | None:
        """The text with its placeholders filled in for one cluster; None when one of them has no value there."""
        missing = False

        def fill(name: str) -> str:
            nonlocal missing
            value = cluster.name if name == "cluster" else cluster.labels.get(name.removeprefix("labels."), "")
            if not value:
                missing = True
                if not self._mistakes.spoilt("clusters", self._places[cluster.name], "labels"):
                    self._mistakes.add(
                        at,
                        f"{{{name}}} has no value for target {target.name} on cluster {cluster.name}",
                        f"give cluster {cluster.name} the label {name.removeprefix('labels.')}, or leave it out here",
                    )
            return value

        filled = PLACEHOLDER.sub(lambda match: fill(match[1]), text)
        return None if missing else filled


def _policy(target: schema.Target) -> Policy:
    return Policy(
        prune=PrunePolicy(
            enabled=target.prune.enabled,
            max_objects=target.prune.max_objects,
            max_percent=target.prune.max_percent,
            allow_empty=target.prune.allow_empty,
        ),
        drift=DriftAction(target.drift.action),
        foreign_fields=ForeignFields(target.drift.foreign_fields),
        adopt=Adopt(target.adopt),
        ignore=tuple(
            IgnoreRule(
                paths=tuple(rule.paths), group=rule.group, kind=rule.kind, namespace=rule.namespace, name=rule.name
            )
            for rule in target.ignore_fields
        ),
    )
