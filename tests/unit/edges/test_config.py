"""The agent file, read well: examples, defaults, what names and placeholders turn into."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from gitsyncd import cli
from gitsyncd.edges.config.load import load
from gitsyncd.edges.config.reference import page
from gitsyncd.edges.config.schema import AgentFile, json_schema
from gitsyncd.model.errors import ConfigError
from gitsyncd.model.source import OnRewind, PasswordAuth, Repository, Source
from gitsyncd.model.target import (
    Adopt,
    Agent,
    Cluster,
    Configuration,
    DriftAction,
    ForeignFields,
    IgnoreRule,
    InCluster,
    Kubeconfig,
    Listen,
    LogFormat,
    Policy,
    PrunePolicy,
    Server,
    Target,
)

ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "config").glob("*.yaml"))

Write = Callable[[str], Path]

LEAST = """
version: 1
agent: {name: edge}
sources:
  - {name: fleet, url: "file:///srv/fleet.git", ref: {branch: main}}
clusters:
  - {name: eu-1, in_cluster: true, labels: {region: eu}}
  - {name: us-1, in_cluster: true, labels: {region: us}}
targets:
  - {name: web, source: fleet}
"""


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def agent_file(text: str) -> Path:
        path = tmp_path / "gitsyncd.yaml"
        path.write_text(text)
        return path

    return agent_file


def with_target(**more: Any) -> str:
    return LEAST.replace("{name: web, source: fleet}", json.dumps({"name": "web", "source": "fleet"} | more))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_loads_where_the_files_that_it_names_are(example: Path, tmp_path: Path) -> None:
    named = ["eu-1.kubeconfig", "eu-2.kubeconfig", "fleet.token", "us-1.ca", "us-1.token"]
    for name in [*named, "clusters.kubeconfig", "git-ca.pem"]:
        (tmp_path / name).write_text("something")
    copy = tmp_path / example.name
    copy.write_bytes(example.read_bytes())

    configuration = load(copy, {"CREDENTIALS_DIRECTORY": str(tmp_path)})

    assert configuration.targets != ()


def test_there_are_examples() -> None:
    names = {path.name for path in EXAMPLES}

    assert {"minimal.yaml", "folder-per-cluster.yaml", "branch-per-cluster.yaml", "in-cluster.yaml"} <= names


def test_the_least_file_takes_every_default(write: Write) -> None:
    path = write(LEAST)

    configuration = load(path, {})

    source = Source(
        name="fleet",
        repository=Repository(url="file:///srv/fleet.git"),
        branch="main",
        interval=timedelta(seconds=30),
        timeout=timedelta(seconds=60),
        on_rewind=OnRewind.HOLD,
    )
    assert configuration == Configuration(
        file=path,
        agent=Agent(
            name="edge",
            state_dir=Path("/var/lib/gitsyncd"),
            cluster_namespace="gitsyncd",
            socket=Path("/run/gitsyncd/agent.sock"),
            http=Listen(host="127.0.0.1", port=9480, asked=False),
            writers={"person": (), "delivery": (), "controller": ()},
        ),
        sources=(source,),
        clusters=(
            Cluster(name="eu-1", connection=InCluster(), labels={"region": "eu"}),
            Cluster(name="us-1", connection=InCluster(), labels={"region": "us"}),
        ),
        targets=tuple(Target(name="web", cluster=name, source=source, path="") for name in ("eu-1", "us-1")),
    )


@pytest.mark.parametrize(
    ("where", "key"),
    [
        ("ref: {branch: main}", ", verify: {mode: none}"),
        ("ref: {branch: main}", ", ignore: []"),
        ("ref: {branch: main}", ", allow_plain_http: false"),
        ("source: fleet", ", apply: besteffort"),
        ("source: fleet", ", render: {kind: auto}"),
        ("source: fleet", ", render: {kind: plain}"),
        ("source: fleet", ", depends_on: []"),
        ("version: 1", "\ninclude: []"),
    ],
)
def test_a_key_that_a_later_version_will_know_may_ask_for_what_is_done_anyhow(
    write: Write, where: str, key: str
) -> None:
    least = load(write(LEAST), {})

    assert where in LEAST
    assert load(write(LEAST.replace(where, where + key)), {}) == least


def test_every_key_of_a_target_is_taken_up(write: Write) -> None:
    path = write(
        with_target(
            ref={"branch": "env/{cluster}"},
            path="regions/{labels.region}/",
            clusters={"match": {"region": "us"}},
            namespace="shop",
            interval="1h30m",
            timeout="7m",
            retry_interval="5s",
            prune={"enabled": False, "max_objects": 3, "max_percent": 4, "allow_empty": True},
            drift={"action": "report", "foreign_fields": "revert-all"},
            adopt="always",
            ignore_fields=[
                {"kind": "Deployment", "group": "apps", "name": "a", "namespace": "b", "paths": ["/spec/replicas"]}
            ],
            suspend=True,
            wait={"enabled": False, "timeout": "8m"},
        )
    )

    configuration = load(path, {})

    assert configuration.targets == (
        Target(
            name="web",
            cluster="us-1",
            source=Source(
                name="fleet",
                repository=Repository(url="file:///srv/fleet.git"),
                branch="env/us-1",
                interval=timedelta(seconds=30),
                timeout=timedelta(seconds=60),
            ),
            path="regions/us",
            namespace="shop",
            interval=timedelta(minutes=90),
            timeout=timedelta(minutes=7),
            retry_interval=timedelta(seconds=5),
            policy=Policy(
                prune=PrunePolicy(enabled=False, max_objects=3, max_percent=4, allow_empty=True),
                drift=DriftAction.REPORT,
                foreign_fields=ForeignFields.REVERT_ALL,
                adopt=Adopt.ALWAYS,
                ignore=(
                    IgnoreRule(paths=("/spec/replicas",), group="apps", kind="Deployment", name="a", namespace="b"),
                ),
            ),
            wait=False,
            wait_timeout=timedelta(minutes=8),
            suspend=True,
        ),
    )


def test_every_key_of_agent_source_and_cluster_is_taken_up(write: Write, tmp_path: Path) -> None:
    for name in ("token", "ca", "cert", "key", "kubeconfig"):
        (tmp_path / name).write_text("x")
    path = write("""
version: 1
agent:
  name: edge-eu
  state_dir: state
  cluster_namespace: ops
  socket: ../agent.sock
  http: {listen: "[::]:9480"}
  log: {level: debug, format: json}
  writers: {person: [my-console], delivery: [my-ci], controller: [my-operator]}
sources:
  - name: fleet
    url: https://git.example.com:8443/fleet.git
    ref: {branch: release/1.0}
    interval: 1m
    timeout: 90s
    on_rewind: follow
    auth: {username: git, password_file: "{credentials}/token"}
    tls: {ca_file: ca}
clusters:
  - {name: a, kubeconfig: {file: kubeconfig, context: prod}, limits: {parallel: 4}}
  - {name: b, server: "https://10.0.0.1:6443", ca_file: ca, token_file: token}
  - {name: c, server: "https://10.0.0.2", client_cert_file: cert, client_key_file: key}
""")

    configuration = load(path, {"CREDENTIALS_DIRECTORY": str(tmp_path)})

    assert configuration.agent == Agent(
        name="edge-eu",
        state_dir=tmp_path / "state",
        cluster_namespace="ops",
        socket=tmp_path / "../agent.sock",
        http=Listen(host="::", port=9480),
        log_level="debug",
        log_format=LogFormat.JSON,
        writers={"person": ("my-console",), "delivery": ("my-ci",), "controller": ("my-operator",)},
    )
    assert configuration.sources == (
        Source(
            name="fleet",
            repository=Repository(
                url="https://git.example.com:8443/fleet.git",
                auth=PasswordAuth(username="git", password_file=tmp_path / "token"),
                ca_file=tmp_path / "ca",
            ),
            branch="release/1.0",
            interval=timedelta(minutes=1),
            timeout=timedelta(seconds=90),
            on_rewind=OnRewind.FOLLOW,
        ),
    )
    assert [(one.connection, one.parallel) for one in configuration.clusters] == [
        (Kubeconfig(file=tmp_path / "kubeconfig", context="prod"), 4),
        (Server(url="https://10.0.0.1:6443", ca_file=tmp_path / "ca", token_file=tmp_path / "token"), 32),
        (
            Server(url="https://10.0.0.2", client_cert_file=tmp_path / "cert", client_key_file=tmp_path / "key"),
            32,
        ),
    ]


LISTEN = [
    ('{listen: "127.0.0.1:9480"}', Listen(host="127.0.0.1", port=9480)),
    ("{listen: localhost:0}", Listen(host="localhost", port=0)),
    ('{listen: "[::1]:65535"}', Listen(host="::1", port=65535)),
    ("{listen: null}", None),
    ("{}", Listen(host="127.0.0.1", port=9480, asked=False)),
]


@pytest.mark.parametrize(("written", "meant"), LISTEN)
def test_an_address_to_listen_on_is_known_to_be_asked_for(write: Write, written: str, meant: Listen | None) -> None:
    configuration = load(write(LEAST.replace("{name: edge}", f"{{name: edge, http: {written}}}")), {})

    assert configuration.agent.http == meant


def test_clusters_by_name_come_in_the_order_of_the_target(write: Write) -> None:
    configuration = load(write(with_target(clusters={"names": ["us-1", "eu-1"]})), {})

    assert [target.id for target in configuration.targets] == ["web@us-1", "web@eu-1"]


PATHS = [(".", ""), ("./", ""), ("a/./b//c/", "a/b/c"), ("{cluster}", "eu-1"), ("x-{labels.region}", "x-eu")]


@pytest.mark.parametrize(("written", "meant"), PATHS)
def test_a_path_starts_at_the_root_of_the_repository(write: Write, written: str, meant: str) -> None:
    configuration = load(write(with_target(path=written, clusters={"names": ["eu-1"]})), {})

    assert configuration.targets[0].path == meant


def test_anchors_and_merge_keys_save_writing(write: Write) -> None:
    path = write(
        LEAST.replace("{name: web, source: fleet}", "&usual {name: web, source: fleet, interval: 2m}")
        + "  - {<<: *usual, name: api}\n"
    )

    configuration = load(path, {})

    assert {(one.name, one.interval) for one in configuration.targets} == {
        ("web", timedelta(minutes=2)),
        ("api", timedelta(minutes=2)),
    }


def test_an_agent_without_targets_is_allowed_so_that_the_last_one_can_go(write: Write) -> None:
    assert load(write("version: 1\nagent: {name: edge}\n"), {}).targets == ()


def test_the_committed_reference_page_is_what_the_code_prints() -> None:
    committed = (ROOT / "docs/reference/agent-file.md").read_text()

    assert committed == page(), "run: python -m gitsyncd.edges.config.reference > docs/reference/agent-file.md"


def test_the_json_schema_names_every_key_and_refuses_others() -> None:
    schema = json_schema()

    assert json.loads(json.dumps(schema)) == schema
    assert set(schema["properties"]) == set(AgentFile.model_fields)
    assert {definition["additionalProperties"] for definition in schema["$defs"].values()} == {False}


def test_every_key_has_a_description() -> None:
    definitions = [json_schema(), *json_schema()["$defs"].values()]

    undescribed = [
        f"{definition['title']}.{name}"
        for definition in definitions
        for name, key in definition["properties"].items()
        if "description" not in key and "$ref" not in key
    ]

    assert undescribed == []


def test_a_target_that_names_no_cluster_is_on_all_hundred_of_them(write: Write) -> None:
    clusters = "".join(f"  - {{name: c-{n}, in_cluster: true, labels: {{n: n{n}}}}}\n" for n in range(100))
    path = write(
        "version: 1\nagent: {name: edge}\nsources:\n  - {name: s, url: 'file:///s', ref: {branch: main}}\n"
        f"clusters:\n{clusters}targets:\n" + "  - {name: t, source: s, path: '{labels.n}'}\n"
    )

    configuration = load(path, {})

    assert len(configuration.targets) == 100


def test_whoever_only_asks_the_daemon_need_not_have_its_credentials(write: Write, tmp_path: Path) -> None:
    path = write(
        LEAST.replace("in_cluster: true, labels: {region: eu}", "kubeconfig: {file: '{credentials}/eu-1'}").replace(
            "in_cluster: true, labels: {region: us}", "kubeconfig: {file: not-there}"
        )
    )

    with pytest.raises(ConfigError) as refusal:
        load(path, {})
    assert len(refusal.value.mistakes) == 2
    assert load(path, {}, opened=False).agent.socket == tmp_path / "/run/gitsyncd/agent.sock"


@pytest.mark.parametrize("command", [["status"], ["sync", "web"], ["resume", "web"], ["delete", "web", "--yes"]])
def test_a_command_for_the_daemon_says_that_none_is_there_and_not_that_credentials_are_missing(
    command: list[str], write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = LEAST.replace("in_cluster: true, labels: {region: eu}", "kubeconfig: {file: '{credentials}/eu-1'}")
    path = write(text.replace("{name: edge}", f"{{name: edge, socket: {tmp_path}/agent.sock}}"))

    cli.main([*command, "--config", str(path)])

    said = capsys.readouterr().err
    assert "agent.sock" in said
    assert "{credentials}" not in said
