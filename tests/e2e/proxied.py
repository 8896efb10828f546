"""Clusters and Git servers that are reached through proxies, and what must be true of them when all is over.

A `Site` is a cluster behind its proxy. What Git wants, what lives in a cluster, what is recorded there and what the API
server was asked to write are compared here; tests say what goes wrong meanwhile.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.daemon import Json, until
from tests.faults.proxy import Proxy, identity, upstream
from tests.gitserver.certificates import Authority
from tests.sandbox import Cluster

WRITES = frozenset({"create", "update", "patch", "delete", "deletecollection"})
COLLECTIONS = {"ConfigMap": "configmaps", "Service": "services", "Secret": "secrets"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """A write that the API server carried out, or refused."""

    verb: str
    resource: str
    namespace: str
    name: str
    code: int
    user_agent: str
    dry: bool


@dataclass(slots=True)
class Audit:
    """The audit log of a cluster, read on from where the last look ended."""

    cluster: Cluster
    writes: list[Write] = field(default_factory=list)
    """By whom and of whatever, in the order of the answers. Leases are left out: a holder renews its own for ever."""
    _at: int = 0

    def read(self, *, agent: str = "") -> list[Write]:
        """All so far; with `agent`, those of the daemon of that name."""
        with self.cluster.audit_log.open("rb") as file:
            file.seek(self._at)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # being written
                self._at += len(line)
                if b'"verb":"get"' not in line and b'"verb":"watch"' not in line and b'"verb":"list"' not in line:
                    self._take(json.loads(line))
        return [write for write in self.writes if not agent or f"({agent})" in write.user_agent]

    def _take(self, record: Json) -> None:
        about = record.get("objectRef", {})
        if record["verb"] in WRITES and record["stage"] == "ResponseComplete" and about.get("resource") != "leases":
            self.writes.append(
                Write(
                    verb=record["verb"],
                    resource=about.get("resource", ""),
                    namespace=about.get("namespace", ""),
                    name=about.get("name", ""),
                    code=record.get("responseStatus", {}).get("code", 0),
                    user_agent=record.get("userAgent", ""),
                    dry="dryRun=" in record["requestURI"],
                )
            )


@dataclass(slots=True)
class Site:
    """A cluster behind its proxy."""

    name: str
    cluster: Cluster
    proxy: Proxy
    authority: Authority
    """Of the proxy."""
    kubeconfig: Path
    """Through the proxy; `cluster` itself is reached without."""
    audit: Audit

    def live(self, namespace: str, agent: str) -> dict[str, Json]:
        """Objects of the agent in a namespace, by `Kind/name`."""
        found: dict[str, Json] = {}
        for kind, plural in COLLECTIONS.items():
            path = f"/api/v1/namespaces/{namespace}/{plural}?labelSelector=gitsyncd.dev%2Fagent%3D{agent}"
            for item in self.cluster.request("GET", path)["items"]:
                found[f"{kind}/{item['metadata']['name']}"] = item
        return found

    def recorded(self, agent_namespace: str, agent: str, target: str) -> dict[str, tuple[str, str]]:
        """The inventory of a target: identity, as the log has it, to state and UID."""
        path = f"/api/v1/namespaces/{agent_namespace}/configmaps?labelSelector=gitsyncd.dev%2Finventory%3D{agent}"
        entries: dict[str, tuple[str, str]] = {}
        for item in self.cluster.request("GET", path)["items"]:
            if item["metadata"]["name"].startswith(f"gitsyncd.{agent}.{target}."):
                held = json.loads(item["data"]["entries"])
                entries |= {key: (entry["state"], entry.get("uid", "")) for key, entry in held.items()}
        return entries


@contextmanager
def site(cluster: Cluster, folder: Path, name: str, *, seed: int = 0) -> Iterator[Site]:
    """Put a proxy before a cluster."""
    authority = Authority(folder / "pki", name=f"CA of the proxy of {name}")
    server = upstream("127.0.0.1", cluster.port, ca_file=cluster.ca_file)
    with Proxy(server, identity=identity(authority), seed=seed) as proxy:
        file = folder / f"{name}.kubeconfig"
        file.write_text(json.dumps(_kubeconfig(proxy, authority, cluster.admin_token)))
        file.chmod(0o600)
        yield Site(name, cluster, proxy, authority, file, Audit(cluster))


def _kubeconfig(proxy: Proxy, authority: Authority, token: str) -> Json:
    server = {"server": f"https://127.0.0.1:{proxy.port}", "certificate-authority": str(authority.ca_file)}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": server}],
        "users": [{"name": "u", "user": {"token": token}}],
    }


# --- what is to be true ------------------------------------------------------------------------------------------------


def settles(
    site: Site,
    *,
    agent: str,
    agent_namespace: str,
    target: str,
    namespace: str,
    wanted: Mapping[str, str],
    within_s: float = 90,
) -> dict[str, Json]:
    """Wait until exactly these objects live there, each with its value, and the inventory names exactly them.

    Returns the objects.
    """

    def gaps() -> list[str]:
        live = site.live(namespace, agent)
        found = [f"missing {name}" for name in wanted.keys() - live.keys()]
        found += [f"left over {name}" for name in live.keys() - wanted.keys()]
        found += [f"other value {name}" for name in wanted.keys() & live.keys() if value_of(live[name]) != wanted[name]]
        recorded = site.recorded(agent_namespace, agent, target)
        there = {name.replace("/", f"/{namespace}/"): ("live", item["metadata"]["uid"]) for name, item in live.items()}
        found += [
            f"recorded {recorded.get(key)}, live {there.get(key)}: {key}"
            for key in recorded.keys() | there.keys()
            if recorded.get(key) != there.get(key)
        ]
        return found

    last: list[str] = []

    def settled() -> bool:
        last[:] = gaps()
        return not last

    try:
        until(settled, f"{target}@{site.name} to be what Git says", within_s=within_s)
    except AssertionError as error:
        raise AssertionError(f"{error}: {last[:20]}") from None
    return site.live(namespace, agent)


def value_of(item: Json) -> str:
    """What `manifest` has put in."""
    return str(item["metadata"].get("annotations", {}).get("example.com/value", ""))


def manifest(which: str, value: str) -> str:
    """One object, given as `Kind/name`, as JSON: it carries its value in every field that a person may edit by hand."""
    kind, _, name = which.partition("/")
    item: Json = {
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {"name": name, "annotations": {"example.com/value": value}},
    }
    match kind:
        case "Service":
            item["spec"] = {"ports": [{"port": 80}], "selector": {"value": value}}
        case "Secret":
            item["stringData"] = {"value": value}
        case _:
            item["data"] = {"value": value}
    return json.dumps(item)


def deleted(audit: Audit, agent: str, namespace: str) -> Counter[str]:
    """`Kind/name` of everything that the daemon deleted in a namespace, and how often."""
    kinds = {plural: kind for kind, plural in COLLECTIONS.items()}
    return Counter(
        f"{kinds[write.resource]}/{write.name}"
        for write in audit.read(agent=agent)
        if write.verb == "delete" and write.namespace == namespace and write.code < 300 and not write.dry
    )


def uids(objects: Mapping[str, Json], names: Collection[str]) -> dict[str, str]:
    return {name: str(objects[name]["metadata"]["uid"]) for name in names}
