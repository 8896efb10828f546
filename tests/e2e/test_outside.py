"""gitsyncd as monitoring sees it: a real daemon on a real cluster, scraped and probed over HTTP."""

from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.metrics_core import Metric as Parsed
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_classic

from tests.e2e.daemon import ROOT, Agent, Daemon, Json, until
from tests.e2e.hands import Hand, config_map, files
from tests.gitserver.repository import Repo
from tests.registry.images import image
from tests.registry.peculiar import Peculiar, Shelf, listing
from tests.sandbox import Cluster

pytestmark = pytest.mark.real

CONTRACT = {
    "target_in_sync": "gauge",
    "target_objects": "gauge",
    "target_last_sync_timestamp_seconds": "gauge",
    "target_turn_seconds": "histogram",
    "drift_reverted": "counter",
    "revert_seconds": "histogram",
    "plan_refused": "counter",
    "source_polls": "counter",
    "source_age_seconds": "gauge",
    "cluster_up": "gauge",
    "api_requests": "counter",
    "watch_connections": "gauge",
    "loop_lag_seconds": "gauge",
    "build_info": "gauge",
}
SERVED_BY_PROMETHEUS = {"instance", "job"}
"""Labels that a scrape adds."""
OBJECTS = [config_map(f"settings-{number}") for number in range(20)]


@dataclass(slots=True)
class Response:
    status: int
    headers: dict[str, str]
    body: str


@dataclass(slots=True)
class World:
    """An agent that has synced, reverted drift twice and refused a plan, and what it answers."""

    agent: Agent
    daemon: Daemon
    repo: Repo
    port: int
    edited: Hand
    scraped: dict[str, Parsed] = field(default_factory=dict)
    text: str = ""
    reverts: list[Json] = field(default_factory=list)
    """As the log told them until then."""

    def ask(self, path: str, *, method: str = "GET", **headers: str) -> Response:
        return ask(self.port, path, method=method, **headers)

    def value(self, name: str, **labels: str) -> float:
        """The one sample of that name with these labels."""
        (found,) = [
            sample.value
            for family in self.scraped.values()
            for sample in family.samples
            if sample.name == f"gitsyncd_{name}" and labels.items() <= sample.labels.items()
        ]
        return float(found)


def ask(port: int, path: str, *, method: str = "GET", **headers: str) -> Response:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers={"Host": "localhost", **headers})
        response = connection.getresponse()
        body = response.read().decode()
        return Response(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
    finally:
        connection.close()


def listening(daemon: Daemon) -> int:
    return int(daemon.wait_for("http listening")["address"].rpartition(":")[2])


@pytest.fixture(scope="module")
def world(bare_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("outside")
    repo, agent = Repo(folder / "fleet.git"), Agent(folder / "agent", name="outside")
    agent.document["agent"] |= {"cluster_namespace": "gitsyncd-outside", "http": {"listen": "127.0.0.1:0"}}
    agent.cluster("here", bare_cluster.kubeconfig)
    agent.source("fleet", repo.url)
    agent.target("web", path="web", namespace="outside", wait={"enabled": False})
    bare_cluster.create_namespace("outside")
    repo.commit({f"web/{name}": content for name, content in files(OBJECTS).items()})
    shelf = Shelf()
    with Peculiar(lambda path, _: (200, {}, listing("1.0.0")) if "tags" in path else shelf.get(path, _)) as registry:
        shelf.put("1.0.0", image("front 1.0.0"))
        name = f"{registry.host}/front"
        agent.document["images"] = {
            "registries": [{"prefix": registry.host, "allow_plain_http": True}],
            "policies": [{"name": "front", "image": name, "select": {"semver": "*"}}],
            "updates": [{"name": "fleet", "source": "fleet", "paths": ["apps"]}],
        }
        repo.commit({"apps/front.yaml": f'image: {name}:0.1.0  # {{"$imagepolicy": "front"}}\n'})
        yield from _told(agent, repo, bare_cluster)


def _told(agent: Agent, repo: Repo, bare_cluster: Cluster) -> Iterator[World]:
    with agent.start() as daemon:
        port = listening(daemon)
        daemon.wait_for("daemon ready")
        until(lambda: daemon.said("target in sync", target="web@here"), "the first sync")
        edited = Hand(bare_cluster, "ConfigMap", "outside", "settings-0")
        edited.patch({"data": {"value": "by hand"}}, "kubectl-edit")
        daemon.wait_for("drift reverted", kind="changed")
        Hand(bare_cluster, "ConfigMap", "outside", "settings-1").delete()
        daemon.wait_for("drift reverted", kind="deleted")
        written = daemon.wait_for("images committed")["commit"]
        daemon.wait_for("source updated", revision=f"main@sha1:{written}")  # else the next push takes its place
        repo.commit({f"web/{name}": None for name in list(files(OBJECTS))[4:]})
        daemon.wait_for("plan refused")
        until(lambda: state(port) == "refused", "the end of the turn")
        daemon.wait_for("images committed")
        world = World(agent, daemon, repo, port, edited)
        world.reverts = daemon.said("drift reverted")
        world.text = world.ask("/metrics").body
        world.scraped = {family.name: family for family in read_openmetrics(world.text)}
        yield world


def state(port: int) -> str:
    return str(json.loads(ask(port, "/api/v1/status").body)["targets"][0]["state"])


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_every_metric_of_the_contract_is_served_as_openmetrics(world: World) -> None:
    response = world.ask("/metrics")

    assert response.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert response.body.endswith("\n# EOF\n")
    served = {name.removeprefix("gitsyncd_"): family.type for name, family in world.scraped.items()}
    assert CONTRACT.items() <= served.items()
    assert [name for name in world.scraped if not name.startswith("gitsyncd_")] == []
    assert [name for name, family in world.scraped.items() if not family.samples] == []


def test_a_scraper_that_knows_only_the_older_format_gets_the_same_numbers(world: World) -> None:
    response = world.ask("/metrics", Accept="text/plain;version=0.0.4;q=0.5,*/*;q=0.1")

    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    classic = {sample.name for family in read_classic(response.body) for sample in family.samples}
    assert classic == {sample.name for family in world.scraped.values() for sample in family.samples}


def test_what_happened_once_is_counted_once(world: World) -> None:
    assert world.value("drift_reverted_total", target="web@here", kind="changed", writer="person") == 1
    assert world.value("drift_reverted_total", target="web@here", kind="deleted") == 1
    assert world.value("revert_seconds_count", target="web@here") == 2
    assert world.value("revert_seconds_sum", target="web@here") == pytest.approx(
        sum(line["took_s"] for line in world.reverts), abs=0.001
    )
    assert world.value("plan_refused_total", target="web@here", reason="budget") == 1
    assert world.value("plan_refused_total", target="web@here", reason="empty") == 0


def test_the_state_of_things_is_what_status_says(world: World) -> None:
    (target,) = world.agent.run("status", "--output", "json").json["targets"]

    assert world.value("target_state", target="web@here", state=target["state"]) == 1
    assert world.value("target_in_sync", target="web@here") == 0
    assert world.value("target_objects", target="web@here", state="in-sync") == target["objects"] == 4
    assert world.value("target_objects", target="web@here", state="leaving") == len(OBJECTS) - 4
    assert world.value("target_turn_seconds_count", target="web@here") >= 4
    assert 0 <= world.value("target_attempt_age_seconds", target="web@here") < 60
    assert world.value("cluster_up", cluster="here") == 1
    assert world.value("watch_connections", cluster="here") == 1
    assert world.value("api_requests_total", cluster="here", verb="watch", code="200") == 1
    assert world.value("api_requests_total", cluster="here", verb="patch", code="201") >= len(OBJECTS)
    assert world.value("source_polls_total", source="fleet", result="ok") >= 2
    assert 0 <= world.value("source_age_seconds", source="fleet") < 60
    assert 0 <= world.value("loop_lag_seconds") < 10
    assert world.value("ready") == 1
    assert world.value("build_info", agent="outside") == 1


def test_labels_hold_names_of_the_agent_file_and_words_of_small_sets(world: World) -> None:
    values = {
        (name, value)
        for f in world.scraped.values()
        for s in f.samples
        for name, value in s.labels.items()
        if name != "le"
    }
    assert {name for name, _ in values} == {
        "target", "source", "cluster", "state", "kind", "writer", "reason", "result", "verb", "code", "version", "python", "agent", "policy", "update"
    }  # fmt: skip
    assert [value for _, value in values if re.search(r"[0-9a-f]{12}|settings-\d|/|\.git\b", value)] == []
    assert len(values) < 40
    assert len(world.text.splitlines()) < 200


def test_more_of_the_same_makes_no_more_series(world: World) -> None:
    before = {line.rpartition(" ")[0] for line in world.text.splitlines()}
    since = world.daemon.now
    for round_ in range(3):
        world.edited.patch({"data": {"value": f"by hand {round_}"}}, "kubectl-edit")
        until(lambda: len(world.daemon.said("drift reverted", since=since)) > round_, "the revert")  # noqa: B023

    after = world.ask("/metrics").body

    new = {line.rpartition(" ")[0] for line in after.splitlines()} - before
    assert [line for line in new if not line.startswith("gitsyncd_api_requests_total")] == []
    assert 'gitsyncd_drift_reverted_total{target="web@here",kind="changed",writer="person"} 4\n' in after


# --- the other paths --------------------------------------------------------------------------------------------------


def test_health_readiness_and_the_document_of_status(world: World) -> None:
    assert (world.ask("/healthz").status, world.ask("/readyz").status) == (200, 200)
    shown = world.ask("/api/v1/status")

    assert shown.headers["content-type"] == "application/json"
    document = json.loads(shown.body)
    command = world.agent.run("status", "--output", "json").json
    assert {key: document[key] for key in ("agent", "version")} == {key: command[key] for key in ("agent", "version")}
    assert [t.keys() for t in document["targets"]] == [t.keys() for t in command["targets"]]
    assert (world.ask("/").status, world.ask("/metrics", method="POST").status) == (404, 405)
    assert world.ask("/metrics", Host="evil.example.com").status == 421


def test_no_answer_holds_the_address_of_a_repository(bare_cluster: Cluster, tmp_path: Path) -> None:
    agent = Agent(tmp_path / "agent", name="nowhere")
    agent.document["agent"]["http"] = {"listen": "127.0.0.1:0"}
    agent.cluster("here", bare_cluster.kubeconfig)
    missing, closed = tmp_path / "missing.git", f"https://127.0.0.1:{_free_port()}/team/secret-name.git"
    agent.source("lost", missing.as_uri())
    agent.source("gone", closed)
    agent.target("a", "lost")
    agent.target("b", "gone")
    with agent.start() as daemon:
        port = listening(daemon)
        daemon.wait_for("source unreachable", source="lost")
        daemon.wait_for("source unreachable", source="gone")

        shown = ask(port, "/api/v1/status").body + ask(port, "/metrics").body

        assert "unreachable" in shown
        assert str(missing) not in shown and "secret-name" not in shown
        local = agent.run("status", "--output", "json").stdout
        assert str(missing) in local or "secret-name" in local, "nothing was there to be left out"


def test_it_is_not_ready_before_the_first_turns_and_healthy_all_the_same(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "agent")
    agent.document["agent"]["http"] = {"listen": "127.0.0.1:0"}
    (tmp_path / "token").write_text("nothing")
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, and never says a word
        agent.cluster("slow", server=f"https://127.0.0.1:{silent.getsockname()[1]}", token_file=str(tmp_path / "token"))
        repo = Repo(tmp_path / "fleet.git")
        repo.commit({"web/a.json": json.dumps(config_map("a"))})
        agent.source("fleet", repo.url)
        agent.target("web", path="web")
        with agent.start() as daemon:
            port = listening(daemon)

            assert (ask(port, "/healthz").status, ask(port, "/readyz").status) == (200, 503)
            assert "gitsyncd_ready 0\n" in ask(port, "/metrics").body

            daemon.wait_for("daemon ready")
            assert ask(port, "/readyz").status == 200
            assert 'gitsyncd_cluster_up{cluster="slow"} 0\n' in ask(port, "/metrics").body


def test_the_listener_ends_with_the_daemon_whoever_is_connected(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "agent")
    agent.document["agent"]["http"] = {"listen": "127.0.0.1:0"}
    with agent.start() as daemon:
        port = listening(daemon)
        with socket.create_connection(("127.0.0.1", port)) as held:
            held.sendall(b"GET /met")

            assert daemon.stop() == 0
            assert held.recv(1) == b""
        with pytest.raises(OSError):
            socket.create_connection(("127.0.0.1", port)).close()


# --- the port is taken ------------------------------------------------------------------------------------------------


def test_a_port_that_was_asked_for_and_is_taken_is_an_error_with_its_fix(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "agent")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        agent.document["agent"]["http"] = {"listen": address}

        ran = agent.run("run")

    assert ran.code == 1
    what, fix = ran.complaint
    assert what == f"cannot listen on {address}: Address already in use"
    assert "listen: null" in fix


def test_a_second_daemon_that_asked_for_no_port_runs_without_one(tmp_path: Path) -> None:
    agents = [Agent(tmp_path / name) for name in ("first", "second")]
    with agents[0].start() as first, agents[1].start() as second:
        first.wait_for("daemon ready")
        second.wait_for("daemon ready")

        events = [line for daemon in (first, second) for line in daemon.lines if line["event"].startswith("http ")]

    assert {line["address"] for line in events} == {"127.0.0.1:9480"}
    # Another daemon of this machine may have had the port before both.
    (refused, *_) = [line for line in events if line["event"] == "http unavailable"]
    assert refused["level"] == "warning"
    assert "listen: null" in refused["hint"]


def test_nothing_listens_where_it_is_turned_off(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "agent")
    agent.document["agent"]["http"] = {"listen": None}
    with agent.start() as daemon:
        daemon.wait_for("daemon ready")

        assert [line for line in daemon.lines if line["event"].startswith("http ")] == []
        assert list(_listening_sockets(daemon.pid)) == []


def _listening_sockets(pid: int) -> Iterator[str]:
    """Local addresses of TCP sockets on which a process listens."""
    inodes = {link.readlink().name for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()}
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
                yield fields[1]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


# --- alerts and dashboard ---------------------------------------------------------------------------------------------


def rules() -> list[Json]:
    document = yaml.safe_load((ROOT / "config/prometheus/alerts.yaml").read_text())
    return [rule for group in document["groups"] for rule in group["rules"]]


def dashboard() -> Json:
    return dict(json.loads((ROOT / "config/grafana/gitsyncd.json").read_text()))


def panels() -> Iterator[Json]:
    for panel in dashboard()["panels"]:
        yield panel
        yield from panel.get("panels", [])


def expressions() -> Iterator[tuple[str, str]]:
    for rule in rules():
        yield rule["alert"], rule["expr"]
    for panel in panels():
        for target in panel.get("targets", []):
            yield f"panel {panel['title']}", _without_variables(target["expr"])
    for variable in dashboard()["templating"]["list"]:
        if variable["type"] == "query":
            series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()  # type: ignore[union-attr]
            yield f"variable {variable['name']}", f"count by ({label}) ({series})"


def _without_variables(expression: str) -> str:
    """As Grafana fills it in."""
    return expression.replace("$__rate_interval", "1m").replace("$__range", "1h")


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    found: list[promql_parser.VectorSelector] = []

    def visit(node: Any) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def labels_used(expression: str) -> set[str]:
    """In `by`, `on`, `group_left` and their kin."""
    used: set[str] = set()

    def visit(node: Any) -> None:
        modifier = getattr(node, "modifier", None)
        for labels in (getattr(modifier, name, None) for name in ("labels", "matching", "group_labels")):
            inner = getattr(labels, "labels", labels)
            used.update(str(label) for label in inner or ())

    promql_parser.walk(promql_parser.parse(expression), visit)
    return used


@pytest.mark.parametrize(("where", "expression"), [pytest.param(*e, id=e[0]) for e in expressions()])
def test_what_an_expression_asks_for_is_served(world: World, where: str, expression: str) -> None:
    served: dict[str, set[str]] = {}
    for family in world.scraped.values():
        for sample in family.samples:
            served.setdefault(sample.name, set()).update(sample.labels)
    asked = selectors(expression)

    assert asked, where
    assert [one.name for one in asked if one.name not in served] == []
    for one in asked:
        matched = {matcher.name for matcher in one.matchers.matchers}
        assert matched <= served[str(one.name)] | SERVED_BY_PROMETHEUS, f"{where}: {one}"
    everything = set().union(*(served[str(one.name)] for one in asked))
    assert labels_used(expression) <= everything | SERVED_BY_PROMETHEUS, where


@pytest.mark.parametrize("where", ["alerts", "dashboard"])
def test_values_that_an_expression_compares_labels_with_are_among_those_that_can_be_served(where: str) -> None:
    page = (ROOT / "docs/reference/json.md").read_text() + (ROOT / "docs/reference/http.md").read_text()
    chosen = [e for name, e in expressions() if name.startswith(("panel", "variable")) is (where == "dashboard")]
    values = {
        value
        for expression in chosen
        for one in selectors(expression)
        for matcher in one.matchers.matchers
        for value in re.findall(r"[a-z][a-z-]+", matcher.value if not matcher.value.startswith("$") else "")
    }

    assert values
    assert [value for value in values if not re.search(rf"[`( ]{value}[`,.( ]", page)] == []


def test_each_alert_says_what_and_stands_on_the_page_with_what_to_do() -> None:
    page = (ROOT / "docs/how-to/monitor.md").read_text()

    assert re.findall(r"^\| `(Gitsyncd\w+)` \|", page, flags=re.MULTILINE) == [rule["alert"] for rule in rules()]
    for rule in rules():
        assert set(rule["annotations"]) == {"summary", "description"}
        assert rule["labels"]["severity"] in {"warning", "critical"}


def test_labels_in_the_words_of_an_alert_are_those_that_its_expression_leaves() -> None:
    for rule in rules():
        words = " ".join(rule["annotations"].values())
        named = set(re.findall(r"\$labels\.(\w+)", words))
        known = labels_used(rule["expr"]) | {label for one in selectors(rule["expr"]) for label in _labels_of(one)}
        assert named <= known | SERVED_BY_PROMETHEUS, rule["alert"]


def _labels_of(selector: promql_parser.VectorSelector) -> set[str]:
    page = (ROOT / "docs/reference/http.md").read_text()
    name = re.sub(r"_(bucket|count|sum)$", "", str(selector.name))
    row = re.search(rf"^\| `{name}` \| \w+ \| ([^|]*) \|", page, flags=re.MULTILINE)
    assert row is not None, name
    return set(re.findall(r"`(\w+)`", row[1]))


def test_the_dashboard_can_be_imported_and_its_panels_do_not_overlap() -> None:
    board = dashboard()
    laid = list(board["panels"])
    cells = [
        (x, y)
        for panel in laid
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]

    assert board["id"] is None and board["uid"] == "gitsyncd" and board["schemaVersion"] >= 39
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in panels()}) == len(list(panels()))
    for panel in panels():
        if panel["type"] != "row":
            assert panel["description"] and panel["datasource"]["uid"] == "${datasource}"
