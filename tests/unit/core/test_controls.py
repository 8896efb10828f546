"""What annotations ask for: ours, and those of other tools."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gitsyncd.core.controls import EQUIVALENTS, LiveControls, controls, live_controls
from gitsyncd.model.errors import ManifestInvalid
from gitsyncd.model.ids import ObjectId
from gitsyncd.model.manifest import DEFAULT_CONTROLS, Apply, Controls

FLUX = "kustomize.toolkit.fluxcd.io/"
ARGO = "argocd.argoproj.io/"
DATABASE = ObjectId(group="apps", kind="StatefulSet", namespace="web", name="db")
CONFIG = ObjectId(group="", kind="ConfigMap", namespace="web", name="settings")
CLASS = ObjectId(group="storage.k8s.io", kind="StorageClass", namespace="", name="fast")

ASKED: list[tuple[dict[str, str], Controls]] = [
    ({"gitsyncd.dev/reconcile": "disabled"}, Controls(reconcile=False)),
    ({"gitsyncd.dev/prune": "disabled"}, Controls(prune=False)),
    ({"gitsyncd.dev/apply": "override"}, Controls()),
    ({"gitsyncd.dev/apply": "merge"}, Controls(apply=Apply.MERGE)),
    ({"gitsyncd.dev/apply": "if-not-present"}, Controls(apply=Apply.IF_NOT_PRESENT)),
    ({"gitsyncd.dev/apply": "ignore"}, Controls(apply=Apply.IGNORE)),
    ({"gitsyncd.dev/on-immutable": "recreate"}, Controls(recreate=True)),
    ({"gitsyncd.dev/wave": "-1"}, Controls(wave=-1)),
    ({"gitsyncd.dev/substitute": "disabled"}, Controls()),
    (
        {"gitsyncd.dev/depends-on": "StatefulSet.apps/web/db, ConfigMap/web/settings,"},
        Controls(depends_on=(DATABASE, CONFIG)),
    ),
    ({FLUX + "reconcile": "disabled"}, Controls(reconcile=False)),
    ({FLUX + "reconcile": "Disabled"}, Controls(reconcile=False)),
    ({"configmanagement.gke.io/managed": "disabled"}, Controls(reconcile=False)),
    ({"configmanagement.gke.io/managed": "Disabled"}, Controls()),
    ({"fluxcd.io/ignore": "true"}, Controls(reconcile=False)),
    ({"fluxcd.io/ignore": "sync_only"}, Controls(prune=False)),
    ({"fluxcd.io/ignore": "false"}, Controls()),
    ({FLUX + "prune": "disabled"}, Controls(prune=False)),
    ({FLUX + "prune": "enabled"}, Controls()),
    ({ARGO + "sync-options": "Prune=false"}, Controls(prune=False)),
    ({ARGO + "sync-options": "CreateNamespace=true, Prune=false"}, Controls(prune=False)),
    ({ARGO + "sync-options": "Prune=falsehood"}, Controls()),
    ({ARGO + "sync-options": "Prune=confirm"}, Controls(prune_needs_approval=True)),
    ({ARGO + "sync-options": "Delete=confirm"}, Controls(prune_needs_approval=True)),
    ({ARGO + "sync-options": "Force=true,Replace=true"}, Controls(recreate=True)),
    ({ARGO + "sync-options": "Replace=true,Force=true"}, Controls(recreate=True)),
    ({ARGO + "sync-options": "Replace=true"}, Controls()),
    ({ARGO + "sync-options": "Force=true"}, Controls()),
    ({ARGO + "sync-wave": "5"}, Controls(wave=5)),
    ({ARGO + "hook": "Skip"}, Controls(apply=Apply.IGNORE)),
    ({"client.lifecycle.config.k8s.io/deletion": "detach"}, Controls(prune=False)),
    ({"client.lifecycle.config.k8s.io/mutation": "ignore"}, Controls(apply=Apply.IF_NOT_PRESENT)),
    ({"cli-utils.sigs.k8s.io/on-remove": "keep"}, Controls(prune=False)),
    ({"helm.sh/resource-policy": "keep"}, Controls(prune=False)),
    ({"config.kubernetes.io/local-config": "true"}, Controls(apply=Apply.IGNORE)),
    ({"config.kubernetes.io/local-config": ""}, Controls(apply=Apply.IGNORE)),
    ({"config.kubernetes.io/local-config": "false"}, Controls()),
    ({FLUX + "ssa": "Override"}, Controls()),
    ({FLUX + "ssa": "merge"}, Controls(apply=Apply.MERGE)),
    ({FLUX + "ssa": "IfNotPresent"}, Controls(apply=Apply.IF_NOT_PRESENT)),
    ({FLUX + "ssa": "Ignore"}, Controls(apply=Apply.IGNORE)),
    ({FLUX + "ssa": "nonsense"}, Controls()),
    ({FLUX + "force": "enabled"}, Controls(recreate=True)),
    ({FLUX + "substitute": "disabled"}, Controls()),
    (
        {"config.kubernetes.io/depends-on": "apps/namespaces/web/StatefulSet/db,/namespaces/web/ConfigMap/settings"},
        Controls(depends_on=(DATABASE, CONFIG)),
    ),
    ({"config.kubernetes.io/depends-on": "storage.k8s.io/StorageClass/fast"}, Controls(depends_on=(CLASS,))),
    ({"configsync.gke.io/cluster-name-selector": "us-1, eu-1"}, Controls()),
    ({"configsync.gke.io/cluster-name-selector": "us-1"}, Controls(apply=Apply.IGNORE)),
    ({"gitsyncd.dev/target": "web", "gitsyncd.dev/id": "x", "gitsyncd.dev/path": "a.yaml"}, Controls()),
]


@pytest.mark.parametrize(("annotations", "expected"), ASKED, ids=[str(row[0]) for row in ASKED])
def test_an_annotation_asks_for_one_control(annotations: dict[str, str], expected: Controls) -> None:
    assert controls(annotations, cluster="eu-1") == expected


def test_every_row_of_the_table_of_other_tools_is_among_the_cases() -> None:
    given_here = {annotation for annotations, _ in ASKED for annotation in annotations}

    assert {row.annotation for row in EQUIVALENTS} <= given_here


OURS_WINS: list[tuple[dict[str, str], Controls]] = [
    ({"gitsyncd.dev/prune": "enabled", FLUX + "prune": "disabled"}, Controls()),
    ({"gitsyncd.dev/reconcile": "enabled", FLUX + "reconcile": "disabled"}, Controls()),
    ({"gitsyncd.dev/apply": "merge", FLUX + "ssa": "Ignore"}, Controls(apply=Apply.MERGE)),
    ({"gitsyncd.dev/wave": "1", ARGO + "sync-wave": "7"}, Controls(wave=1)),
    (
        {"gitsyncd.dev/depends-on": "ConfigMap/web/settings", "config.kubernetes.io/depends-on": "a/b/c"},
        Controls(depends_on=(CONFIG,)),
    ),
]


@pytest.mark.parametrize(("annotations", "expected"), OURS_WINS, ids=[str(row[0]) for row in OURS_WINS])
def test_our_annotation_wins_over_another_tools(annotations: dict[str, str], expected: Controls) -> None:
    assert controls(annotations) == expected


def test_an_object_for_other_clusters_stays_away_whatever_else_it_asks_for() -> None:
    annotations = {"configsync.gke.io/cluster-name-selector": "us-1", "gitsyncd.dev/apply": "override"}

    assert controls(annotations, cluster="eu-1").apply is Apply.IGNORE


@pytest.mark.parametrize("annotations", [None, {}, {"team": "web"}, {"gitsyncd.dev/prune": "enabled"}])
def test_objects_that_ask_for_nothing_share_one_instance(annotations: dict[str, str] | None) -> None:
    assert controls(annotations) is DEFAULT_CONTROLS


def test_flux_labels_count_like_its_annotations() -> None:
    assert controls({}, labels={FLUX + "prune": "disabled", "app": "web"}) == Controls(prune=False)


REFUSED: list[tuple[dict[str, Any], tuple[str, ...]]] = [
    ({"gitsyncd.dev/wave": "x"}, ("gitsyncd.dev/wave", "'x'", "whole number")),
    ({"gitsyncd.dev/wave": ""}, ("gitsyncd.dev/wave", "whole number")),
    ({"gitsyncd.dev/wave": "1.5"}, ("gitsyncd.dev/wave", "'1.5'")),
    ({"gitsyncd.dev/wave": "9" * 5000}, ("gitsyncd.dev/wave",)),
    ({"gitsyncd.dev/wave": "²"}, ("gitsyncd.dev/wave",)),
    ({"gitsyncd.dev/wave": -1}, ("gitsyncd.dev/wave", "-1", "not a string", '"-1"')),
    ({"gitsyncd.dev/prune": False}, ("gitsyncd.dev/prune", "false", "not a string")),
    ({"gitsyncd.dev/prune": {}}, ("gitsyncd.dev/prune", "a map or a list")),
    ({"gitsyncd.dev/apply": "foo"}, ("gitsyncd.dev/apply", "'foo'", "override", "merge", "if-not-present", "ignore")),
    ({"gitsyncd.dev/prune": "Disabled"}, ("gitsyncd.dev/prune", "'Disabled'", "disabled or enabled")),
    ({"gitsyncd.dev/on-immutable": "force"}, ("gitsyncd.dev/on-immutable", "recreate")),
    ({"gitsyncd.dev/depends-on": "db"}, ("gitsyncd.dev/depends-on", "'db'", "Kind.group/namespace/name")),
    ({"gitsyncd.dev/prun": "disabled"}, ("gitsyncd.dev/prun", "unknown", "gitsyncd.dev/prune")),
    ({"gitsyncd.dev/zzz": "1"}, ("gitsyncd.dev/zzz", "unknown", "gitsyncd.dev/reconcile")),
    ({"gitsyncd.dev/hook": "pre-sync"}, ("gitsyncd.dev/hook", "hooks are not supported yet", "apply: ignore")),
    ({"gitsyncd.dev/hook-delete": "before"}, ("gitsyncd.dev/hook-delete", "hooks are not supported yet")),
    ({ARGO + "hook": "PreSync"}, (ARGO + "hook", "'PreSync'", "hooks are not supported yet")),
    ({ARGO + "hook": "Skip,PostSync"}, (ARGO + "hook", "hooks are not supported yet")),
    ({ARGO + "sync-wave": "early"}, (ARGO + "sync-wave", "'early'", "whole number")),
    ({"config.kubernetes.io/depends-on": "apps/web"}, ("config.kubernetes.io/depends-on", "'apps/web'")),
]


@pytest.mark.parametrize(("annotations", "words"), REFUSED, ids=[str(row[0])[:60] for row in REFUSED])
def test_a_bad_value_is_refused_by_name_value_and_what_to_write(
    annotations: dict[str, Any], words: tuple[str, ...]
) -> None:
    with pytest.raises(ManifestInvalid) as caught:
        controls(annotations)

    told = f"{caught.value.message} {caught.value.hint}"
    assert [word for word in words if word not in told] == []


LIVE: list[tuple[dict[str, Any], LiveControls]] = [
    ({}, LiveControls()),
    ({"gitsyncd.dev/reconcile": "disabled"}, LiveControls(reconcile_disabled=True)),
    ({"gitsyncd.dev/prune": "Disabled"}, LiveControls(prune_disabled=True)),
    ({"gitsyncd.dev/prune": "enabled", FLUX + "prune": "disabled"}, LiveControls()),
    ({FLUX + "reconcile": "disabled"}, LiveControls(reconcile_disabled=True)),
    ({ARGO + "sync-options": "Delete=confirm"}, LiveControls(prune_needs_approval=True)),
    ({"gitsyncd.dev/wave": "x", "gitsyncd.dev/prun": "disabled", ARGO + "hook": "PreSync"}, LiveControls()),
    ({"gitsyncd.dev/prune": ["disabled"]}, LiveControls()),
]


@pytest.mark.parametrize(("annotations", "expected"), LIVE, ids=[str(row[0]) for row in LIVE])
def test_a_live_object_is_read_leniently(annotations: dict[str, Any], expected: LiveControls) -> None:
    assert live_controls(annotations) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
known_names = st.sampled_from(sorted({row.annotation for row in EQUIVALENTS} | {"gitsyncd.dev/prune"}))


@given(annotations=json_values | st.dictionaries(known_names | st.text(), json_values))
def test_any_annotations_of_a_live_object_are_understood_or_passed_over(annotations: Any) -> None:
    assert isinstance(live_controls(annotations, labels=annotations), LiveControls)


@given(annotations=st.dictionaries(known_names | st.text(), json_values))
def test_annotations_in_git_give_controls_or_one_error(annotations: dict[str, Any]) -> None:
    try:
        outcome: object = controls(annotations)
    except ManifestInvalid as error:
        outcome = error

    assert isinstance(outcome, (Controls, ManifestInvalid))
