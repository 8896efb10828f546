"""Who writes to a cluster: the table that sorts field managers into persons, delivery tools and controllers.

Here: names, and nothing else. What follows from a class is decided elsewhere.

Where the names come from. A client may send `fieldManager`; when it does not, the API server takes the user agent up to
its first `/` (k8s.io/apiserver, pkg/endpoints/handlers, managerOrUserAgent), and Go clients send the base name of
their binary as user agent (k8s.io/client-go, rest.DefaultKubernetesUserAgent). So a browser behind a dashboard is
`Mozilla`, a script is `curl` or `python-requests`, and an operator is what its binary is called. kubectl names each of
its verbs `kubectl-VERB` and server-side apply `kubectl`. `before-first-apply` is what the API server calls everything
that was written before managedFields were kept. A name says which program wrote, never which human.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

from gitsyncd.model.observed import Writer

# Patterns: a manager's name, in which `*` stands for any characters, none included; letters compare without case.
#
# What to put where. Fields added by persons and delivery tools are removed by default, so only names that are surely
# one of them stand there. Fields of controllers are never removed, so names that operators share are welcome there.
# Whoever is in none is reported, with the line that settles it. A library that names itself and not the program that
# uses it stands with the persons only where scripts are what it is known for.
_PERSON: Final = (
    # kubectl, its plug-ins and shells; everything that is older than managedFields
    "kubectl", "kubectl-*", "kubectl_*", "kubecolor", "oc", "k9s", "before-first-apply",
    # consoles of their own; those that pass a browser's requests through appear as the browser
    "Mozilla", "Lens", "OpenLens", "Freelens", "node-fetch", "Headlamp", "headlamp-server", "dashboard",
    "kubernetes-dashboard", "kubernetes-dashboard-*", "octant", "aptakube", "monokle", "seabird", "kubenav",
    # programs that send what they are told, and scripts
    "curl", "Wget", "HTTPie", "xh", "PostmanRuntime", "insomnia", "PowerShell", "WindowsPowerShell",
    "OpenAPI-Generator", "Swagger-Codegen", "python-requests", "python-httpx", "Python-urllib", "IPython",
)  # fmt: skip
_DELIVERY: Final = (
    # GitOps
    "gitsyncd/*", "argocd", "argocd-*", "flux", "flux-*", "flux-operator", "fluxcd*", "kustomize-controller",
    "helm-controller", "source-controller", "image-automation-controller", "tf-controller", "helm-operator",
    "kapp", "kapp-controller", "configsync*", "config-sync*", "configmanagement", "kpt", "kpt-*", "cli-utils",
    "fleet", "fleetagent", "fleet-agent", "fleetcontroller", "gitlab-agent*", "agentk", "piped", "kube-applier",
    "kluctl", "kluctl-controller", "sveltos*", "timoni", "timoni-*", "vela-core", "work-agent", "eno-controller",
    # packages and templates
    "helm", "helm2", "helm3", "helmfile", "helmsman", "tiller", "werf", "nelm", "tanka", "tk", "kubecfg", "cdk8s",
    "krane", "kustomize", "porter", "glasskube", "operator-sdk",
    # infrastructure as code
    "Terraform", "terraform*", "HashiCorp", "OpenTofu", "tofu", "pulumi*", "ansible*", "salt-*", "puppet*",
    "chef-client",
    # pipelines and inner loops
    "jenkins*", "github-actions*", "gitlab", "gitlab-ci*", "gitlab-runner", "circleci*", "drone*", "buildkite*",
    "spinnaker*", "clouddriver", "harness*", "octopus*", "azure-pipelines*", "TeamCity*", "codefresh*", "concourse*",
    "google-cloud-deploy*", "skaffold*", "tilt", "tilt-*", "devspace", "okteto", "garden", "garden-*",
)  # fmt: skip
_CONTROLLER: Final = (
    # Kubernetes itself, and distributions that run it as one program
    "kube-controller-manager", "kube-scheduler", "kubelet", "kube-apiserver", "kube-proxy", "cloud-controller-manager",
    "k3s", "k3s-*", "rke2*", "k0s", "kubelite", "hyperkube", "openshift-*", "cluster-version-operator", "olm",
    "catalog",
    # what kubebuilder and its kin call every operator's binary, and how operators are named
    "manager", "controller", "controller-manager", "operator", "*-controller-manager", "*-operator", "*-webhook",
    "*-scheduler", "*-provisioner", "csi-*", "*-csi-*", "storage-version-migrator", "nfd-*", "gpu-operator", "nvidia-*",
    # scaling
    "cluster-autoscaler", "vpa-*", "recommender", "updater", "admission-controller", "horizontal-pod-autoscaler",
    "keda", "keda-*", "karpenter*", "descheduler", "kube-downscaler", "py-kube-downscaler", "kube-green*", "castai-*",
    "cluster-proportional-*", "addon-resizer", "pod_nanny", "goldilocks", "kubeturbo",
    # clouds
    "aws-load-balancer-controller", "aws-cloud-controller-manager", "vpc-resource-controller", "eks", "ack-*",
    "azure-*", "aks-*", "application-gateway-kubernetes-ingress", "gke-*", "glbc", "gcp-*", "cloud-provider-*",
    "vsphere-*", "openstack-*", "hcloud-*", "digitalocean-*", "metallb*", "kube-vip*",
    # networks and meshes
    "istio*", "pilot-discovery", "linkerd*", "consul-*", "kuma-*", "cilium*", "calico*", "tigera-*", "antrea-*",
    "nginx-ingress*", "ingress-nginx*", "traefik*", "contour", "envoy-gateway", "haproxy-ingress*", "kong*",
    "emissary*", "external-dns", "submariner*", "knative*", "serving-*", "eventing-*", "activator", "autoscaler",
    "autoscaler-hpa",
    # certificates, secrets, policy
    "cert-manager*", "cainjector", "trust-manager", "external-secrets*", "sealed-secrets*", "vault-*", "spire-*",
    "secrets-store-*", "kyverno*", "gatekeeper*", "falco*", "trivy-*", "kubewarden*", "reflector", "replicator",
    "kubernetes-replicator", "Reloader", "reloader*", "capsule*", "hnc-*",
    # rollouts, jobs, data, watching
    "argo-rollouts*", "rollouts-controller", "flagger*", "workflow-controller", "argo-events*", "kruise*", "kueue*",
    "vc-controller-manager", "tekton-*", "prometheus-operator", "PrometheusOperator", "opentelemetry-*", "otel-*",
    "datadog-*", "dynatrace-*", "strimzi*", "cloudnative-pg", "patroni", "rook*", "longhorn*", "openebs*", "portworx*",
    "velero", "velero-server", "k8up*",
    # fleets and platforms
    "rancher", "cattle-*", "crossplane", "crossplane-*", "capi-*", "cluster-api-*", "vcluster*", "virtual-kubelet*",
    "liqo*", "kopf", "shell-operator", "addon-operator", "metacontroller", "kro", "virt-*", "cdi-*", "gardener-*",
    "chaos-*",
)  # fmt: skip

BUILT_IN: Final[Mapping[Writer, tuple[str, ...]]] = {
    Writer.PERSON: _PERSON,
    Writer.DELIVERY: _DELIVERY,
    Writer.CONTROLLER: _CONTROLLER,
}

# kubectl before server-side apply, and everything from before managedFields were kept: whoever starts to apply
# server-side has to take these over, or fields that are later removed from Git stay (client-go, util/csaupgrade).
_CLIENT_SIDE: Final = re.compile(r"kubectl-.*|before-first-apply", re.DOTALL)


@dataclass(frozen=True, slots=True, eq=False)
class WriterTable:
    """Patterns by class. Build it once and hand it around: answers are remembered per table."""

    _exact: Mapping[str, Writer]
    _patterns: tuple[tuple[re.Pattern[str], Writer], ...] = field(repr=False)
    """In the order in which they are tried."""

    @classmethod
    def build(cls, extension: Mapping[str, tuple[str, ...]] | None = None) -> WriterTable:
        """The built-in table, and on top of it `agent.writers`: patterns by `person`, `delivery` or `controller`.

        The extension is asked before the built-in table. Within each, a name without `*` wins over patterns, and a
        pattern with more other characters over one with fewer; where two are equal, person wins over delivery and
        delivery over controller. Raises `ValueError` for a class of another name.
        """
        own = {Writer(name): tuple(patterns) for name, patterns in (extension or {}).items()}
        exact: dict[str, Writer] = {}
        patterns: list[tuple[re.Pattern[str], Writer]] = []
        for layer in (own, BUILT_IN):
            # A name of the built-in table that a pattern of the extension covers is the extension's.
            covered = tuple(patterns)
            wild: list[tuple[int, str, Writer]] = []
            for writer in Writer:
                for pattern in layer.get(writer, ()):
                    name = pattern.casefold()
                    if "*" in name:
                        wild.append((len(name.replace("*", "")), name, writer))
                    elif name not in exact and not any(earlier.fullmatch(name) for earlier, _ in covered):
                        exact[name] = writer
            wild.sort(key=lambda entry: -entry[0])
            patterns += [(_compile(name), writer) for _, name, writer in wild]
        return cls(exact, tuple(patterns))

    def class_of(self, manager: str) -> Writer:
        return _class_of(self, manager)


@lru_cache(maxsize=2048)
def _class_of(table: WriterTable, manager: str) -> Writer:
    name = manager.casefold()
    found = table._exact.get(name)  # noqa: SLF001 - one thing in two halves: the cache needs a function
    if found is not None:
        return found
    return next((writer for pattern, writer in table._patterns if pattern.fullmatch(name)), Writer.UNKNOWN)  # noqa: SLF001 - as above


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, re.split(r"\*+", pattern))), re.DOTALL)


def classify(manager: object, operation: object, subresource: object, table: WriterTable) -> Writer:
    """The class of whoever wrote an entry of managedFields, from its three keys as they stand there.

    A subresource is written by controllers: `status` by whoever reports it, `scale` by autoscalers, and by persons who
    use the verb that is meant for it. `operation` makes no difference so far: the names of appliers are their own.
    """
    del operation
    if subresource:
        return Writer.CONTROLLER
    return table.class_of(manager) if isinstance(manager, str) and manager else Writer.UNKNOWN


def is_client_side_tool(manager: object, operation: object) -> bool:
    """Whether an entry was left by a tool that cannot say what it no longer wants, and so is to be taken over."""
    return operation == "Update" and isinstance(manager, str) and _CLIENT_SIDE.fullmatch(manager) is not None
