"""The sandbox keeps the promises that other tests lean on: it is real, it is alone, and it leaves nothing behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox import KUBERNETES, ApiError, Cluster, KubectlFailed, Sandbox, binaries
from tests.sandbox.fixtures import MakeCluster
from tests.sandbox.processes import start_of

pytestmark = [pytest.mark.real, pytest.mark.slow]

ROOT = Path(__file__).parents[2]


def sandbox_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.sandbox", *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=100,
    )


def wait_until_gone(pids: list[int], timeout_seconds: float = 10) -> None:
    deadline = time.monotonic() + timeout_seconds
    while any(start_of(pid) for pid in pids):
        assert time.monotonic() < deadline, f"still running: {[pid for pid in pids if start_of(pid)]}"
        time.sleep(0.02)


# --- A real cluster ---------------------------------------------------------------------------------------------------


def test_it_is_the_version_that_is_promised(bare_cluster: Cluster) -> None:
    assert bare_cluster.request("GET", "/version")["gitVersion"] == KUBERNETES


def test_a_deployment_of_three_becomes_ready_on_simulated_nodes(full_cluster: Cluster, namespace: str) -> None:
    full_cluster.create_namespace(namespace)

    full_cluster.kubectl("-n", namespace, "create", "deployment", "web", "--image=example.com/web:1", "--replicas=3")
    full_cluster.kubectl("-n", namespace, "rollout", "status", "deployment/web", "--timeout=30s")

    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/web"
    assert full_cluster.request("GET", path)["status"]["readyReplicas"] == 3


def test_a_container_with_a_broken_image_never_becomes_ready(full_cluster: Cluster, namespace: str) -> None:
    full_cluster.create_namespace(namespace)
    full_cluster.kubectl("-n", namespace, "run", "web", "--image=example.com/web:broken")

    def waiting_reason() -> str:
        pod = full_cluster.request("GET", f"/api/v1/namespaces/{namespace}/pods/web")
        statuses = pod["status"].get("containerStatuses") or [{}]
        return str(statuses[0].get("state", {}).get("waiting", {}).get("reason", ""))

    full_cluster.wait_for(lambda: waiting_reason() == "ImagePullBackOff", "the pod to be refused its image")


def test_a_job_completes(full_cluster: Cluster, namespace: str) -> None:
    full_cluster.create_namespace(namespace)
    full_cluster.kubectl("-n", namespace, "create", "job", "once", "--image=example.com/once:1")
    full_cluster.kubectl("-n", namespace, "wait", "--for=condition=complete", "job/once", "--timeout=30s")


def test_a_bare_cluster_takes_pods_without_a_service_account(bare_cluster: Cluster, namespace: str) -> None:
    bare_cluster.create_namespace(namespace)
    bare_cluster.kubectl("-n", namespace, "run", "web", "--image=example.com/web:1")
    assert bare_cluster.request("GET", f"/api/v1/namespaces/{namespace}/pods/web")["spec"].get("nodeName") is None


def test_chosen_controllers_are_enough_to_empty_a_namespace(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(controllers=("namespace-controller",))
    cluster.create_namespace("shop")
    cluster.request("POST", "/api/v1/namespaces/shop/configmaps", {"metadata": {"name": "prices"}})

    cluster.kubectl("delete", "namespace", "shop", "--timeout=30s")

    with pytest.raises(ApiError) as caught:
        cluster.request("GET", "/api/v1/namespaces/shop")
    assert caught.value.status == 404


# --- Users ------------------------------------------------------------------------------------------------------------


def test_a_plain_user_can_do_only_what_is_granted(bare_cluster: Cluster, namespace: str) -> None:
    bare_cluster.create_namespace(namespace)
    with pytest.raises(KubectlFailed, match="forbidden"):
        bare_cluster.kubectl("-n", namespace, "get", "configmaps", user="alice")

    bare_cluster.grant("alice", "view", namespace=namespace)

    bare_cluster.wait_for(
        lambda: bool(
            bare_cluster.request(
                "GET", f"/api/v1/namespaces/{namespace}/configmaps", token=bare_cluster.tokens["alice"]
            )
        ),
        "the grant to be in force",
    )
    with pytest.raises(KubectlFailed, match="forbidden"):
        bare_cluster.kubectl("-n", namespace, "create", "configmap", "prices", user="alice")


def test_tokens_of_a_service_account_can_be_revoked(bare_cluster: Cluster, namespace: str) -> None:
    bare_cluster.create_namespace(namespace)
    old = bare_cluster.service_account_token(namespace, "robot")
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    who = bare_cluster.request("POST", path, {}, token=old)["status"]["userInfo"]["username"]
    assert who == f"system:serviceaccount:{namespace}:robot"

    bare_cluster.revoke_service_account_tokens(namespace, "robot")

    def refused() -> bool:
        try:
            bare_cluster.request("POST", path, {}, token=old)
        except ApiError as error:
            return error.status == 401
        return False

    bare_cluster.wait_for(refused, "the old token to be refused")
    new = bare_cluster.service_account_token(namespace, "robot")
    assert bare_cluster.request("POST", path, {}, token=new)["status"]["userInfo"]["username"] == who


def test_the_persons_own_kubeconfig_is_not_used(
    bare_cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "config"
    mine.write_text("this is no kubeconfig: [")
    monkeypatch.setenv("KUBECONFIG", str(mine))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")

    assert bare_cluster.kubectl("config", "current-context").strip() == "sandbox-bare"
    assert "kube-system" in bare_cluster.kubectl("get", "namespaces")


# --- Seeing and hurting it --------------------------------------------------------------------------------------------


def test_requests_are_counted_by_user_agent(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(audit=True)
    cluster.kubectl("create", "configmap", "prices", "--from-literal=tea=3")

    created = [e for e in cluster.audit(user_agent="kubectl/") if e.verb == "create"]

    assert [(e.user, e.resource, e.name, e.code) for e in created] == [("admin", "configmaps", "prices", 201)]


def test_the_api_server_comes_back_at_the_same_address_with_its_data(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    server = cluster.server
    cluster.kubectl("create", "configmap", "prices")
    token = cluster.service_account_token("default", "robot")

    cluster.stop_apiserver()
    with pytest.raises(OSError):
        cluster.request("GET", "/readyz")
    cluster.start_apiserver()

    assert cluster.server == server
    assert cluster.request("GET", "/api/v1/namespaces/default/configmaps/prices")["metadata"]["name"] == "prices"
    assert cluster.request("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", {}, token=token)


def test_a_paused_api_server_answers_nothing_until_it_is_resumed(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()

    cluster.pause()
    with pytest.raises(TimeoutError):
        cluster.request("GET", "/readyz", timeout_seconds=0.5)
    cluster.resume()

    assert cluster.request("GET", "/readyz") == "ok"


# --- Nothing is left behind -------------------------------------------------------------------------------------------


def test_two_clusters_at_once_do_not_see_each_other() -> None:
    with Sandbox(clusters=2) as box:
        one, two = box.clusters
        one.create_namespace("shop")

        with pytest.raises(ApiError):
            two.request("GET", "/api/v1/namespaces/shop")
        with pytest.raises(ApiError) as caught:
            two.request("GET", "/api/v1/namespaces", token=one.admin_token)
        assert caught.value.status == 401

        pids = [*one.pids.values(), *two.pids.values()]
        assert len(pids) == 4
    wait_until_gone(pids)
    assert not box.directory.exists()


def test_everything_ends_when_the_parent_is_killed_even_what_is_paused(tmp_path: Path) -> None:
    script = (
        "import json, pathlib, sys, time\n"
        "from tests.sandbox import Sandbox\n"
        "with Sandbox(nodes=1, directory=pathlib.Path(sys.argv[1])) as box:\n"
        "    box.clusters[0].pause()\n"
        "    print(json.dumps(box.clusters[0].pids), flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pids = json.loads(parent.stdout.readline())
        assert set(pids) == {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok"}
        parent.send_signal(signal.SIGKILL)
        parent.wait(10)

    wait_until_gone(list(pids.values()))


def test_a_port_that_is_taken_is_not_used(make_cluster: MakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_cluster()
    offers = iter([[first.port, *_free(2)], _free(3)])
    monkeypatch.setattr("tests.sandbox.cluster.free_ports", lambda _count: next(offers))

    second = make_cluster()

    assert second.port != first.port
    assert second.request("GET", "/readyz") == first.request("GET", "/readyz") == "ok"


def _free(count: int) -> list[int]:
    from tests.sandbox.processes import free_ports

    return free_ports(count)


# --- The commands -----------------------------------------------------------------------------------------------------


@pytest.fixture
def up_directory(tmp_path: Path) -> Iterator[Path]:
    """Whatever a test starts in there is ended, even if it fails."""
    directory = tmp_path / "box"
    yield directory
    sandbox_command("down", "--dir", str(directory))


def test_up_starts_clusters_that_outlive_it_and_down_ends_them(up_directory: Path) -> None:
    up = sandbox_command("up", "--dir", str(up_directory), "--clusters", "2", "--nodes", "1")

    assert up.returncode == 0, up.stderr
    for name in ("c1", "c2"):
        kubectl = [str(binaries.program("kubectl")), "get", "nodes", "-o", "name"]
        kubeconfig = {"KUBECONFIG": str(up_directory / name / "admin.kubeconfig"), "HOME": str(up_directory.parent)}
        assert subprocess.run(kubectl, env=kubeconfig, capture_output=True, text=True).stdout == "node/node-1\n"
    pids = [int(path.read_text().split()[0]) for path in up_directory.glob("*/pids/*.pid")]
    assert len(pids) == 10

    down = sandbox_command("down", "--dir", str(up_directory))

    assert down.returncode == 0, down.stderr
    wait_until_gone(pids, timeout_seconds=1)
    assert list(up_directory.iterdir()) == []


def test_up_twice_is_no_mistake_and_another_number_is_refused(up_directory: Path) -> None:
    first = sandbox_command("up", "--dir", str(up_directory), "--nodes", "0")
    kubeconfig = (up_directory / "c1" / "admin.kubeconfig").read_text()

    again = sandbox_command("up", "--dir", str(up_directory), "--nodes", "0")
    more = sandbox_command("up", "--dir", str(up_directory), "--clusters", "2", "--nodes", "0")

    assert (first.returncode, again.returncode, more.returncode) == (0, 0, 1)
    assert "already up" in again.stdout
    assert f"down --dir {up_directory}" in more.stderr
    assert (up_directory / "c1" / "admin.kubeconfig").read_text() == kubeconfig


def test_down_ends_only_what_up_started(tmp_path: Path) -> None:
    pids = tmp_path / "c1" / "pids"
    pids.mkdir(parents=True)
    keep = tmp_path / "c1" / "notes.txt"
    keep.write_text("mine")
    with subprocess.Popen(["sleep", "60"]) as bystander:
        # As after a reboot: the number is in use again, by somebody else.
        (pids / "etcd.pid").write_text(f"{bystander.pid} 12345@some-boot\n")

        down = sandbox_command("down", "--dir", str(tmp_path))

        assert down.returncode == 0, down.stderr
        assert bystander.poll() is None
        bystander.kill()
    assert keep.read_text() == "mine"


# --- Building ---------------------------------------------------------------------------------------------------------

FAKE_GO = """\
#!/bin/sh
case "$1" in
env) echo "${FAKE_GO_VERSION:-go1.99.0}" ;;
build)
    echo once >> "$FAKE_GO_CALLS"
    [ -z "$FAKE_GO_FAILS" ] || { echo "go: module lookup: no route to host"; exit 1; }
    sleep 0.5
    while [ "$1" != -o ]; do shift; done
    echo built > "$2"
esac
"""


@pytest.fixture
def fake_go(tmp_path: Path) -> dict[str, str]:
    """An environment in which `go` only pretends, with an empty cache."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "go").write_text(FAKE_GO)
    (folder / "go").chmod(0o755)
    return {
        "PATH": f"{folder}:/usr/bin:/bin",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "FAKE_GO_CALLS": str(tmp_path / "calls"),
        "KUBEBUILDER_ASSETS": "",
    }


def test_what_is_built_is_found_at_once_the_next_time() -> None:
    binaries.build_all()
    begun = time.monotonic()

    again = sandbox_command("build")

    assert again.returncode == 0, again.stderr
    assert again.stderr == ""
    assert (Path(again.stdout.strip()) / "kubectl").exists()
    assert time.monotonic() - begun < 2


def test_two_processes_build_once(fake_go: dict[str, str]) -> None:
    command = [sys.executable, "-m", "tests.sandbox", "build"]
    builds = [
        subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **fake_go}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]
    outputs = [build.communicate(timeout=60) for build in builds]

    assert [build.returncode for build in builds] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    calls = Path(fake_go["FAKE_GO_CALLS"]).read_text().split()
    assert len(calls) == len(binaries.SANDBOX)


def test_a_failed_build_says_what_failed_and_what_to_do(fake_go: dict[str, str]) -> None:
    failed = sandbox_command("build", **fake_go, FAKE_GO_FAILS="yes")

    assert failed.returncode == 1
    assert "no route to host" in failed.stderr
    assert "KUBEBUILDER_ASSETS" in failed.stderr
    assert "Traceback" not in failed.stderr
    # Nothing half-built is taken for built.
    assert sandbox_command("build", **fake_go).returncode == 0


def test_programs_of_ones_own_are_taken_at_their_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = tmp_path / "kube-apiserver"
    shutil.copy("/bin/true", mine)
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))

    assert binaries.program("kube-apiserver") == mine
    assert binaries.program("etcd").parent != tmp_path
