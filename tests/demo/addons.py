"""Two parts that every cluster for people has and a bare control plane lacks: measurements and an ingress controller.

Without the first an autoscaler never becomes healthy, without the second an Ingress never gets an address. Both are as
small as they can be; to the API server, the autoscaler and gitsyncd they are real.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from base64 import b64encode
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import quote

from tests.demo.watch import Event, Watch
from tests.gitserver.certificates import Authority
from tests.sandbox import ApiError, Cluster

_VERSION = "metrics.k8s.io/v1beta1"
_ADDRESS = "192.0.2.10"


class Measurements:
    """metrics.k8s.io as the autoscaler knows it: every pod uses `millicores` of CPU, which may be changed."""

    def __init__(self, cluster: Cluster, authority: Authority) -> None:
        self.millicores = 20
        self.cluster = cluster
        self._authority = authority
        self._server = _Server(("127.0.0.1", 0), self)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*authority.server_certificate("measurements.kube-system.svc"))
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        # The API server passes requests on to a service; of this type it goes to where the name leads.
        service = {"type": "ExternalName", "externalName": "localhost"}
        body = {"metadata": {"name": "measurements"}, "spec": service}
        self.cluster.request("POST", "/api/v1/namespaces/kube-system/services", body)
        group, _, version = _VERSION.partition("/")
        reference = {"namespace": "kube-system", "name": "measurements", "port": self._server.server_address[1]}
        spec = {
            "group": group,
            "version": version,
            "groupPriorityMinimum": 100,
            "versionPriority": 100,
            "service": reference,
            "caBundle": b64encode(self._authority.ca_file.read_bytes()).decode(),
        }
        path = "/apis/apiregistration.k8s.io/v1/apiservices"
        self.cluster.request("POST", path, {"metadata": {"name": f"{version}.{group}"}, "spec": spec})
        self.cluster.wait_for(self._answers, "the API of measurements")
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answers(self) -> bool:
        return bool(self.cluster.request("GET", f"/apis/{_VERSION}")["resources"])

    def pods(self, namespace: str, query: str) -> dict[str, Any]:
        """A PodMetricsList for the pods of a namespace."""
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        usage = {"cpu": f"{self.millicores}m", "memory": "32Mi"}
        found = self.cluster.request("GET", f"/api/v1/namespaces/{quote(namespace)}/pods?{query}")["items"]
        items = [
            {
                "metadata": {key: pod["metadata"].get(key) for key in ("name", "namespace", "labels")},
                "timestamp": now,
                "window": "1s",
                "containers": [{"name": c["name"], "usage": usage} for c in pod["spec"]["containers"]],
            }
            for pod in found
        ]
        return {"kind": "PodMetricsList", "apiVersion": _VERSION, "metadata": {}, "items": items}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: tuple[str, int], owner: Measurements) -> None:
        self.owner = owner
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked has gone; it asks again."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Silent."""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        match path.strip("/").split("/"):
            case ["apis", "metrics.k8s.io", "v1beta1"]:
                pods = {"name": "pods", "singularName": "", "namespaced": True, "kind": "PodMetrics"}
                resources = [{**pods, "verbs": ["get", "list"]}]
                kind = {"kind": "APIResourceList", "apiVersion": "v1"}
                self._answer(200, {**kind, "groupVersion": _VERSION, "resources": resources})
            case ["apis", "metrics.k8s.io", "v1beta1", "namespaces", namespace, "pods"]:
                self._answer(200, self.server.owner.pods(namespace, query))
            case _:
                self._answer(404, {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 404})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class IngressController(Watch):
    """Gives every Ingress an address, as a load balancer would."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, "/apis/networking.k8s.io/v1/ingresses", on_event=self._publish)
        self._api = cluster

    def _publish(self, event: Event) -> None:
        if event.type == "DELETED" or event.object.get("status", {}).get("loadBalancer", {}).get("ingress"):
            return
        meta = event.object["metadata"]
        path = f"/apis/networking.k8s.io/v1/namespaces/{meta['namespace']}/ingresses/{meta['name']}/status"
        body = {"status": {"loadBalancer": {"ingress": [{"ip": _ADDRESS}]}}}
        # It may be gone again, or the cluster be ending; the next event comes with the next chance.
        with contextlib.suppress(ApiError, OSError):
            self._api.request(
                "PATCH",
                f"{path}?fieldManager=ingress-controller",
                body,
                content_type="application/merge-patch+json",
            )
