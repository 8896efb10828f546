"""Marked images: finding, writing and proving of files as people have them, against ruamel's round trip of the same."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Mapping, Sequence

from ruamel.yaml import YAML

from gitsyncd.edges.yaml.images import Files
from tests.bench.stage import say
from tests.bench.table import Row, median

NEW: Mapping[str, str] = {
    "": "registry.example.com/shop/front:2.10.3",
    "tag": "2.10.3",
    "name": "registry.example.com/shop/front",
}
FILES_OF_A_KIND = 6
MONOREPO_FILES = 2_000
MARKED_ONE_OF = 20
RUAMEL_FILES = 23
"""It is so slow that a part of the monorepo has to do; no multiple of the kinds of files, so that each is in it."""

AT_LEAST_S = 0.3
FILES = Files()

_MARK = re.compile(r" # \{.*imagepolicy.*")
Samples = tuple[list[float], list[float]]
"""Ours and the floor's."""

DEPLOYMENT = """\
# {app}: owned by team-{team}; see the runbook before you change limits
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {app}
  namespace: team-{team}
  labels:
    app.kubernetes.io/name: {app}
    app.kubernetes.io/part-of: shop
  annotations:
    prometheus.io/scrape: "true"
    prometheus.io/port: '9090'
spec:
  replicas: 3
  revisionHistoryLimit: 5
  strategy:
    type: RollingUpdate
    rollingUpdate: {{maxSurge: 25%, maxUnavailable: 0}}
  selector:
    matchLabels:
      app.kubernetes.io/name: {app}
  template:
    metadata:
      labels:
        app.kubernetes.io/name: {app}
    spec:
      serviceAccountName: {app}
      securityContext: {{runAsNonRoot: true, runAsUser: 10001}}
      containers:
        - name: main
          image: registry.example.com/shop/{app}:1.{number}.0 # {{"$imagepolicy": "{app}"}}
          imagePullPolicy: IfNotPresent
          args: ["--listen=:8080", "--config=/etc/{app}/config.yaml", "--log-level=info"]
          ports:
            - containerPort: 8080
              name: http
          env:
            - name: POD_NAME
              valueFrom:
                fieldRef:
                  fieldPath: metadata.name
            - name: DATABASE_URL
              valueFrom:
                secretKeyRef:
                  name: {app}-database
                  key: url
{env}          resources:
            requests:
              cpu: 100m
              memory: 128Mi
            limits:
              memory: 512Mi   # no limit of CPU: it is throttled too early
          readinessProbe:
            httpGet:
              path: /ready
              port: http
            periodSeconds: 5
          volumeMounts:
            - name: config
              mountPath: /etc/{app}
      volumes:
        - name: config
          configMap:
            name: {app}
"""
ENV = """\
            - name: FEATURE_{number}
              value: "on"
"""
BESIDE = """\
---
apiVersion: v1
kind: Service
metadata:
  name: {app}
  namespace: team-{team}
spec:
  selector:
    app.kubernetes.io/name: {app}
  ports:
    - name: http
      port: 80
      targetPort: http
---
apiVersion: v1
kind: ConfigMap
metadata:
  name: {app}
  namespace: team-{team}
data:
  config.yaml: |
    # read at start
    listen: ":8080"
    cache:
      size: 64Mi
      ttl: 30s
"""
VALUES = """\
# Values of the chart.
global:
  domain: example.com
  # -- pull secrets of all pods
  imagePullSecrets: []
"""
COMPONENT = """\

# -- the component {app}
{app}:
  enabled: true
  replicaCount: 2
  image:
    repository: registry.example.com/shop/{app}
    # -- overrides the chart's appVersion
    tag: "1.{number}.0" {mark}
    pullPolicy: IfNotPresent
  service:
    type: ClusterIP
    port: 80
  ingress:
    enabled: false
    annotations: {{}}
      # kubernetes.io/ingress.class: nginx
      # kubernetes.io/tls-acme: "true"
    hosts:
      - host: {app}.example.com
        paths: ["/"]
    tls: []
  resources: {{}}
  # We leave it to you to choose, so that it runs where little is to be had. If you want limits, uncomment these
  # lines, adjust them, and remove the braces above.
  #   limits:
  #     cpu: 100m
  #     memory: 128Mi
  nodeSelector: {{}}
  tolerations: []
  affinity: {{}}
"""
KUSTOMIZATION = """\
apiVersion: kustomize.config.k8s.io/v1beta1
kind: Kustomization
namespace: team-{team}
resources:
  - ../../base/{app}
  - ingress.yaml
labels:
  - pairs: {{env: production}}
    includeSelectors: false
patches:
  - path: replicas.yaml
    target: {{kind: Deployment, name: {app}}}
configMapGenerator:
  - name: {app}-env
    literals:
      - REGION=eu
      - LOG_LEVEL=info
images:
  - name: {app}
    newName: registry.example.com/shop/{app} # {{"$imagepolicy": "{app}:name"}}
    newTag: 1.{number}.0 # {{"$imagepolicy": "{app}:tag"}}
"""


def measure(rounds: int) -> list[Row]:
    users = [text.encode() for text in users_files()]
    monorepo = [text.encode() for text in monorepo_files()]
    few = monorepo[:: len(monorepo) // RUAMEL_FILES]
    edits: Samples = ([], [])
    finds: Samples = ([], [])
    for number in range(rounds + 1):
        for samples, ours, theirs, files, less in (
            (edits, edit, round_trip, users, users),
            (finds, find, load, monorepo, few),
        ):
            mine, floor = _rate(ours, files), _rate(theirs, less)
            if number:
                samples[0].append(mine)
                samples[1].append(floor)
    say(f"marks: {median(edits[0]):,.0f} files a second edited and proven, {median(finds[0]):,.0f} searched")
    return [
        _row("mark-edit", "marked files found, edited, proven a second", edits, "ruamel.yaml round trip"),
        _row("mark-find", "files searched for marks a second", finds, "ruamel.yaml, reading alone"),
    ]


def _row(name: str, what: str, samples: Samples, floor_is: str) -> Row:
    ours, floor = samples
    return Row(
        name=name,
        what=what,
        unit="/s",
        ours=median(ours),
        floor=median(floor),
        floor_is=floor_is,
        at_least=50,
        samples={"ours": ours, "floor": floor},
    )


def _rate(work: Callable[[bytes], object], files: Sequence[bytes]) -> float:
    """Over as many passes as it takes to see something."""
    begun, passes, took = time.perf_counter(), 0, 0.0
    while took < AT_LEAST_S:
        for text in files:
            work(text)
        passes, took = passes + 1, time.perf_counter() - begun
    return passes * len(files) / took


def edit(text: bytes) -> bytes:
    """What the daemon does with a file in which every policy has something new."""
    marks, _ = FILES.marks("file", text)
    return FILES.edited("file", text, {mark: NEW[mark.part] for mark in marks})


def find(text: bytes) -> object:
    return FILES.marks("file", text)[0]


def round_trip(text: bytes) -> bytes:
    """The least that an edit by ruamel takes: no mark is looked for, nothing is changed, nothing proven."""
    yaml, out = YAML(), io.BytesIO()
    yaml.preserve_quotes = True
    yaml.dump_all(list(yaml.load_all(text)), out)
    return out.getvalue()


def load(text: bytes) -> object:
    """The least that it takes to find something with ruamel."""
    return list(YAML().load_all(text))


def users_files() -> list[str]:
    """Deployments alone and with what belongs to them, values of charts, kustomizations: 0.7 to 12 kB each."""
    return [text for number in range(FILES_OF_A_KIND) for text in _files(number)]


def monorepo_files() -> list[str]:
    """The same kinds of files, of which most have no mark."""
    texts = [text for number in range(MONOREPO_FILES // len(_files(0))) for text in _files(number)]
    return [text if number % MARKED_ONE_OF == 0 else _MARK.sub("", text) for number, text in enumerate(texts)]


def _files(number: int) -> list[str]:
    size = number % FILES_OF_A_KIND
    return [
        _deployment(number, settings=8 * size, beside=0),
        _deployment(number, settings=2 * size, beside=1 + size % 4),
        _values(number, components=6 + 2 * size),
        KUSTOMIZATION.format(**_names(number)),
    ]


def _deployment(number: int, *, settings: int, beside: int) -> str:
    names = _names(number)
    env = "".join(ENV.format(number=setting) for setting in range(settings))
    others = [BESIDE.format(**_names(number + other)) for other in range(beside)]
    return "".join([DEPLOYMENT.format(**names, env=env), *others])


def _values(number: int, *, components: int) -> str:
    """One of the components is what a policy looks after."""
    marked = number % components
    parts = []
    for component in range(components):
        names = _names(component)
        mark = f'# {{"$imagepolicy": "{names["app"]}:tag"}}' if component == marked else ""
        parts.append(COMPONENT.format(**names, mark=mark))
    return "".join([VALUES, *parts])


def _names(number: int) -> dict[str, str | int]:
    return {"app": f"app-{number}", "team": number % 20, "number": number}
