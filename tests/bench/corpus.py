"""A fleet of ordinary applications, the same at every run: by default 220 applications of 9 objects, 20 Namespaces.

One file per object, with comments and an image marker, as people write them. Replicas are 0: what a controller would
make of the objects is not what is measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

APPS: Final = 220
NAMESPACES: Final = 20

KINDS: Final = {
    "Namespace": ("/api/v1", "namespaces"),
    "Deployment": ("/apis/apps/v1", "deployments"),
    "Service": ("/api/v1", "services"),
    "ConfigMap": ("/api/v1", "configmaps"),
    "Ingress": ("/apis/networking.k8s.io/v1", "ingresses"),
    "ServiceAccount": ("/api/v1", "serviceaccounts"),
    "Role": ("/apis/rbac.authorization.k8s.io/v1", "roles"),
    "RoleBinding": ("/apis/rbac.authorization.k8s.io/v1", "rolebindings"),
    "HorizontalPodAutoscaler": ("/apis/autoscaling/v2", "horizontalpodautoscalers"),
    "NetworkPolicy": ("/apis/networking.k8s.io/v1", "networkpolicies"),
}
"""Where each kind of the corpus lives: the root of its API, and its plural."""

_FILES: Final[Mapping[str, str]] = {
    "deployment": """\
# the workload
apiVersion: apps/v1
kind: Deployment
{meta}spec:
  replicas: 0
  selector:
    matchLabels: {{app: {app}}}
  template:
    metadata:
      labels: {{app: {app}}}
    spec:
      serviceAccountName: {app}
      containers:
      - name: main
        image: registry.example.com/{app}:1.0.{number}  # {{"$imagepolicy": "{app}"}}
        ports: [{{containerPort: 8080, name: http}}]
        env:
        - {{name: COLOR, value: blue}}
        - {{name: REGION, value: eu}}
        resources:
          requests: {{cpu: 100m, memory: 128Mi}}
          limits: {{cpu: 2000m, memory: 1Gi}}  # stored as 2
        readinessProbe: {{httpGet: {{path: /ready, port: http}}, periodSeconds: 5}}
""",
    "service": """\
apiVersion: v1
kind: Service
{meta}spec:
  selector: {{app: {app}}}
  ports:
  - {{name: http, port: 80, targetPort: http}}
""",
    "configmap": """\
apiVersion: v1
kind: ConfigMap
{meta}data:
  settings.ini: |
    [main]
    name = {app}
    level = info
    workers = 4
  color: {color}
""",
    "ingress": """\
apiVersion: networking.k8s.io/v1
kind: Ingress
{meta}spec:
  rules:
  - host: {app}.example.com
    http:
      paths:
      - {{path: /, pathType: Prefix, backend: {{service: {{name: {app}, port: {{name: http}}}}}}}}
""",
    "serviceaccount": """\
apiVersion: v1
kind: ServiceAccount
{meta}""",
    "role": """\
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
{meta}rules:
- {{apiGroups: [""], resources: [configmaps], verbs: [get, list, watch]}}
""",
    "rolebinding": """\
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
{meta}roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {app}}}
subjects:
- {{kind: ServiceAccount, name: {app}, namespace: {namespace}}}
""",
    "hpa": """\
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
{meta}spec:
  minReplicas: 1
  maxReplicas: 5
  scaleTargetRef: {{apiVersion: apps/v1, kind: Deployment, name: {app}}}
  metrics:
  - type: Resource
    resource: {{name: cpu, target: {{type: Utilization, averageUtilization: 80}}}}
""",
    "networkpolicy": """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
{meta}spec:
  podSelector: {{matchLabels: {{app: {app}}}}}
  policyTypes: [Ingress]
  ingress:
  - from:
    - podSelector: {{}}
""",
}

_META: Final = """\
metadata:
  name: {app}
  namespace: {namespace}
  labels:
    app: {app}
    team: {namespace}
"""


def app_name(number: int) -> str:
    return f"app-{number:04}"


def namespace_of(number: int, namespaces: int = NAMESPACES) -> str:
    """The Namespace in which that application lives."""
    return f"team-{number % namespaces:02}"


def image_of(number: int) -> str:
    return f"registry.example.com/{app_name(number)}:1.0.{number}"


def corpus(apps: int = APPS, namespaces: int = NAMESPACES, folder: str = "fleet") -> dict[str, str]:
    """Path to content: 9 files per application and one per Namespace, all below `folder`."""
    return {f"{folder}/{path}": text for path, text in _files(apps, namespaces)}


def configmap(number: int, *, color: str = "blue", namespace: str = "") -> str:
    """The ConfigMap of one application, with another color or in another Namespace if wanted."""
    return _text("configmap", number, namespace or namespace_of(number), color)


def _files(apps: int, namespaces: int) -> Iterator[tuple[str, str]]:
    for number in range(namespaces):
        name = namespace_of(number, namespaces)
        yield f"namespaces/{name}.yaml", f"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n"
    for number in range(apps):
        for file in _FILES:
            text = _text(file, number, namespace_of(number, namespaces), "blue")
            yield f"apps/{app_name(number)}/{file}.yaml", text


def _text(file: str, number: int, namespace: str, color: str) -> str:
    app = app_name(number)
    meta = _META.format(app=app, namespace=namespace)
    return _FILES[file].format(meta=meta, app=app, namespace=namespace, number=number, color=color)
