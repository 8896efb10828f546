"""The table of classes of writers."""

import pytest

from gitsyncd.core.writers import BUILT_IN, WriterTable, classify, is_client_side_tool
from gitsyncd.model.observed import Writer

TABLE = WriterTable.build()
P, D, C, U = Writer.PERSON, Writer.DELIVERY, Writer.CONTROLLER, Writer.UNKNOWN


@pytest.mark.parametrize(
    ("manager", "operation", "writer"),
    [
        ("kubectl-client-side-apply", "Update", P), ("kubectl-edit", "Update", P), ("kubectl-patch", "Update", P),
        ("kubectl-label", "Update", P), ("kubectl-annotate", "Update", P), ("kubectl-set", "Update", P),
        ("kubectl-rollout", "Update", P), ("kubectl-create", "Update", P), ("kubectl-replace", "Update", P),
        ("kubectl", "Apply", P), ("before-first-apply", "Update", P), ("k9s", "Update", P), ("Lens", "Update", P),
        ("OpenLens", "Update", P), ("node-fetch", "Update", P), ("Mozilla", "Update", P), ("curl", "Update", P),
        ("Wget", "Update", P), ("HTTPie", "Update", P), ("python-requests", "Update", P), ("OpenAPI-Generator", "Update", P),
        ("helm", "Update", D), ("argocd-controller", "Apply", D), ("argocd-application-controller", "Update", D),
        ("kustomize-controller", "Apply", D), ("helm-controller", "Update", D), ("flux", "Apply", D), ("flux-operator", "Apply", D),
        ("kapp", "Update", D), ("kapp-controller", "Update", D), ("Terraform", "Apply", D), ("terraform-provider-kubernetes", "Update", D),
        ("pulumi-kubernetes-5f2a", "Apply", D), ("configsync", "Apply", D), ("fleetagent", "Update", D), ("gitlab-agent", "Apply", D),
        ("piped", "Update", D), ("github-actions", "Update", D), ("gitsyncd/another", "Apply", D), ("skaffold", "Update", D),
        ("kube-controller-manager", "Update", C), ("kubelet", "Update", C), ("kube-scheduler", "Update", C),
        ("vpa-recommender", "Update", C), ("istio-operator", "Update", C), ("pilot-discovery", "Update", C),
        ("cert-manager-cainjector", "Update", C), ("karpenter", "Update", C), ("my-company-operator", "Update", C),
        ("argo-rollouts", "Update", C), ("rollouts-controller", "Update", C), ("external-secrets", "Update", C), ("manager", "Update", C),
        ("my-script", "Update", U), ("kubectlish", "Update", U), ("", "Update", U), ("Go-http-client", "Update", U),
    ],
)  # fmt: skip
def test_known_managers_have_their_class(manager: str, operation: str, writer: Writer) -> None:
    assert classify(manager, operation, "", TABLE) is writer


@pytest.mark.parametrize("subresource", ["status", "scale", "ephemeralcontainers"])
def test_whoever_writes_a_subresource_is_a_controller(subresource: str) -> None:
    assert classify("kubectl-edit", "Update", subresource, TABLE) is C


@pytest.mark.parametrize("odd", [None, 3, ["kubectl"], {"kubectl": 1}, True])
def test_a_manager_that_is_no_text_is_unknown(odd: object) -> None:
    assert classify(odd, odd, None, TABLE) is U
    assert is_client_side_tool(odd, "Update") is False


def test_the_agent_file_adds_names_and_patterns_and_overrides_the_table() -> None:
    table = WriterTable.build(
        {"person": ("my-console", "shell-*"), "controller": ("helm", "kubectl-auto*"), "delivery": ("*deployer*",)}
    )

    found = {
        name: classify(name, "Update", "", table)
        for name in ("my-console", "MY-Console", "shell-1", "helm", "kubectl-autoscale-bot", "kubectl-edit", "our-deployer-7", "x")
    }  # fmt: skip

    assert found == {
        "my-console": P,
        "MY-Console": P,
        "shell-1": P,
        "helm": C,
        "kubectl-autoscale-bot": C,
        "kubectl-edit": P,
        "our-deployer-7": D,
        "x": U,
    }


def test_a_pattern_of_the_agent_file_covers_names_of_the_built_in_table() -> None:
    assert classify("helm", "Update", "", WriterTable.build({"controller": ("hel*",)})) is C


def test_the_longer_pattern_wins_and_a_name_wins_over_both() -> None:
    table = WriterTable.build({"person": ("a-*",), "delivery": ("a-long-*",), "controller": ("a-long-name",)})

    assert [classify(name, "Update", "", table) for name in ("a-x", "a-long-x", "a-long-name")] == [P, D, C]


def test_only_the_asterisk_is_special_in_a_pattern() -> None:
    table = WriterTable.build({"person": ("a.b*[x]",)})

    assert [classify(name, "Update", "", table) for name in ("a.b-[x]", "aXb-[x]", "a.bx")] == [P, U, U]


def test_a_class_of_another_name_is_refused() -> None:
    with pytest.raises(ValueError, match="robots"):
        WriterTable.build({"robots": ("r2d2",)})


def test_no_name_stands_in_two_classes_of_the_built_in_table() -> None:
    names = [pattern.casefold() for patterns in BUILT_IN.values() for pattern in patterns]

    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize(
    ("manager", "operation", "expected"),
    [
        ("kubectl-client-side-apply", "Update", True),
        ("kubectl-edit", "Update", True),
        ("before-first-apply", "Update", True),
        ("kubectl", "Apply", False),
        ("kubectl-client-side-apply", "Apply", False),
        ("helm", "Update", False),
        ("kubectl", "Update", False),
    ],
)
def test_client_side_tools_are_kubectls_verbs_and_what_is_older(manager: str, operation: str, expected: bool) -> None:
    assert is_client_side_tool(manager, operation) is expected
