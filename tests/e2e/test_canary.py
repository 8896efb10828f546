"""Nothing that a Secret holds, and no password of ours, is ever shown: not by what is said, kept, sent or run.

Every secret has a canary of its own. What is looked through: log lines (debug, too), what commands print, the state
that is kept on disk apart from Git's own objects, the inventory, arguments and environment of all processes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.e2e.daemon import Agent, Daemon, Json, _tree
from tests.e2e.hands import JSON_PATCH, Hand, config_map
from tests.gitserver.certificates import Authority
from tests.gitserver.server import GitServer
from tests.sandbox import Cluster

pytestmark = pytest.mark.real

NAMESPACE = "canary"
MARKS = {
    name: f"Canary+{name}/{number * 7919:06x}=="
    for number, name in enumerate(
        (
            "Data", "Text", "Drift", "Added", "Refused", "Immutable", "Changed", "WrongBase64", "BrokenYaml", "NotText",
            "GitPassword", "ClusterToken", "Adopted", "LastApplied", "Duplicate", "Number", "RemoteUrl",
        ),
        start=1,
    )
}  # fmt: skip


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def shapes(mark: str) -> set[str]:
    """A mark as it is, and as it would look where it was passed on in another form."""
    encoded = _b64(mark)
    found = {
        mark,
        encoded,
        encoded.rstrip("="),
        quote(mark, safe=""),
        quote(encoded, safe=""),
        _b64(encoded).rstrip("="),
    }
    found |= {json.dumps(mark)[1:-1], mark.encode().hex()}
    # inside a longer text, base64 begins at any of three places
    for shift in (1, 2):
        found.add(_b64("x" * shift + mark)[4:-4])
    return found


def secret(name: str, **keys: object) -> Json:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, **keys}


def manifests() -> dict[str, str]:
    objects = [
        secret("data", data={"key": _b64(MARKS["Data"])}),
        secret("text", stringData={"key": MARKS["Text"]}),
        secret("adopted", stringData={"key": MARKS["Adopted"]}),
        secret("fixed", immutable=True, stringData={"key": MARKS["Immutable"]}),
        secret("refused", type="kubernetes.io/dockerconfigjson", stringData={".dockerconfigjson": MARKS["Refused"]}),
        config_map("plain"),
    ]
    return {f"app/{item['metadata']['name']}.yaml": json.dumps(item) for item in objects}


BROKEN = {
    "not YAML": f'apiVersion: v1\nkind: Secret\nmetadata: {{name: broken}}\nstringData:\n  key: "{MARKS["BrokenYaml"]}\n',
    "a key twice": "apiVersion: v1\nkind: Secret\nmetadata: {name: twice}\n"
    f"stringData:\n  a: {MARKS['Duplicate']!r}\n  a: {MARKS['Duplicate']!r}\n",
    "a value that is no text": json.dumps(secret("no-text", stringData={"key": {"inner": MARKS["NotText"]}})),
    "wrong base64": json.dumps(secret("wrong", data={"key": f"!{MARKS['WrongBase64']}"})),
    "a number": f"apiVersion: v1\nkind: Secret\nmetadata: {{name: number}}\ndata: {{key: [{json.dumps(MARKS['Number'])}]}}\n",
}


@dataclass(slots=True)
class Ears:
    """Everything that was said and kept, by where it was found."""

    heard: dict[str, str] = field(default_factory=dict)

    def listen(self, where: str, text: str) -> None:
        self.heard[f"{where} #{len(self.heard)}"] = text

    def leaks(self) -> list[str]:
        """Which canary was heard where."""
        return [
            f"{name} in {where}: …{text[max(0, text.index(shape) - 120) : text.index(shape) + 40]}…"
            for where, text in self.heard.items()
            for name, mark in MARKS.items()
            for shape in shapes(mark)
            if shape in text
        ]


def _processes(daemon: Daemon) -> Iterator[tuple[str, str]]:
    for pid in _tree(daemon.pid):
        for name in ("cmdline", "environ"):
            try:
                yield f"{name} of process {pid}", Path(f"/proc/{pid}/{name}").read_bytes().decode(errors="replace")
            except OSError:
                continue


def _files(folder: Path) -> Iterator[tuple[str, str]]:
    """What is kept on disk. Git's own objects hold what the repository holds, and are compressed."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "objects" not in path.parts:
            yield str(path), path.read_bytes().decode(errors="replace")


def test_no_secret_is_shown_anywhere(bare_cluster: Cluster, tmp_path: Path) -> None:
    cluster, ears = bare_cluster, Ears()
    cluster.create_namespace(NAMESPACE)
    agent = Agent(tmp_path / "agent", name="edge-canary")
    agent.document["agent"] |= {"cluster_namespace": "gitsyncd-canary", "log": {"level": "debug", "format": "json"}}
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "git.password").write_text(MARKS["GitPassword"] + "\n")
    (outside / "token").write_text(cluster.admin_token)
    MARKS["ClusterToken"] = cluster.admin_token
    authority = Authority(tmp_path / "ca")
    with GitServer(tmp_path / "git", authority=authority, credentials=("robot", MARKS["GitPassword"])) as server:
        repo = server.create("fleet")
        repo.commit(manifests())
        auth = {"username": "robot", "password_file": str(outside / "git.password")}
        agent.source("fleet", server.url("fleet"), auth=auth, tls={"ca_file": str(authority.ca_file)})
        agent.document["clusters"] = [
            {
                "name": "here",
                "server": cluster.server,
                "ca_file": str(cluster.ca_file),
                "token_file": str(outside / "token"),
            }
        ]
        agent.target("app", path="app", namespace=NAMESPACE, wait={"enabled": False})
        adopted = Hand(cluster, "Secret", NAMESPACE, "adopted")
        cluster.kubectl(
            "apply",
            "-n",
            NAMESPACE,
            "-f",
            "-",
            input=json.dumps(secret("adopted", stringData={"key": MARKS["LastApplied"]})),
        )

        with agent.start() as daemon:
            daemon.wait_for("object failed", object=f"Secret/{NAMESPACE}/refused")
            daemon.wait_for("object applied", object=f"Secret/{NAMESPACE}/adopted")
            _look(ears, agent, daemon)

            since = daemon.now
            Hand(cluster, "Secret", NAMESPACE, "data").patch({"data": {"key": _b64(MARKS["Drift"])}}, "kubectl-edit")
            Hand(cluster, "Secret", NAMESPACE, "text").patch({"stringData": {"more": MARKS["Added"]}}, "kubectl-edit")
            adopted.patch([{"op": "remove", "path": "/data/key"}], "kubectl-edit", kind=JSON_PATCH)
            for name in ("data", "text", "adopted"):
                daemon.wait_for("drift reverted", since=since, object=f"Secret/{NAMESPACE}/{name}")

            changed = [
                secret("fixed", immutable=True, stringData={"key": MARKS["Changed"]}),
                secret("data", data={"key": _b64(MARKS["Changed"])}),
            ]
            since = daemon.now
            folder = agent.folder / "local"
            (folder / "app").mkdir(parents=True)
            for item in changed:
                (folder / "app" / f"{item['metadata']['name']}.yaml").write_text(json.dumps(item))
            _ask(ears, agent, "diff", "--dir", str(folder))
            repo.commit({f"app/{item['metadata']['name']}.yaml": json.dumps(item) for item in changed})
            daemon.wait_for("object failed", since=since, object=f"Secret/{NAMESPACE}/fixed")
            _look(ears, agent, daemon)

            for name, content in BROKEN.items():
                since = daemon.now
                repo.commit({"app/broken.yaml": content})
                daemon.wait_for(
                    "target failed", since=since, revision=lambda text: str(text).endswith(str(repo.head()))
                )
                ran = agent.run("status", "app")
                ears.listen(f"status of {name}", ran.stdout + ran.stderr)
            _look(ears, agent, daemon)

            since = daemon.now
            (outside / "git.password").write_text("another")
            daemon.wait_for("source unreachable", since=since)
            ears.listen("standard error", daemon.stderr)
            ears.listen("the log", "\n".join(json.dumps(line, ensure_ascii=False) for line in daemon.lines))

        ran = agent.run("run", "--once", env={"GITSYNCD_LOG": "debug"})
        ears.listen("run --once", ran.stdout + ran.stderr)
    for path in cluster.request("GET", "/api/v1/namespaces/gitsyncd-canary/configmaps")["items"]:
        ears.listen("an inventory", json.dumps(path))
    for where, text in _files(agent.folder):
        if "/local/" not in where:
            ears.listen(where, text)

    assert any(line["level"] == "debug" for line in daemon.lines), "the log says what it says at debug, too"
    assert ears.leaks() == []


def _look(ears: Ears, agent: Agent, daemon: Daemon) -> None:
    for command in ("diff", "status"):
        _ask(ears, agent, command)
    for where, text in _processes(daemon):
        ears.listen(where, text)


def _ask(ears: Ears, agent: Agent, *arguments: str) -> None:
    for output in ("text", "json"):
        ran = agent.run(*arguments, "--output", output)
        ears.listen(f"{' '.join(arguments[:1])} as {output}", ran.stdout + ran.stderr)


def test_a_canary_that_sings_is_heard() -> None:
    """What looks for leaks finds them in each of the forms that it knows."""
    mark = MARKS["Data"]
    for said in (mark, _b64(mark), quote(mark, safe=""), _b64("user:" + mark), json.dumps({"a": mark})):
        ears = Ears()
        ears.listen("a line", f"said {said} here")
        assert any(leak.startswith("Data in a line") for leak in ears.leaks()), said
