"""One Kubernetes cluster: etcd and kube-apiserver, and on demand controllers, a scheduler and simulated nodes.

The members of `Cluster` are what a test needs to talk to it and to hurt it. Everything of it, keys and data
included, is in one folder; it listens on loopback only and reads no kubeconfig but its own.
"""

import base64
import contextlib
import http.client
import json
import os
import secrets
import shutil
import signal
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from tests.sandbox import binaries
from tests.sandbox.processes import Process, ProcessEnded, end, free_ports, read_pid_files, spawn, tail

STAGES = Path(__file__).parent / "stages" / "kwok.yaml"

PLAIN_USERS = ("alice", "bob", "carol")
"""Users who may authenticate and nothing else: what they can do is what a test binds to them."""

_SYSTEM_USERS = {
    # The API server itself gives these two their roles.
    "system:kube-controller-manager": "",
    "system:kube-scheduler": "",
    "kwok": "system:masters",
}
_START_ATTEMPTS = 5
# Far above the usual 4 s: several clusters may be starting on a small, busy machine.
_READY_SECONDS = 90


class ApiError(Exception):
    """The API server answered with an error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class KubectlFailed(Exception):
    """kubectl ended with an error; the message is what it said."""


class NotReady(Exception):
    """Something did not become ready in time. The message has the ends of the logs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """What a cluster consists of."""

    nodes: int = 0
    """Simulated nodes, which need controllers and bring a scheduler: pods become ready, and Jobs complete, at once."""
    controllers: bool | tuple[str, ...] | None = None
    """The controller manager: none, all, or those named (as its --controllers has them, for example
    "namespace-controller", "garbage-collector-controller"); None means with nodes only. Without it nothing empties a
    namespace that is being deleted, collects dependants or runs Deployments."""
    audit: bool = False
    """Record every request, see `Cluster.audit`."""
    fsync: bool = False
    """Whether etcd makes writes durable. Tests do not need it; measurements should have it."""
    apiserver_flags: tuple[str, ...] = ()
    """More flags for kube-apiserver, for example "--max-mutating-requests-inflight=20"."""

    def __post_init__(self) -> None:
        if self.nodes < 0:
            raise ValueError(f"nodes is {self.nodes}: not below 0")
        if self.nodes and self.controllers is False:
            raise ValueError("simulated nodes need controllers: without them the nodes stay tainted as not ready")

    @property
    def controller_names(self) -> tuple[str, ...]:
        """For --controllers; empty for no controller manager."""
        if isinstance(self.controllers, tuple):
            return self.controllers
        return ("*",) if (self.nodes > 0 if self.controllers is None else self.controllers) else ()

    @property
    def gives_service_accounts(self) -> bool:
        """Whether a new namespace gets its default service account, without which pods are refused in it."""
        return bool({"*", "serviceaccount-controller"} & set(self.controller_names))


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One request as the API server saw it."""

    id: str
    user: str
    user_agent: str
    verb: str
    """Kubernetes' own: get, list, watch, create, update, patch, delete, deletecollection."""
    uri: str
    group: str
    resource: str
    """Empty for what is no resource: discovery, /readyz."""
    subresource: str
    namespace: str
    name: str
    code: int
    received: str
    """When the server had read the request, RFC 3339 with microseconds."""
    answered: str
    """When this record of it was made: at its end, for all but running watches."""
    body: Any
    """What was sent, decoded; None but for Leases."""

    @property
    def is_write(self) -> bool:
        """Whether it changes something, or would have: no dry run, and no review of rights."""
        changing = self.verb in {"create", "update", "patch", "delete", "deletecollection"}
        return changing and "dryRun=All" not in self.uri and not self.group.startswith("auth")

    @property
    def is_lease(self) -> bool:
        """Whether it is about a Lease of an agent: a daemon renews one whatever happens."""
        return self.resource == "leases" and (self.name.startswith("gitsyncd.") or self.verb == "create")


class Cluster:
    """A control plane on this machine. Use `Sandbox`, or `with Cluster(...) as cluster`, so that it is ended too.

    Not for use by several threads at once.
    """

    def __init__(
        self, directory: Path, *, name: str = "c1", options: ClusterOptions | None = None, tethered: bool = True
    ) -> None:
        """A cluster in that folder, which will hold keys and should be empty; nothing is started yet.

        A tethered cluster dies with this Python process, whatever ends it.
        """
        self.name = name
        self.context = f"sandbox-{name}"
        """The name of the one context in each kubeconfig."""
        self.directory = directory.absolute()
        self.options = options or ClusterOptions()
        self.tethered = tethered
        self.tokens: Mapping[str, str] = {
            user: secrets.token_hex(16) for user in ("admin", *PLAIN_USERS, *_SYSTEM_USERS)
        }
        """Bearer tokens of the static users: admin, `PLAIN_USERS`, and the components. The API server reads them when
        it starts; a token that must stop being valid is better a service account's (`service_account_token`)."""
        self.port = 0
        self.etcd_port = 0
        self._peer_port = 0
        self._processes: dict[str, Process] = {}
        self._admin = self.directory / "admin.kubeconfig"
        self._tls: ssl.SSLContext | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # --- What a client needs ------------------------------------------------------------------------------------

    @property
    def kubeconfig(self) -> Path:
        """Of the administrator."""
        return self._admin

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca_file(self) -> Path:
        return self._pki / "ca.crt"

    @property
    def admin_certificate(self) -> tuple[Path, Path]:
        """Certificate and key of another administrator (admin-by-certificate), for clients that use no token."""
        return self._pki / "admin.crt", self._pki / "admin.key"

    @property
    def admin_token(self) -> str:
        return self.tokens["admin"]

    @property
    def audit_log(self) -> Path:
        """One JSON object per line, if `ClusterOptions.audit` is set."""
        return self.directory / "audit.log"

    @property
    def logs(self) -> Path:
        """The folder with one log per program, for example `kube-apiserver.log`."""
        return self.directory / "logs"

    def log(self, program: str) -> str:
        return (self.logs / f"{program}.log").read_text(errors="replace")

    def kubeconfig_for(self, user: str, token: str | None = None) -> Path:
        """A kubeconfig for a static user, or for anyone whose token is given. The file is named after the user."""
        path = self.directory / f"{user.replace(':', '-').replace('/', '-')}.kubeconfig"
        _write_private(path, self._kubeconfig_text(user, token or self.tokens[user]))
        return path

    # --- Talking to it ------------------------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = None,
        content_type: str = "application/json",
        timeout_seconds: float = 30,
    ) -> Any:
        """One request, by the administrator unless a token is given. JSON is decoded, other answers are text.

        Raises ApiError for an error status and OSError when the API server cannot be reached.
        """
        if self._tls is None:
            self._tls = ssl.create_default_context(cafile=str(self.ca_file))
        headers = {
            "Authorization": f"Bearer {token or self.admin_token}",
            "Content-Type": content_type,
            "User-Agent": "sandbox",
        }
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self._tls, timeout=timeout_seconds)
        try:
            connection.request(method, path, None if body is None else json.dumps(body).encode(), headers)
            response = connection.getresponse()
            text = response.read().decode()
        except http.client.HTTPException as error:
            raise ConnectionError(f"no proper answer from {self.server}: {error!r}") from error
        finally:
            connection.close()
        decoded = json.loads(text) if "json" in response.headers.get("Content-Type", "") else text
        if response.status >= 400:
            message = decoded.get("message", text) if isinstance(decoded, dict) else text
            raise ApiError(response.status, message)
        return decoded

    def kubectl(self, *arguments: str, input: str | None = None, user: str = "admin", check: bool = True) -> str:  # noqa: A002 - as subprocess calls it
        """Run kubectl of the cluster's own version and return what it printed on standard output.

        Raises KubectlFailed if it ends with an error, unless `check` is off.
        """
        kubeconfig = self.kubeconfig if user == "admin" else self.kubeconfig_for(user)
        command = [str(binaries.program("kubectl")), f"--kubeconfig={kubeconfig}", *arguments]
        # HOME is the cluster's folder, so no configuration, plug-in or cache of the person's is used.
        result = subprocess.run(command, input=input, capture_output=True, text=True, env=self._env(), check=False)
        if check and result.returncode != 0:
            raise KubectlFailed(f"kubectl {' '.join(arguments)}: {result.stderr.strip() or result.stdout.strip()}")
        return result.stdout

    def create_namespace(self, name: str) -> None:
        """Create a namespace; with controllers, wait until pods can be made in it."""
        self.request("POST", "/api/v1/namespaces", {"metadata": {"name": name}})
        if self.options.gives_service_accounts:
            self.wait_for(
                lambda: self._exists(f"/api/v1/namespaces/{name}/serviceaccounts/default"),
                f"the default service account of namespace {name}",
            )

    def service_account_token(
        self, namespace: str, name: str, *, expiration_seconds: int = 3600, audiences: Sequence[str] = ()
    ) -> str:
        """A token of a service account, which is created if it does not exist.

        The API server allows nothing shorter than 600 seconds. For a token that stops being valid earlier see
        `revoke_service_account_tokens`.
        """
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        with _ignoring(409):
            self.request("POST", path, {"metadata": {"name": name}})
        spec: dict[str, object] = {"expirationSeconds": expiration_seconds}
        if audiences:
            spec["audiences"] = list(audiences)
        answer = self.request("POST", f"{path}/{name}/token", {"spec": spec})
        return str(answer["status"]["token"])

    def revoke_service_account_tokens(self, namespace: str, name: str) -> None:
        """Make every token of the account invalid: it is replaced by one of the same name, with another uid.

        RBAC bindings go by name and keep working for new tokens. The API server remembers a token that it has accepted
        for 10 seconds, so tests have to wait for the 401, not assume it.
        """
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts"
        self.request("DELETE", f"{path}/{name}")
        with _ignoring(409):
            self.request("POST", path, {"metadata": {"name": name}})

    def grant(self, user: str, cluster_role: str = "cluster-admin", *, namespace: str | None = None) -> None:
        """Bind a cluster role to a user (`alice`) or service account (`NAMESPACE:NAME`), everywhere or in a namespace."""
        if not self.options.controller_names:
            self._aggregate(cluster_role)
        subject: dict[str, str] = {"kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": user}
        if ":" in user:
            of, _, account = user.partition(":")
            subject = {"kind": "ServiceAccount", "namespace": of, "name": account}
        kind, where = ("RoleBinding", f"namespaces/{namespace}/") if namespace else ("ClusterRoleBinding", "")
        body = {
            "metadata": {"name": f"sandbox:{user}:{cluster_role}"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster_role},
            "subjects": [subject],
        }
        with _ignoring(409):
            self.request("POST", f"/apis/rbac.authorization.k8s.io/v1/{where}{kind.lower()}s", body)

    def audit(self, *, user_agent: str = "", user: str = "") -> list[AuditEvent]:
        """The requests so far in order of their first record, one event each; a running watch counts.

        `user_agent` and `user` select by the beginning of the word. To count what one action costs, take the length
        before and after.
        """
        events: dict[str, AuditEvent] = {}
        with self.audit_log.open() as lines:
            for line in lines:
                if not line.endswith("\n"):
                    break  # being written
                event = _audit_event(json.loads(line))
                if event.user_agent.startswith(user_agent) and event.user.startswith(user):
                    events[event.id] = event
        return list(events.values())

    def wait_for(self, fact: Callable[[], bool], what: str, *, timeout_seconds: float = 30) -> None:
        """Ask until it is so. Raises NotReady with `what` if it is not in time. Errors of the API do not end the wait."""
        deadline = time.monotonic() + timeout_seconds
        problem = ""
        while True:
            try:
                if fact():
                    return
            except (ApiError, OSError) as error:
                problem = f"; last error: {error}"
            for process in self._processes.values():
                process.check()
            if time.monotonic() > deadline:
                logs = "\n".join(f"--- {p.log}\n{tail(p.log, 5)}" for p in self._processes.values())
                raise NotReady(f"after {timeout_seconds:g} s still waiting for {what}{problem}\n{logs}")
            time.sleep(0.03)

    # --- Hurting it ---------------------------------------------------------------------------------------------

    def stop_apiserver(self, *, kill: bool = True) -> None:
        """End the API server, as a crash would or (kill=False) in good order. The data stay; nothing else is ended."""
        process = self._processes.pop("kube-apiserver", None)
        if process is not None:
            end([process], grace_seconds=0 if kill else 30)

    def start_apiserver(self) -> None:
        """Start the API server again, at the same address with the same keys, users and data, and wait until ready."""
        if "kube-apiserver" not in self._processes:
            self._spawn_apiserver()
        self._wait_ready()

    def restart_apiserver(self) -> None:
        self.stop_apiserver()
        self.start_apiserver()

    def pause(self) -> None:
        """Stop the API server without ending it: connections stay open and nothing answers, as in a network fault."""
        self._processes["kube-apiserver"].freeze()

    def resume(self) -> None:
        self._processes["kube-apiserver"].signal(signal.SIGCONT)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Paused meanwhile."""
        self.pause()
        try:
            yield
        finally:
            self.resume()

    def back_up(self, folder: Path) -> None:
        """Copy everything that is stored to a new folder. The cluster is away for the moment that it takes."""
        with self._storage_away():
            shutil.copytree(self._data, folder)

    def restore(self, folder: Path | None) -> None:
        """Put back what `back_up` copied; with None nothing, which makes it another cluster at the same address."""
        with self._storage_away():
            shutil.rmtree(self._data)
            if folder is not None:
                shutil.copytree(folder, self._data)

    @contextlib.contextmanager
    def _storage_away(self) -> Iterator[None]:
        self.stop_apiserver()
        end([self._processes.pop("etcd")], grace_seconds=30)
        yield
        self._spawn_etcd()
        self.start_apiserver()

    @property
    def pids(self) -> Mapping[str, int]:
        """The programs that are running, by name."""
        return {name: process.pid for name, process in self._processes.items() if process.alive()}

    # --- Life ---------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start everything and return when it is ready. What was started is ended again if that fails."""
        programs = ["certs", "etcd", "kube-apiserver"]
        if self.options.controller_names:
            programs.append("kube-controller-manager")
        if self.options.nodes:
            programs += ["kube-scheduler", "kwok"]
        for name in programs:
            binaries.program(name)
        try:
            self._prepare()
            self._start_core()
            if self.options.controller_names:
                self._start_controllers()
            if self.options.nodes:
                self._start_nodes()
            if self.options.gives_service_accounts:
                self.wait_for(
                    lambda: self._exists("/api/v1/namespaces/default/serviceaccounts/default"),
                    "the default service account",
                    timeout_seconds=_READY_SECONDS,
                )
        except BaseException:
            self.stop()
            raise

    def stop(self, *, grace_seconds: float = 0) -> None:
        """End everything, at once unless a grace is given. The folder stays, for a look at its logs."""
        # What writes goes first, what is written to last.
        processes = [self._processes.pop(name) for name in reversed(list(self._processes))]
        end(processes, grace_seconds=grace_seconds)

    def remove(self) -> None:
        """Remove the folder of a cluster that has ended, keys and data included, and only what the sandbox puts there."""
        for folder in ("etcd", "logs", "pids", "pki", ".kube"):
            shutil.rmtree(self.directory / folder, ignore_errors=True)
        for pattern in ("*.kubeconfig", "tokens.csv", "audit.log", "audit-policy.json"):
            for path in self.directory.glob(pattern):
                path.unlink()
        with contextlib.suppress(OSError):
            self.directory.rmdir()

    def _prepare(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for folder in (self._pki, self.logs, self._pids):
            folder.mkdir(exist_ok=True, mode=0o700)
        certs = [str(binaries.program("certs")), str(self._pki)]
        subprocess.run(certs, check=True, capture_output=True, env=self._env())
        groups = {"admin": "system:masters", **_SYSTEM_USERS}
        lines = [f'{token},{user},{user},"{groups.get(user, "")}"' for user, token in self.tokens.items()]
        _write_private(self.directory / "tokens.csv", "\n".join(lines).replace(',""', "") + "\n")
        if self.options.audit:
            policy = {
                "apiVersion": "audit.k8s.io/v1",
                "kind": "Policy",
                "omitStages": ["RequestReceived"],
                "rules": [
                    {"level": "Request", "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}]},
                    {"level": "Metadata"},
                ],
            }
            (self.directory / "audit-policy.json").write_text(json.dumps(policy))
            self.audit_log.touch(mode=0o600)

    def _start_core(self) -> None:
        """Start etcd and the API server together: the latter needs its second of preparation anyway."""
        for attempt in range(1, _START_ATTEMPTS + 1):
            self.port, self.etcd_port, self._peer_port = free_ports(3)
            self._spawn_etcd()
            self._spawn_apiserver()
            try:
                self._wait_ready()
                break
            except ProcessEnded:
                taken = any("address already in use" in self.log(name) for name in ("etcd", "kube-apiserver"))
                self.stop()
                if not taken or attempt == _START_ATTEMPTS:
                    raise
                # Somebody was faster with one of the ports.
                for log in self.logs.iterdir():
                    log.unlink()
                shutil.rmtree(self._data, ignore_errors=True)
        _write_private(self._admin, self._kubeconfig_text("admin", self.admin_token))

    def _wait_ready(self) -> None:
        def ready() -> bool:
            return bool(self.request("GET", "/readyz", timeout_seconds=5) == "ok")

        self.wait_for(ready, f"the API server of {self.name} at {self.server}", timeout_seconds=_READY_SECONDS)

    def _spawn_etcd(self) -> None:
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self._peer_port}"
        flags = [
            f"--name={self.name}",
            f"--data-dir={self._data}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster={self.name}={peer}",
            "--log-level=warn",
            # The default of 2 GiB is too small for benchmarks with many objects; this is the limit etcd recommends.
            f"--quota-backend-bytes={8 << 30}",
        ]
        if not self.options.fsync:
            flags.append("--unsafe-no-fsync")
        self._spawn("etcd", flags)

    def _spawn_apiserver(self) -> None:
        service_accounts = self._pki / "service-accounts"
        flags = [
            f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            "--bind-address=127.0.0.1",
            f"--secure-port={self.port}",
            # Loopback is refused as an address to advertise, and a machine without a network has no other; so name one
            # that is nobody's (RFC 5737) and leave the endpoints of the service `kubernetes` alone.
            "--advertise-address=192.0.2.1",
            "--endpoint-reconciler-type=none",
            f"--tls-cert-file={self._pki / 'apiserver.crt'}",
            f"--tls-private-key-file={self._pki / 'apiserver.key'}",
            f"--client-ca-file={self.ca_file}",
            f"--token-auth-file={self.directory / 'tokens.csv'}",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={service_accounts}.pub",
            f"--service-account-signing-key-file={service_accounts}.key",
            "--service-cluster-ip-range=10.0.0.0/16",
            "--allow-privileged",
            # So that pods can be made in a cluster without controllers too.
            *([] if self.options.gives_service_accounts else ["--disable-admission-plugins=ServiceAccount"]),
        ]
        if self.options.audit:
            flags += [
                f"--audit-policy-file={self.directory / 'audit-policy.json'}",
                f"--audit-log-path={self.audit_log}",
                "--audit-log-maxsize=100000",  # MB; rotation would lose what tests count
            ]
        self._spawn("kube-apiserver", [*flags, *self.options.apiserver_flags])

    def _start_controllers(self) -> None:
        kubeconfig = self.kubeconfig_for("system:kube-controller-manager")
        self._spawn(
            "kube-controller-manager",
            [
                f"--kubeconfig={kubeconfig}",
                f"--controllers={','.join(self.options.controller_names)}",
                "--use-service-account-credentials",
                f"--service-account-private-key-file={self._pki / 'service-accounts.key'}",
                f"--root-ca-file={self.ca_file}",
                "--leader-elect=false",
                "--bind-address=127.0.0.1",
                "--secure-port=0",
                # No second client in the house: controllers may ask as fast as they like.
                "--kube-api-qps=500",
                "--kube-api-burst=1000",
                "--horizontal-pod-autoscaler-sync-period=2s",
            ],
        )

    def _start_nodes(self) -> None:
        scheduler = self.kubeconfig_for("system:kube-scheduler")
        kwok = self.kubeconfig_for("kwok")
        self._spawn(
            "kube-scheduler",
            [f"--kubeconfig={scheduler}", "--leader-elect=false", "--bind-address=127.0.0.1", "--secure-port=0"],
        )
        self._spawn(
            "kwok",
            [
                f"--kubeconfig={kwok}",
                f"--config={STAGES}",
                "--manage-all-nodes=true",
                "--node-lease-duration-seconds=40",
                "--cidr=10.64.0.0/10",
                "--node-ip=192.0.2.2",
            ],
        )
        names = [f"node-{number}" for number in range(1, self.options.nodes + 1)]
        for name in names:
            labels = {"kubernetes.io/hostname": name, "kubernetes.io/os": "linux", "type": "kwok"}
            self.request("POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})

        def ready() -> bool:
            nodes = self.request("GET", "/api/v1/nodes")["items"]
            # A node is used once the controllers have taken away the taint it got as a newcomer.
            return all(
                not node["spec"].get("taints")
                and any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"].get("conditions", ()))
                for node in nodes
            )

        self.wait_for(ready, f"{len(names)} simulated nodes", timeout_seconds=_READY_SECONDS)

    def _spawn(self, name: str, flags: Sequence[str]) -> None:
        self._processes[name] = spawn(
            name,
            [str(binaries.program(name)), *flags],
            log=self.logs / f"{name}.log",
            pid_file=self._pids / f"{name}.pid",
            env=self._env(),
            cwd=self.directory,
            tethered=self.tethered,
        )

    @property
    def _data(self) -> Path:
        return self.directory / "etcd"

    @property
    def _pki(self) -> Path:
        return self.directory / "pki"

    @property
    def _pids(self) -> Path:
        return self.directory / "pids"

    def _env(self) -> dict[str, str]:
        """Nothing of the person's set-up: no KUBECONFIG, no ~/.kube, no proxy between us and loopback."""
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.directory), "LANG": "C.UTF-8"}

    def _exists(self, path: str) -> bool:
        try:
            self.request("GET", path)
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        return True

    def _aggregate(self, cluster_role: str) -> list[object]:
        """Fill in a role that consists of others, such as `view`: a controller would, and without one it grants nothing."""
        path = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
        role = self.request("GET", f"{path}/{cluster_role}")
        rules: list[object] = role.get("rules") or []
        if not rules and "aggregationRule" in role:
            for selector in role["aggregationRule"]["clusterRoleSelectors"]:
                labels = ",".join(f"{key}={value}" for key, value in selector["matchLabels"].items())
                for part in self.request("GET", f"{path}?labelSelector={quote(labels)}")["items"]:
                    rules = [*rules, *self._aggregate(part["metadata"]["name"])]
            self.request("PUT", f"{path}/{cluster_role}", {**role, "rules": rules})
        return rules

    def _kubeconfig_text(self, user: str, token: str) -> str:
        authority = base64.b64encode(self.ca_file.read_bytes()).decode()
        return f"""\
apiVersion: v1
kind: Config
clusters:
- name: {self.context}
  cluster:
    server: {self.server}
    certificate-authority-data: {authority}
users:
- name: "{user}"
  user:
    token: {token}
contexts:
- name: {self.context}
  context:
    cluster: {self.context}
    user: "{user}"
current-context: {self.context}
"""


def running(directory: Path) -> list[Process]:
    """The processes of a cluster that somebody started in this folder, what writes first."""
    order = ("kwok", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd")
    found = list(read_pid_files(directory / "pids", directory / "logs"))
    return sorted(found, key=lambda p: order.index(p.name) if p.name in order else -1)


def _audit_event(record: Mapping[str, Any]) -> AuditEvent:
    about = record.get("objectRef", {})
    return AuditEvent(
        id=record["auditID"],
        user=record.get("user", {}).get("username", ""),
        user_agent=record.get("userAgent", ""),
        verb=record["verb"],
        uri=record["requestURI"],
        group=about.get("apiGroup", ""),
        resource=about.get("resource", ""),
        subresource=about.get("subresource", ""),
        namespace=about.get("namespace", ""),
        name=about.get("name", ""),
        code=record.get("responseStatus", {}).get("code", 0),
        received=record["requestReceivedTimestamp"],
        answered=record["stageTimestamp"],
        body=record.get("requestObject"),
    )


@contextlib.contextmanager
def _ignoring(status: int) -> Iterator[None]:
    try:
        yield
    except ApiError as error:
        if error.status != status:
            raise


def _write_private(path: Path, text: str) -> None:
    """Write a file that holds a token: for nobody else to read, and never seen half-written."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    temporary.replace(path)
