"""Credentials of clusters under a running daemon: replaced without a restart, and a plugin that gives none says why."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.e2e.daemon import Agent, Daemon, Json, until
from tests.e2e.hands import Hand, config_map, files
from tests.gitserver.repository import Repo
from tests.sandbox import ApiError, Cluster

pytestmark = pytest.mark.real

SECRET = "hunter2-never-to-be-seen"
V1 = "client.authentication.k8s.io/v1"


def kubeconfig(cluster: Cluster, user: Json) -> str:
    reached = {"server": cluster.server, "certificate-authority": str(cluster.ca_file)}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": reached}],
            "users": [{"name": "u", "user": user}],
        }
    )


def runs(program: Path) -> Json:
    """The user of a kubeconfig who logs in by this program."""
    args = [f"--client-secret={SECRET}"]
    env = [{"name": "CLIENT_SECRET", "value": SECRET}]
    section = {"apiVersion": V1, "command": str(program), "args": args, "env": env, "interactiveMode": "Never"}
    return {"exec": section}


def plugin(file: Path, work: str) -> Path:
    """A program in the place of the one that was there, as a package manager does it."""
    fresh = file.with_suffix(".new")
    fresh.write_text(f"#!/bin/sh\n{work}\n")
    fresh.chmod(0o755)
    return fresh.rename(file)


def gives(token: str, *, lasts: timedelta = timedelta(hours=1)) -> str:
    expires = (datetime.now(UTC) + lasts).isoformat()
    status = {"token": token, "expirationTimestamp": expires}
    return f"echo '{json.dumps({'apiVersion': V1, 'kind': 'ExecCredential', 'status': status})}'"


# --- replaced ------------------------------------------------------------------------------------------------------------


def by_token_file(agent: Agent, cluster: Cluster) -> Callable[[str], object]:
    file = agent.folder / "token"
    agent.cluster("here", server=cluster.server, ca_file=str(cluster.ca_file), token_file=str(file))
    return file.write_text


def by_kubeconfig(agent: Agent, cluster: Cluster) -> Callable[[str], object]:
    file = agent.folder / "kubeconfig"
    agent.cluster("here", file)
    return lambda token: file.write_text(kubeconfig(cluster, {"token": token}))


def by_plugin(agent: Agent, cluster: Cluster) -> Callable[[str], object]:
    """Each of its tokens is to be renewed after seconds."""
    program, file = agent.folder / "login", agent.folder / "kubeconfig"
    agent.document["agent"]["exec_plugins"] = [str(program)]
    agent.cluster("here", file)
    file.write_text(kubeconfig(cluster, runs(program)))
    return lambda token: plugin(program, gives(token, lasts=timedelta(seconds=8)))


@pytest.mark.parametrize("by", [by_token_file, by_kubeconfig, by_plugin])
def test_a_daemon_goes_on_with_a_replaced_credential(
    bare_cluster: Cluster,
    agent: Agent,
    repo: Repo,
    namespace: str,
    by: Callable[[Agent, Cluster], Callable[[str], object]],
) -> None:
    def token(account: str) -> str:
        return bare_cluster.service_account_token(namespace, account)

    bare_cluster.create_namespace(namespace)
    for account in ("first", "second"):
        bare_cluster.grant(f"{namespace}:{account}")
    agent.document["agent"] |= {"name": namespace, "cluster_namespace": f"{namespace}-agent"}
    agent.source("fleet", repo.url)
    agent.target("web", path=".", namespace=namespace, wait={"enabled": False})
    repo.commit(files([config_map("web")]))
    replace = by(agent, bare_cluster)
    replace(first := token("first"))
    with agent.start() as daemon:
        daemon.wait_for("target in sync", target="web@here")

        replace(second := token("second"))
        bare_cluster.revoke_service_account_tokens(namespace, "first")
        until(lambda: is_refused(bare_cluster, first), "the first token refused")
        since = daemon.now
        Hand(bare_cluster, "ConfigMap", namespace, "web").patch({"data": {"value": "hand"}}, manager="kubectl-edit")
        daemon.wait_for("drift reverted", since=since)
        repo.commit(files([config_map("later")]))
        until(lambda: Hand(bare_cluster, "ConfigMap", namespace, "later").find(), "the next commit applied")

    assert daemon.said("cluster unreachable") == []
    assert not any(secret in said(daemon) for secret in (first, second, SECRET))


def is_refused(cluster: Cluster, token: str) -> bool:
    """The API server goes on for 10 s with a token that it has accepted."""
    try:
        cluster.request("GET", "/version", token=token)
    except ApiError as error:
        return error.status == 401
    return False


def said(daemon: Daemon) -> str:
    """Everything."""
    return json.dumps(daemon.lines) + daemon.stderr


# --- plugins that give nothing -------------------------------------------------------------------------------------------

BROKEN = {
    "fails": (f"echo {SECRET}; echo {SECRET} >&2; exit 3", "failed: exit code 3"),
    "hangs": (f"echo {SECRET}; exec sleep 300", "failed: timed out"),
    "rubbish": (f"echo 'token: {SECRET}'", "printed no JSON"),
    "empty": (
        f"""echo '{{"apiVersion": "{V1}", "kind": "ExecCredential", "status": {{"password": "{SECRET}"}}}}'""",
        "printed neither a token nor a client certificate",
    ),
    "expired": (gives(SECRET, lasts=timedelta(seconds=-1)), "printed a credential that has expired already"),
}
NOT_LISTED = "not-listed"


def test_a_plugin_that_gives_no_credential_is_named_with_a_fix_and_quoted_nowhere_and_mended_without_a_restart(
    bare_cluster: Cluster, agent: Agent, repo: Repo, namespace: str
) -> None:
    bare_cluster.create_namespace(namespace)
    agent.document["agent"] |= {"name": namespace, "cluster_namespace": f"{namespace}-agent"}
    programs = {name: plugin(agent.folder / name, work) for name, (work, _) in BROKEN.items()}
    trace = agent.folder / "trace"
    programs[NOT_LISTED] = plugin(agent.folder / NOT_LISTED, f"touch {trace}; {gives(bare_cluster.admin_token)}")
    agent.document["agent"]["exec_plugins"] = [str(programs[name]) for name in BROKEN]
    for name, program in programs.items():
        file = agent.folder / f"{name}.kubeconfig"
        file.write_text(kubeconfig(bare_cluster, runs(program)))
        agent.cluster(name, file)
    agent.source("fleet", repo.url)
    agent.target("web", path=".", namespace=namespace, wait={"enabled": False})
    repo.commit(files([config_map("web")]))
    with agent.start() as daemon:
        lines = {name: daemon.wait_for("cluster unreachable", cluster=name, within_s=60) for name in programs}
        status = agent.run("status", "--all")

        plugin(programs["rubbish"], gives(bare_cluster.admin_token))
        daemon.wait_for("target in sync", target="web@rubbish", within_s=60)

    for name, (_, why) in BROKEN.items():
        assert lines[name]["error"].endswith(f"the credential plugin {programs[name]} {why}")
        assert lines[name]["hint"]
    assert "`agent.exec_plugins` does not list" in lines[NOT_LISTED]["error"]
    assert "absolute name" in lines[NOT_LISTED]["hint"]
    assert not trace.exists()
    assert all(why in status.stdout for _, why in BROKEN.values())
    assert SECRET not in said(daemon) + status.stdout + status.stderr
    assert SECRET not in "".join(
        file.read_text(errors="replace") for file in agent.state_dir.rglob("*") if file.is_file()
    )


def test_a_program_is_run_from_when_it_is_listed_until_it_is_struck_off_without_a_restart(
    bare_cluster: Cluster, agent: Agent, repo: Repo, namespace: str
) -> None:
    bare_cluster.create_namespace(namespace)
    agent.document["agent"] |= {"name": namespace, "cluster_namespace": f"{namespace}-agent"}
    program, file = plugin(agent.folder / "login", gives(bare_cluster.admin_token)), agent.folder / "kubeconfig"
    file.write_text(kubeconfig(bare_cluster, runs(program)))
    agent.cluster("here", file)
    agent.source("fleet", repo.url)
    agent.target("web", path=".", namespace=namespace, wait={"enabled": False})
    repo.commit(files([config_map("web")]))
    with agent.start() as daemon:
        daemon.wait_for("cluster unreachable")

        agent.document["agent"]["exec_plugins"] = [str(program)]
        agent.write()
        daemon.wait_for("target in sync")

        since = daemon.now
        agent.document["agent"]["exec_plugins"] = []
        agent.write()
        refused = daemon.wait_for("cluster unreachable", since=since)

    assert "`agent.exec_plugins` does not list" in refused["error"]
    assert refused["remedy"] == "fix-config"
