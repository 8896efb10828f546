"""Objects as they stand in repositories: as many built-in kinds as an API server without controllers takes.

Nearly every one leaves something to the server's defaults, or is written in another form than the server keeps it in:
quantities, ports without a protocol, text data of Secrets, numbers and switches in YAML's own spelling.
"""

from __future__ import annotations

from textwrap import dedent

POD = """\
metadata: {labels: {app: NAME}}
spec:
  containers:
    - name: web
      image: nginx
      ports: [{containerPort: 80}, {containerPort: 53, protocol: UDP}, {name: dns-tcp, containerPort: 53}]
      env:
        - {name: PLAIN, value: "1"}
        - {name: EMPTY, value: ""}
        - {name: FROM, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
      resources:
        limits: {cpu: 2000m, memory: 1024Mi, ephemeral-storage: 1000M}
        requests: {cpu: 0.5, memory: "1073741824"}
      readinessProbe: {httpGet: {path: /, port: 80}}
      volumeMounts: [{name: scratch, mountPath: /scratch}, {name: settings, mountPath: /settings}]
  initContainers:
    - {name: first, image: busybox, command: [sh, -c, "true"]}
  volumes:
    - {name: scratch, emptyDir: {sizeLimit: 1024Ki}}
    - {name: settings, configMap: {name: settings, defaultMode: 0644}}
  tolerations: [{key: a, operator: Exists}]
  terminationGracePeriodSeconds: 5
"""


def _template(name: str, **more: str) -> str:
    pod = POD.replace("NAME", name) + "".join(f"  {key}: {value}\n" for key, value in more.items())
    return "".join(f"      {line}\n" for line in pod.splitlines())


def _doc(api: str, kind: str, name: str, rest: str = "", *, annotations: str = "") -> str:
    metadata = f"{{name: {name}{', annotations: {' + annotations + '}' if annotations else ''}}}"
    return f"apiVersion: {api}\nkind: {kind}\nmetadata: {metadata}\n{dedent(rest)}"


def _workload(kind: str, name: str, rest: str) -> str:
    return (
        f"apiVersion: apps/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  selector: {{matchLabels: {{app: {name}}}}}\n"
        f"{rest}  template:\n{_template(name)}"
    )


def _job(name: str) -> str:
    return f"apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n  template:\n" + _template(
        name, restartPolicy="Never"
    )


def _cron_job(name: str) -> str:
    body = "".join(f"    {line}\n" for line in f"template:\n{_template(name, restartPolicy='OnFailure')}".splitlines())
    return (
        f"apiVersion: batch/v1\nkind: CronJob\nmetadata: {{name: {name}}}\nspec:\n  schedule: '*/5 * * * *'\n"
        "  jobTemplate:\n    spec:\n" + "".join(f"  {line}\n" for line in body.splitlines())
    )


_HOOK = """\
webhooks:
  - name: nowhere.example.com
    clientConfig: {service: {name: nowhere, namespace: default}}
    rules: [{apiGroups: [nothing.example.com], apiVersions: [v1], operations: [CREATE], resources: [nothings]}]
    failurePolicy: Ignore
    sideEffects: None
    admissionReviewVersions: [v1]
"""

DOCUMENTS: tuple[str, ...] = (
    _doc("v1", "Namespace", "zero-more"),
    _doc("v1", "ConfigMap", "settings", "data:\n  a: '1'\n  empty: ''\n  long: |\n    one\n    two\n"),
    _doc("v1", "ConfigMap", "binary", "binaryData: {blob: AAECAwQ=}\nimmutable: true\n"),
    _doc("v1", "Secret", "opaque", "stringData: {password: pässword, empty: ''}\ndata: {other: AAECAw==}\n"),
    _doc("v1", "Secret", "basic", "type: kubernetes.io/basic-auth\nstringData: {username: a, password: b}\n"),
    _doc("v1", "Secret", "ssh", "type: kubernetes.io/ssh-auth\nstringData: {ssh-privatekey: x}\n"),
    _doc("v1", "Secret", "registry", "type: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: '{\"auths\": {}}'}\n"),
    _doc("v1", "Secret", "fixed", "immutable: true\ndata: {a: YQ==}\n"),
    _doc("v1", "Service", "cluster-ip", "spec: {selector: {app: web}, ports: [{port: 80, name: http}, {port: 53, protocol: UDP, name: dns}, {port: 53, name: dns-tcp}]}\n"),
    _doc("v1", "Service", "headless", "spec: {clusterIP: None, selector: {app: web}}\n"),
    _doc("v1", "Service", "node-port", "spec: {type: NodePort, selector: {app: web}, ports: [{port: 80, targetPort: http}]}\n"),
    _doc("v1", "Service", "balancer", "spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 443}]}\n"),
    _doc("v1", "Service", "outside", "spec: {type: ExternalName, externalName: example.com}\n"),
    _doc("v1", "ServiceAccount", "robot", "imagePullSecrets: [{name: registry}]\nautomountServiceAccountToken: no\n"),
    _doc("v1", "PersistentVolumeClaim", "claim", "spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1024Mi}}}\n"),
    _doc("v1", "PersistentVolume", "zero-volume", "spec: {capacity: {storage: 1000Mi}, accessModes: [ReadWriteOnce], hostPath: {path: /x}}\n"),
    _doc("v1", "ResourceQuota", "quota", "spec: {hard: {pods: 100, limits.cpu: 100000m, requests.memory: 10240Mi}}\n"),
    _doc("v1", "LimitRange", "limits", "spec: {limits: [{type: Container, default: {cpu: 1000m}}]}\n"),
    _doc("v1", "Endpoints", "cluster-ip", "subsets: [{addresses: [{ip: 192.0.2.1}], ports: [{port: 80}]}]\n"),
    _doc("v1", "Pod", "bare", "spec: {containers: [{name: a, image: busybox, resources: {requests: {cpu: 0.1, memory: 1e3}}}]}\n"),
    _doc("v1", "PodTemplate", "shape", "template: {spec: {containers: [{name: a, image: busybox}]}}\n"),
    _doc("v1", "ReplicationController", "old", "spec: {selector: {app: old}, template: {metadata: {labels: {app: old}}, spec: {containers: [{name: a, image: busybox}]}}}\n"),
    _workload("Deployment", "web", "  replicas: 2\n  strategy: {rollingUpdate: {maxSurge: 1}}\n"),
    _workload("Deployment", "defaults", ""),
    _workload("StatefulSet", "db", "  serviceName: headless\n  volumeClaimTemplates:\n    - metadata: {name: data}\n      spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1024Mi}}}\n"),
    _workload("DaemonSet", "agent", ""),
    _workload("ReplicaSet", "raw", "  replicas: 0\n"),
    _job("once"),
    _cron_job("often"),
    _doc("autoscaling/v2", "HorizontalPodAutoscaler", "web", "spec: {scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}, maxReplicas: 5, metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 50}}}]}\n"),
    _doc("policy/v1", "PodDisruptionBudget", "web", "spec: {maxUnavailable: 1, selector: {matchLabels: {app: web}}}\n"),
    _doc("networking.k8s.io/v1", "Ingress", "web", "spec: {rules: [{host: a.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: cluster-ip, port: {name: http}}}}]}}]}\n"),
    _doc("networking.k8s.io/v1", "IngressClass", "zero", "spec: {controller: example.com/none}\n"),
    _doc("networking.k8s.io/v1", "NetworkPolicy", "deny", "spec: {podSelector: {}, ingress: [{from: [{podSelector: {}}], ports: [{port: 80}]}], egress: []}\n"),
    _doc("storage.k8s.io/v1", "StorageClass", "zero", "provisioner: example.com/none\nparameters: {type: 'ssd'}\n"),
    _doc("storage.k8s.io/v1", "CSIDriver", "zero.example.com", "spec: {attachRequired: no}\n"),
    _doc("scheduling.k8s.io/v1", "PriorityClass", "zero", "value: 1000\n"),
    _doc("node.k8s.io/v1", "RuntimeClass", "zero", "handler: runc\n"),
    _doc("rbac.authorization.k8s.io/v1", "Role", "reader", "rules: [{apiGroups: [''], resources: [pods], verbs: [get, list]}]\n"),
    _doc("rbac.authorization.k8s.io/v1", "RoleBinding", "reader", "roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}\nsubjects: [{kind: ServiceAccount, name: robot, namespace: zero}]\n"),
    _doc("rbac.authorization.k8s.io/v1", "ClusterRole", "zero-reader", "rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]\n"),
    _doc("rbac.authorization.k8s.io/v1", "ClusterRole", "zero-sum", "aggregationRule: {clusterRoleSelectors: [{matchLabels: {zero: 'yes'}}]}\nrules: []\n"),
    _doc("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "zero-reader", "roleRef: {kind: ClusterRole, name: zero-reader, apiGroup: rbac.authorization.k8s.io}\nsubjects: [{kind: User, name: alice}]\n"),
    _doc("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "zero", _HOOK),
    _doc("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration", "zero", _HOOK),
    _doc("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicy", "zero", "spec: {failurePolicy: Ignore, matchConstraints: {resourceRules: [{apiGroups: [nothing.example.com], apiVersions: [v1], operations: [CREATE], resources: [nothings]}]}, validations: [{expression: 'true'}]}\n"),
    _doc("admissionregistration.k8s.io/v1", "ValidatingAdmissionPolicyBinding", "zero", "spec: {policyName: zero, validationActions: [Warn]}\n"),
    _doc("apiextensions.k8s.io/v1", "CustomResourceDefinition", "widgets.zero.example.com", """\
        spec:
          group: zero.example.com
          scope: Namespaced
          names: {kind: Widget, plural: widgets}
          versions:
            - name: v1
              served: true
              storage: true
              subresources: {status: {}}
              schema:
                openAPIV3Schema:
                  type: object
                  properties:
                    spec:
                      type: object
                      properties:
                        size: {type: integer, default: 3}
                        when: {type: string}
                        ports: {type: array, items: {type: object, properties: {port: {type: integer}, protocol: {type: string, default: TCP}}}}
                        free: {type: object, x-kubernetes-preserve-unknown-fields: true}
        """),
    _doc("zero.example.com/v1", "Widget", "widget", "spec: {when: 12:30, ports: [{port: 0o17}, {port: 1e3}], free: {a: [1, {b: null}], c: 1.50}}\n"),
    _doc("coordination.k8s.io/v1", "Lease", "turn", "spec: {holderIdentity: nobody, leaseDurationSeconds: 15}\n"),
    _doc("discovery.k8s.io/v1", "EndpointSlice", "web", "addressType: IPv4\nendpoints: [{addresses: [192.0.2.1]}]\nports: [{port: 80}]\n"),
    _doc("flowcontrol.apiserver.k8s.io/v1", "PriorityLevelConfiguration", "zero", "spec: {type: Limited, limited: {limitResponse: {type: Reject}}}\n"),
    _doc("flowcontrol.apiserver.k8s.io/v1", "FlowSchema", "zero", "spec: {priorityLevelConfiguration: {name: zero}, matchingPrecedence: 9000}\n"),
    # every control that an object may ask for
    *(
        _doc("v1", "ConfigMap", f"asks-{number}", "data: {a: '1'}\n", annotations=asked)
        for number, asked in enumerate((
            "gitsyncd.dev/reconcile: disabled", "gitsyncd.dev/prune: disabled", "gitsyncd.dev/apply: override",
            "gitsyncd.dev/apply: merge", "gitsyncd.dev/apply: if-not-present", "gitsyncd.dev/apply: ignore",
            "gitsyncd.dev/on-immutable: recreate", 'gitsyncd.dev/wave: "-1"', 'gitsyncd.dev/wave: "2"',
            "gitsyncd.dev/depends-on: ConfigMap/zero/settings", "gitsyncd.dev/substitute: disabled",
            "kustomize.toolkit.fluxcd.io/prune: disabled", "argocd.argoproj.io/sync-options: Prune=confirm",
            'argocd.argoproj.io/sync-wave: "3"', "kustomize.toolkit.fluxcd.io/force: enabled",
        ))
    ),
)  # fmt: skip
"""One text per object."""
