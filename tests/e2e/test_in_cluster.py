"""`config/kubernetes` on a real cluster: it is accepted, its pods run, and its service account is enough.

Pods are simulated. The daemon runs as a process beside the cluster, with the token of the very service account and the
two variables that a pod would have.
"""

from __future__ import annotations

import contextlib
import http.client
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.e2e.daemon import ROOT, Agent, Daemon, Json, Ran, run, until
from tests.e2e.fleet import find
from tests.gitserver.repository import Repo
from tests.sandbox import ApiError, AuditEvent, Cluster
from tests.sandbox.fixtures import MakeCluster

pytestmark = pytest.mark.real

FOLDER = ROOT / "config" / "kubernetes"
BASE = FOLDER / "base"
EXAMPLE = FOLDER / "example"
ROBOT = "system:serviceaccount:gitsyncd:gitsyncd"
IN_CLUSTER = """\
import pathlib, sys
from gitsyncd.cli import main
from gitsyncd.edges.kube.connect import AccessSource
AccessSource.__init__.__kwdefaults__["service_account"] = pathlib.Path(sys.argv.pop(1))
sys.exit(main())
"""
"""gitsyncd, with the folder in which a pod finds its token somewhere else."""


@pytest.fixture(scope="module")
def installed(make_shared_cluster: MakeCluster) -> Cluster:
    """A cluster on which the configuration was applied as it is."""
    cluster = make_shared_cluster(nodes=1, audit=True)
    cluster.kubectl("apply", "-k", str(FOLDER))
    return cluster


def agent_file() -> Json:
    document: Json = yaml.safe_load((BASE / "gitsyncd.yaml").read_text())
    return document


class Pod:
    """What the container of the pod has, as far as a process can have it."""

    def __init__(self, folder: Path, cluster: Cluster, repo: Repo, *, token: str) -> None:
        self.agent = Agent(folder / "etc")
        self.agent.document = agent_file()
        self.agent.document["agent"] |= {
            "state_dir": str(folder / "state"),
            "socket": str(folder / "agent.sock"),
            "http": {"listen": "0.0.0.0:0"},  # a port of its own: this is no pod with an address of its own
        }
        [source] = self.agent.document["sources"]
        source.update(url=repo.url, interval="1s")
        del source["auth"]  # a local repository
        self.account = folder / "account"
        self.account.mkdir()
        (self.account / "token").write_text(token)
        (self.account / "ca.crt").write_bytes(cluster.ca_file.read_bytes())
        self.variables = {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": str(cluster.port)}

    @property
    def command(self) -> tuple[str, ...]:
        return (sys.executable, "-c", IN_CLUSTER, str(self.account))

    def run(self, *arguments: str) -> Ran:
        file = self.agent.write()
        return run(*arguments, "--config", str(file), env=self.variables, command=self.command)

    def start(self) -> Daemon:
        file = self.agent.write()
        return Daemon((*self.command, "run", "--config", str(file)), self.agent.folder / "err", self.variables)


@pytest.fixture
def pod(installed: Cluster, tmp_path: Path, repo: Repo) -> Iterator[Pod]:
    """Nothing of an earlier one is left: its repository had another history, whose head is recorded as admitted."""
    token = installed.service_account_token("gitsyncd", "gitsyncd")
    yield Pod(tmp_path, installed, repo, token=token)
    installed.kubectl("delete", "configmaps", "-n", "gitsyncd", "-l", "gitsyncd.dev/inventory=here")
    installed.kubectl("delete", "configmaps,services,deployments", "-n", "web", "-l", "gitsyncd.dev/agent=here")


def probes() -> list[Json]:
    """What the kubelet asks the container for."""
    spec = yaml.safe_load((BASE / "deployment.yaml").read_text())["spec"]["template"]["spec"]
    return [spec["containers"][0][name]["httpGet"] for name in ("livenessProbe", "readinessProbe")]


def probed(daemon: Daemon) -> list[int]:
    """The codes of these, asked as the kubelet does: by the address of a pod."""
    port = int(daemon.wait_for("http listening")["address"].rpartition(":")[2])
    codes = []
    for probe in probes():
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            connection.request("GET", probe["path"], headers={"Host": "10.244.0.7:9480", "User-Agent": "kube-probe/1"})
            codes.append(connection.getresponse().status)
    return codes


def refusals(events: list[AuditEvent]) -> set[tuple[str, str]]:
    """Verb and namespace; without the lists of the whole cluster, which are asked for first."""
    return {(event.verb, event.namespace) for event in events if event.code == 403} - {("list", "")}


def commit_example(repo: Repo) -> None:
    files = [file for file in EXAMPLE.rglob("*") if file.is_file()]
    repo.commit({str(file.relative_to(EXAMPLE)): file.read_bytes() for file in files})


def test_the_pod_runs_in_a_namespace_that_admits_nothing_privileged(installed: Cluster) -> None:
    privileged = {
        "metadata": {"name": "privileged"},
        "spec": {"containers": [{"name": "c", "image": "c", "securityContext": {"privileged": True}}]},
    }
    with pytest.raises(ApiError, match='violates PodSecurity "restricted:latest": privileged'):
        installed.request("POST", "/api/v1/namespaces/gitsyncd/pods", privileged)

    deployment = "/apis/apps/v1/namespaces/gitsyncd/deployments/gitsyncd"
    installed.wait_for(
        lambda: installed.request("GET", deployment)["status"].get("availableReplicas") == 1, "the pod to be ready"
    )


def test_the_sidecar_is_admitted_too_and_only_the_agent_has_the_token(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(nodes=1)

    cluster.kubectl("apply", "-k", str(FOLDER / "sidecar"))

    pods = "/api/v1/namespaces/gitsyncd/pods"
    cluster.wait_for(
        lambda: any(pod["status"]["phase"] == "Running" for pod in cluster.request("GET", pods)["items"]), "a pod"
    )
    [pod] = cluster.request("GET", pods)["items"]
    mounts = {c["name"]: {m["name"] for m in c["volumeMounts"]} for c in pod["spec"]["containers"]}
    assert mounts == {"gitsyncd": {"config", "token", "state", "socket", "tmp"}, "console": {"socket"}}


def test_with_the_service_account_of_the_configuration_the_daemon_does_its_work(
    pod: Pod, installed: Cluster, repo: Repo
) -> None:
    commit_example(repo)
    earlier = len(installed.audit(user=ROBOT))

    with pod.start() as daemon:
        daemon.wait_for("target in sync", target="web@here")
        until(lambda: probed(daemon) == [200, 200], "the probes")
        since = daemon.now
        installed.kubectl("delete", "configmap", "settings", "-n", "web")
        daemon.wait_for("drift reverted", since=since, object="ConfigMap/web/settings")
        text = (EXAMPLE / "apps/web/web.yaml").read_text()
        repo.commit({"apps/web/web.yaml": text.partition("---\n")[2].replace("replicas: 2", "replicas: 3")})
        daemon.wait_for("object pruned", since=since, object="ConfigMap/web/settings")

    failures = [*daemon.said("object failed"), *daemon.said("target failed"), *daemon.said("cluster unreachable")]
    assert failures == []
    live = find(installed, "/apis/apps/v1/namespaces/web/deployments/front")
    assert live is not None and live["spec"]["replicas"] == 3
    assert refusals(installed.audit(user=ROBOT)[earlier:]) == set()


def test_a_second_replica_stands_by_ready_and_takes_over_with_the_same_service_account(
    pod: Pod, installed: Cluster, tmp_path: Path, repo: Repo
) -> None:
    commit_example(repo)
    other = Pod(tmp_path / "other", installed, repo, token=(pod.account / "token").read_text())
    earlier = len(installed.audit(user=ROBOT))

    with pod.start() as first:
        first.wait_for("target in sync", target="web@here")
        with other.start() as second:
            second.wait_for("target waiting", target="web@here")
            until(lambda: probed(second) == [200, 200], "the probes of the one that stands by")
            since = second.now
            assert first.stop() == 0
            second.wait_for("target in sync", since=since, target="web@here", within_s=10)
            installed.kubectl("delete", "configmap", "settings", "-n", "web")
            second.wait_for("drift reverted", since=since, object="ConfigMap/web/settings")

    assert refusals(installed.audit(user=ROBOT)[earlier:]) == set()


def test_the_roles_of_the_configuration_are_those_that_are_printed(pod: Pod) -> None:
    until(lambda: pod.run("rbac", "--dir", str(EXAMPLE)).code == 0, "the rights to be in force")

    printed = pod.run("rbac", "--dir", str(EXAMPLE), "--service-account", "gitsyncd/gitsyncd")

    assert printed.stdout == (BASE / "rbac.yaml").read_text()
    assert printed.stderr == f"cluster here, as {ROBOT}\n  the credential has what is needed\n"


def test_the_agent_file_of_the_configuration_is_accepted(tmp_path: Path) -> None:
    agent = Agent(tmp_path / "etc")
    agent.document = agent_file()
    (agent.folder / "git-password").write_text("secret")

    assert agent.run("check").code == 0


def test_what_is_built_holds_to_the_restricted_standard_and_more(installed: Cluster) -> None:
    built = list(yaml.safe_load_all(installed.kubectl("kustomize", str(FOLDER / "sidecar"))))
    [spec] = [item["spec"]["template"]["spec"] for item in built if item["kind"] == "Deployment"]

    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in spec["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]
    [name] = [item["metadata"]["name"] for item in built if item["kind"] == "ConfigMap"]
    assert spec["volumes"][0]["projected"]["sources"][0]["configMap"]["name"] == name
    [port] = [port for container in spec["containers"] for port in container.get("ports", ())]
    assert agent_file()["agent"]["http"]["listen"] == f"0.0.0.0:{port['containerPort']}"
    assert {probe["port"] for probe in probes()} == {port["name"]}
    assert not any("*" in rule.get("verbs", []) for item in built for rule in item.get("rules", ()))
