"""Three clusters, each behind a proxy that hurts one of them in every way we know, at rest, in the middle of a turn and in
the middle of a prune. The cluster is named with a reason and a fix, the others are kept as ever, nothing is deleted that
Git has, and when it is over all of them are what Git says: by object, by UID, and by inventory. Then the Git server is
hurt, which is behind a proxy of its own.

The sources are a folder per cluster, a branch per cluster, and a target for those that a label picks. In `make test` each
fault comes in one phase; in `make faults`, in each phase that its row names.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.request import urlopen

import pytest

from tests.e2e.daemon import Agent, Daemon, Json, until
from tests.e2e.killing import ALL
from tests.e2e.proxied import Site, deleted, manifest, settles, site
from tests.faults import faults
from tests.faults.faults import Fault, Matcher, asking, everything
from tests.faults.proxy import Proxy, identity, upstream
from tests.gitserver.certificates import Authority
from tests.gitserver.repository import Repo
from tests.gitserver.server import GitServer
from tests.sandbox.fixtures import MakeCluster

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(400)]

AGENT = "net"
CLUSTERS = ("c1", "c2", "c3")
CANARY = ("c1", "c2")
MANY = 60
IN_THE_MIDDLE = 15
KINDS = ("ConfigMap", "Service", "ConfigMap", "Secret")
HEAL_S = 120.0
"""Within which everything is well again. The longest pause between two tries is 33 s, and machines may be busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One fault, and what is to be said of it."""

    fault: Fault | Callable[[Authority], Fault]
    """Or what makes it, given the CA of the proxy."""
    when: Matcher = everything
    reset: bool = True
    """Whether connections that stand are reset as well, so that everything is asked for anew."""
    once: bool = True
    """Whether the cluster as such is said to be unreachable, exactly once; else only its targets or objects may fail."""
    quiet: bool = False
    """Whether nothing need be said: it is overcome."""
    word: str = ""
    """To be in the error of some event."""
    phases: tuple[str, ...] = ("idle", "turn", "prune")


def _stranger(authority: Authority) -> Fault:
    return faults.Certificate(identity(Authority(authority.ca_file.parent / "stranger", name="another CA")))


def _expired(authority: Authority) -> Fault:
    return faults.Certificate(identity(authority, "127.0.0.1", days=(-9, -2)))


def _other_host(authority: Authority) -> Fault:
    return faults.Certificate(identity(authority, "example.com"))


IDLE, TURN, PRUNE = "idle", "turn", "prune"

ROWS: Mapping[str, Row] = {
    "nobody listens": Row(fault=faults.Refuse(), word="refused"),
    "requests are reset": Row(fault=faults.CutRequest(0)),
    "requests are cut": Row(fault=faults.CutRequest(150, reset=False), phases=(TURN,)),
    "answers are lost": Row(fault=faults.CutAnswer(0)),
    # Short answers pass: the cluster comes and goes.
    "answers are cut": Row(fault=faults.CutAnswer(400, reset=False), once=False, phases=(PRUNE,)),
    "no HTTP": Row(fault=faults.Raw(), phases=(TURN,)),
    "no TLS": Row(fault=faults.Babble(), word="TLS", phases=(PRUNE,)),
    "broken JSON": Row(fault=faults.Change(faults.half), phases=(TURN,)),
    "a body too short": Row(fault=faults.Change(lambda body: body, length_is=7), phases=(TURN,)),
    "a web page": Row(fault=faults.web_page(), phases=(PRUNE,)),
    "429": Row(fault=faults.too_many(2), word="429"),
    "500": Row(fault=faults.status(500), word="500", phases=(TURN,)),
    "502": Row(fault=faults.web_page(502), word="502", phases=(TURN,)),
    "503": Row(fault=faults.status(503), word="503", phases=(PRUNE,)),
    "504": Row(fault=faults.status(504), word="504", phases=(TURN,)),
    "401": Row(fault=faults.status(401), word="401", phases=(TURN,)),
    "403 on lists": Row(
        fault=faults.forbidden(), when=asking("list", "watch"), once=False, word="may not", phases=(IDLE, PRUNE)
    ),
    "410 on watches": Row(fault=faults.gone(), when=asking("watch"), quiet=True, phases=(TURN,)),
    "410 in watches": Row(fault=faults.gone_in_a_watch(), when=asking("watch"), quiet=True, phases=(IDLE,)),
    "another CA": Row(fault=_stranger, word="certificate", phases=(PRUNE,)),
    "an expired certificate": Row(fault=_expired, word="expired", phases=(IDLE,)),
    "another host's certificate": Row(fault=_other_host, word="certificate", phases=(TURN,)),
    "a slow line": Row(fault=faults.Slow(latency_s=0.3, bytes_per_s=60_000), reset=False, quiet=True, phases=(PRUNE,)),
    "accepted and silent": Row(fault=faults.Mute(), word="no answer", phases=(IDLE,)),
    "a black hole": Row(fault=faults.BlackHole(), reset=False, word="no answer", phases=(IDLE,)),
    "a black hole in a turn": Row(fault=faults.BlackHole(), reset=False, word="no answer", phases=(TURN,)),
    "answers stall": Row(fault=faults.StallAnswer(400), reset=False, once=False, word="no answer", phases=(PRUNE,)),
}


@dataclass(slots=True)
class World:
    """Three clusters and a repository; `wanted` is what Git says for each target."""

    agent: Agent
    sites: Mapping[str, Site]
    repo: Repo
    git: Proxy
    git_authority: Authority
    elsewhere: Proxy
    """Another Git server that anybody may ask."""
    wanted: dict[str, dict[str, str]] = field(default_factory=dict)
    """By `target@cluster`: `Kind/name` to value."""

    # --- Git -----------------------------------------------------------------------------------------------------

    def commit(self, target: str, changes: Mapping[str, str | None]) -> str:
        """Objects of one target added or changed, None removes one. The revision, as events name it."""
        branch, folder = self._where(target)
        targets = [f"labelled@{name}" for name in CANARY] if target.startswith("labelled") else [target]
        for each in targets:
            wanted = self.wanted.setdefault(each, {})
            for name, value in changes.items():
                if value is None:
                    wanted.pop(name)
                else:
                    wanted[name] = value
        files: dict[str, str | bytes | None] = {
            f"{folder}/{name.lower().replace('/', '-')}.json": None if value is None else manifest(name, value)
            for name, value in changes.items()
        }
        return f"{branch}@sha1:{self.repo.commit(files, branch=branch)}"

    @staticmethod
    def _where(target: str) -> tuple[str, str]:
        name, _, cluster = target.partition("@")
        return {
            "folders": ("main", f"clusters/{cluster}"),
            "branches": (f"env/{cluster}", "app"),
            "labelled": ("main", "shared"),
        }[name]

    # --- clusters ------------------------------------------------------------------------------------------------

    def settles(
        self, target: str, *, wanted: Mapping[str, str] | None = None, within_s: float = HEAL_S
    ) -> dict[str, Json]:
        """Wait for what Git says, or for what it said before."""
        name, _, cluster = target.partition("@")
        return settles(
            self.sites[cluster],
            agent=AGENT,
            agent_namespace=f"gitsyncd-{AGENT}",
            target=name,
            namespace=name,
            wanted=self.wanted[target] if wanted is None else wanted,
            within_s=within_s,
        )

    def edit(self, target: str, name: str) -> None:
        """By hand: a value is overwritten."""
        namespace, _, cluster = target.partition("@")
        path = f"/api/v1/namespaces/{namespace}/configmaps/{name}?fieldManager=kubectl-edit"
        body = {"data": {"value": "by hand"}}
        self.sites[cluster].cluster.request("PATCH", path, body, content_type="application/merge-patch+json")

    def delete(self, target: str, name: str) -> None:
        """By hand."""
        namespace, _, cluster = target.partition("@")
        self.sites[cluster].cluster.request("DELETE", f"/api/v1/namespaces/{namespace}/configmaps/{name}")

    def value(self, target: str, name: str) -> str:
        namespace, _, cluster = target.partition("@")
        path = f"/api/v1/namespaces/{namespace}/configmaps/{name}"
        return str(self.sites[cluster].cluster.request("GET", path)["data"]["value"])


def objects(prefix: str, count: int, value: str = "1") -> dict[str, str | None]:
    return {f"{KINDS[number % len(KINDS)]}/{prefix}-{number:02}": value for number in range(count)}


@pytest.fixture(scope="module")
def world(make_shared_cluster: MakeCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("network")
    with ExitStack() as stack:
        sites = {}
        for name in CLUSTERS:
            (folder / name).mkdir()
            sites[name] = stack.enter_context(site(make_shared_cluster(audit=True), folder / name, name))
            for namespace in ("folders", "branches", "labelled"):
                sites[name].cluster.create_namespace(namespace)
        agent = Agent(folder / "agent", name=AGENT)
        agent.document["agent"] |= {"cluster_namespace": f"gitsyncd-{AGENT}", "http": {"listen": "127.0.0.1:0"}}
        for name in CLUSTERS:
            ring = "canary" if name in CANARY else "stable"
            agent.cluster(name, sites[name].kubeconfig, labels={"ring": ring}, limits={"parallel": 4})
        authority = Authority(folder / "git-pki")
        server = stack.enter_context(GitServer(folder / "git", credentials=("robot", "git-password")))
        relays = [
            stack.enter_context(Proxy(upstream("127.0.0.1", server.port), identity=identity(authority)))
            for _ in range(2)
        ]
        repo = server.create("fleet")
        (folder / "password").write_text("git-password")
        agent.source(
            "fleet",
            f"https://127.0.0.1:{relays[0].port}/fleet.git",
            interval="500ms",
            timeout="3s",
            auth={"username": "robot", "password_file": str(folder / "password")},
            tls={"ca_file": str(authority.ca_file)},
        )
        budget: dict[str, Any] = {"wait": {"enabled": False}, "prune": {"max_percent": 100, "max_objects": 500}}
        agent.target("folders", path="clusters/{cluster}", namespace="folders", **budget)
        agent.target("branches", path="app", ref={"branch": "env/{cluster}"}, namespace="branches", **budget)
        agent.target("labelled", path="shared", clusters={"match": {"ring": "canary"}}, namespace="labelled", **budget)
        world = World(agent, sites, repo, relays[0], authority, relays[1])
        for name in CLUSTERS:
            world.commit(f"folders@{name}", objects("base", 8))
            world.commit(f"branches@{name}", objects("base", 5))
        world.commit("labelled@c1", objects("base", 5))
        yield world


@pytest.fixture
def daemon(world: World) -> Iterator[Daemon]:
    """One for each test: pauses that grew in one must not be waited for in the next."""
    with world.agent.start() as daemon:
        daemon.wait_for("daemon ready")
        for target in world.wanted:
            world.settles(target)
        yield daemon
        told = [line for line in daemon.lines if not line["event"].startswith("object ")]
        print("\n".join(map(json.dumps, told[-60:])))  # for whoever reads a failure
        for proxy in (world.git, *(each.proxy for each in world.sites.values())):
            proxy.heal()


HURT, OTHERS = "c1", ("c2", "c3")
TARGET = f"folders@{HURT}"


CASES = [(name, phase) for name, row in ROWS.items() for phase in (row.phases if ALL else row.phases[-1:])]


@pytest.mark.parametrize(("name", "phase"), CASES)
def test_a_cluster_that_is_hurt_is_named_and_the_others_are_kept_and_all_is_well_afterwards(
    world: World, daemon: Daemon, name: str, phase: str
) -> None:
    row, proxy = ROWS[name], world.sites[HURT].proxy
    fault = row.fault if isinstance(row.fault, Fault) else row.fault(world.sites[HURT].authority)
    lasting = objects("late", MANY, value=str(world.repo.head())[:12])  # news, whatever a test that failed has left
    if phase == PRUNE:
        world.commit(TARGET, lasting)
        world.settles(TARGET)
    before = {target: world.settles(target) for target in world.wanted}
    deletes = {target: _deleted(world, target) for target in world.wanted}
    since = daemon.now

    # --- the fault comes
    if phase == IDLE:
        proxy.put(fault, when=row.when)
        if row.reset:
            proxy.reset()
        world.edit(TARGET, "base-00")
        world.delete(TARGET, "base-02")
    else:
        verb = "patch" if phase == TURN else "delete"
        trip = proxy.put(
            faults.Trip(fault, when=row.when, reset=row.reset),
            when=asking(verb, name="late"),
            skip=IN_THE_MIDDLE,
            times=1,
        )
        world.commit(TARGET, lasting if phase == TURN else dict.fromkeys(lasting))
        until(lambda: trip.hits, "the turn to be in the middle")

    # --- the others are kept
    for cluster in OTHERS:
        world.edit(f"branches@{cluster}", "base-00")
        world.delete(f"folders@{cluster}", "base-02")
        world.commit(f"folders@{cluster}", {"ConfigMap/meanwhile": name})
        world.commit(f"branches@{cluster}", {"ConfigMap/meanwhile": name})
    world.commit("labelled@c2", {"Secret/meanwhile": name})
    for cluster in OTHERS:
        for target in (f"branches@{cluster}", f"folders@{cluster}", *(["labelled@c2"] if cluster in CANARY else [])):
            _restored(world.settles(target), before[target], world.wanted[target])
        _undone(world, f"branches@{cluster}")

    # --- the one is named
    if not row.quiet:
        _named(daemon, since, row)
        assert _deleted(world, TARGET) - deletes[TARGET] <= (Counter(lasting.keys()) if phase == PRUNE else Counter())

    # --- the fault goes
    proxy.heal()
    for target in world.wanted:
        _restored(world.settles(target), before[target], world.wanted[target])
    if phase == IDLE:
        _undone(world, TARGET)
    _calm(daemon, since, row)
    removed = Counter(lasting.keys()) if phase == PRUNE else Counter()
    for target in world.wanted:
        # Of a request whose connection ends the server may log an error although it carried it out.
        assert _deleted(world, target) - deletes[target] <= (removed if target == TARGET else Counter())
    _writes_nothing(world)
    if phase == TURN:
        world.commit(TARGET, dict.fromkeys(lasting))
        world.settles(TARGET)


def _deleted(world: World, target: str) -> Counter[str]:
    namespace, _, cluster = target.partition("@")
    return deleted(world.sites[cluster].audit, AGENT, namespace)


def _restored(after: Mapping[str, Json], before: Mapping[str, Json], wanted: Mapping[str, str]) -> None:
    """What a person did not delete has kept its UID."""
    kept = (before.keys() & wanted.keys()) - {"ConfigMap/base-02"}
    assert [name for name in kept if after[name]["metadata"]["uid"] != before[name]["metadata"]["uid"]] == []


def _undone(world: World, target: str) -> None:
    until(lambda: world.value(target, "base-00") == "1", f"the edit in {target} to be undone", within_s=HEAL_S)


def _about(line: Json) -> bool:
    return line.get("cluster") == HURT or str(line.get("target", "")).endswith(f"@{HURT}")


def _named(daemon: Daemon, since: int, row: Row) -> None:
    """Its error, who is to mend it, and how."""
    if row.once:
        daemon.wait_for("cluster unreachable", since=since, cluster=HURT, within_s=90)

    lines = until(lambda: _problems(daemon, since), f"anything to be said of {HURT}", within_s=90)
    wrong = [line for line in lines if line["event"] != "target failed" and not _mendable(line)]
    assert wrong == [], wrong
    until(lambda: row.word in _said(daemon, since), f"{row.word!r} to be said of {HURT}", within_s=90)


def _problems(daemon: Daemon, since: int) -> list[Json]:
    return [
        line
        for line in daemon.lines[since:]
        if (_about(line) and line["level"] == "error") or line["event"] == "cluster unreachable"
    ]


def _mendable(line: Json) -> bool:
    return bool(line.get("remedy") and line.get("hint"))


def _said(daemon: Daemon, since: int) -> str:
    """In the log and, since a lasting trouble is logged once, in the status."""
    with urlopen(f"http://{daemon.wait_for('http listening')['address']}/api/v1/status") as answer:
        status = json.load(answer)
    here = [cluster for cluster in status["clusters"] if cluster["cluster"] == HURT]
    here += [target["problems"] for target in status["targets"] if target["target"].endswith(f"@{HURT}")]
    return json.dumps([here, _problems(daemon, since)])


def _calm(daemon: Daemon, since: int, row: Row) -> None:
    """What was said to be unreachable is said to have recovered, and nothing was said of the others."""

    def balanced() -> bool:
        return len(daemon.said("cluster unreachable", since=since)) == len(
            daemon.said("cluster recovered", since=since)
        )

    until(balanced, "the recovery to be said", within_s=HEAL_S)
    lost = daemon.said("cluster unreachable", since=since)
    assert len(lost) == 1 or (row.quiet and not lost) or not row.once, lost
    assert {line["cluster"] for line in lost} <= {HURT}
    bad = [line for line in daemon.lines[since:] if line["level"] in {"warning", "error"} and not _about(line)]
    assert [line for line in bad if line["event"] != "drift reverted"] == []


def _writes_nothing(world: World) -> None:
    """A further turn of every target."""
    synced = world.agent.run("sync", "folders", "branches", "labelled", "--wait", within_s=HEAL_S)
    assert synced.code == 0, synced.stdout
    before = {name: len(each.audit.read(agent=AGENT)) for name, each in world.sites.items()}
    synced = world.agent.run("sync", "folders", "branches", "labelled", "--wait")
    assert synced.code == 0, synced.stdout
    written = {name: each.audit.read(agent=AGENT)[before[name] :] for name, each in world.sites.items()}
    assert written == {name: [] for name in CLUSTERS}


# --- Git ---------------------------------------------------------------------------------------------------------------


PACK = asking("fetch")

GIT_ROWS: Mapping[str, Row] = {
    "nobody listens": Row(fault=faults.Refuse(), word="cannot connect"),
    "accepted and silent": Row(fault=faults.Mute(), word="within 3s"),
    "a black hole": Row(fault=faults.BlackHole(), reset=False, word="within 3s"),
    "requests are reset": Row(fault=faults.CutRequest(0), word="ended in the middle"),
    "the pack is cut": Row(fault=faults.CutAnswer(300, reset=False), when=PACK, word="ended in the middle"),
    "the pack stalls": Row(fault=faults.StallAnswer(300), when=PACK, word="within 3s"),
    "the pack is cut short": Row(fault=faults.Change(faults.half), when=PACK),
    "no HTTP": Row(fault=faults.Raw(), word="not answer as a web server"),
    "no TLS": Row(fault=faults.Babble(), word="TLS"),
    "a web page": Row(fault=faults.web_page(), word="web page"),
    "401": Row(fault=faults.web_page(401), word="credentials"),
    "403": Row(fault=faults.web_page(403), word="credentials"),
    "404": Row(fault=faults.web_page(404), word="not found"),
    "429": Row(fault=faults.too_many(1), word="slow down"),
    "500": Row(fault=faults.web_page(500), word="500"),
    "503": Row(fault=faults.web_page(503), word="503"),
    "a redirect to another server": Row(fault=faults.Answer(status=302), word="another server"),
    "another CA": Row(fault=_stranger, word="certificate"),
    "an expired certificate": Row(fault=_expired, word="expired"),
}


def _git_fault(world: World, row: Row) -> Fault:
    match row.fault:
        case faults.Answer(status=302):
            return faults.Made(
                lambda request: faults.Answer(
                    status=302, headers={"Location": f"https://127.0.0.1:{world.elsewhere.port}{request.target}"}
                )
            )
        case Fault():
            return row.fault
        case make:
            return make(world.git_authority)


@pytest.mark.parametrize("name", GIT_ROWS)
def test_a_git_server_that_is_hurt_is_named_and_clusters_are_kept_at_what_was_admitted(
    world: World, daemon: Daemon, name: str
) -> None:
    row, since = GIT_ROWS[name], daemon.now
    deletes = {target: _deleted(world, target) for target in world.wanted}
    admitted = {target: dict(wanted) for target, wanted in world.wanted.items()}

    # --- the fault comes
    world.git.put(_git_fault(world, row), when=row.when)
    if row.reset:
        world.git.reset()
    world.commit(TARGET, {"ConfigMap/pushed": name})
    lost = daemon.wait_for("source unreachable", since=since, source="fleet", error=lambda said: row.word in said)
    assert _mendable(lost)

    # --- drift is healed all the same
    world.edit("folders@c2", "base-00")
    world.delete("branches@c3", "base-02")
    _undone(world, "folders@c2")
    world.settles("branches@c3")
    world.settles(TARGET, wanted=admitted[TARGET])

    # --- the fault goes
    world.git.heal()
    for target in world.wanted:
        world.settles(target)
    # A branch is told of once more when what is wrong with it has changed, and recovers once.
    told = {line["branch"] for line in daemon.said("source unreachable", since=since)}
    until(lambda: sorted(_recovered(daemon, since)) == sorted(told), "the recovery of each branch to be said once")
    assert world.elsewhere.requests == [], "credentials would have gone there"
    assert "git-password" not in json.dumps(daemon.lines)
    bad = [line for line in daemon.lines[since:] if line["level"] in {"warning", "error"}]
    assert {line["event"] for line in bad} == {"source unreachable", "drift reverted"}
    assert [target for target in world.wanted if _deleted(world, target) != deletes[target]] == []
    _writes_nothing(world)


def test_a_mirror_that_is_deleted_while_it_runs_is_made_again(world: World, daemon: Daemon) -> None:
    deletes = {target: _deleted(world, target) for target in world.wanted}

    world.agent.lose_state("mirrors")
    world.commit(TARGET, {"ConfigMap/after-the-mirror": "1", "ConfigMap/base-01": "2"})
    world.edit("folders@c2", "base-00")
    world.delete("branches@c3", "base-02")

    for target in world.wanted:
        world.settles(target)
    _undone(world, "folders@c2")
    world.commit(TARGET, {"ConfigMap/base-01": "1"})
    world.settles(TARGET)
    assert [target for target in world.wanted if _deleted(world, target) != deletes[target]] == []
    _writes_nothing(world)


def _recovered(daemon: Daemon, since: int) -> list[str]:
    return [line["branch"] for line in daemon.said("source recovered", since=since)]
