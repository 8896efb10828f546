"""Files that are no manifests: named with file and line, nothing of that target is written or pruned, the others go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from textwrap import dedent

import pytest

from tests.e2e.daemon import Json
from tests.e2e.fleet import Fleet, Slot, config_map

pytestmark = pytest.mark.real

LAUGHS = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 10)
)
GADGET = {
    "metadata": {"name": "gadgets.late.example.com"},
    "spec": {
        "group": "late.example.com",
        "names": {"kind": "Gadget", "plural": "gadgets"},
        "scope": "Namespaced",
        "versions": [
            {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {"type": "object"}}}
        ],
    },
}
WRONG: Mapping[str, tuple[str | bytes, int, str]] = {
    "a tab": ("apiVersion: v1\nkind: ConfigMap\nmetadata:\n\tname: a\n", 4, "tab"),
    "an open quote": ('apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "a}\n', 3, "quote"),
    "a key twice": ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: '1', x: '2'}\n", 4, "x"),
    "no kind": ("apiVersion: v1\nmetadata: {name: a}\n", 1, "`kind`"),
    "no name": ("apiVersion: v1\nkind: ConfigMap\nmetadata: {}\n", 1, "`metadata.name`"),
    "generateName": ("apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\n", 1, "`generateName`"),
    "a list at the top": ("- apiVersion: v1\n", 1, "mapping"),
    "bad second document": ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n---\nkind: }\n", 5, ""),
    "60 kB of brackets": ("[" * 30_000 + "]" * 30_000, 1, "nested"),
    "60 kB of braces": ("{" * 60_000, 1, "nested"),
    "60 kB of dashes": ("- " * 30_000, 1, "nested"),
    "laughing aliases": (LAUGHS, 6, "alias"),
    "an alias of itself": ("a: &a [*a]\n", 1, ""),
    "bytes that are no text": (b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: \xff\xfe}\n", 4, "UTF-8"),
    "a null byte": (b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {x: 'a\x00b'}\n", 4, ""),
    "5 MB": ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n" + "".join(
        f"  key-{number}: {'x' * 990}\n" for number in range(5_000)), 0, "may have 4 MiB"),
    "kustomize": ("resources: [a.yaml]\n", 1, "not supported yet"),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Broken:
    """What became of one target whose new commit has a file that is wrong, and of its next commit without that file."""

    file: str
    failure: Json
    target_failed: Json
    kept: bool
    """Whether the cluster was as before, after the failure."""
    written: int
    """Objects applied or pruned."""
    mended: bool


@pytest.fixture(scope="module")
def broken(fleet: Fleet) -> Mapping[str, Broken]:
    """All of them in the same two commits, which takes a few seconds in place of a minute."""
    slots = {name: fleet.slot() for name in WRONG}
    commit_to(slots, {"good.yaml": config_map("good", value="old"), "leaves.yaml": config_map("leaves")})
    for slot in slots.values():
        slot.event("target in sync", objects=2)
    commit_to(
        slots,
        {"good.yaml": config_map("good", value="new"), "leaves.yaml": None},
        {name: {file_of(name): content} for name, (content, _, _) in WRONG.items()},
    )
    found = {name: (slot.event("render failed"), slot.event("target failed")) for name, slot in slots.items()}
    kept = {name: value(slot, "good") == "old" and slot.live("leaves") is not None for name, slot in slots.items()}
    written = {name: len(slot.said("object applied") + slot.said("object pruned")) for name, slot in slots.items()}
    commit_to(slots, {}, {name: {file_of(name): None} for name in WRONG})
    for slot in slots.values():
        slot.event("target in sync", objects=1)
    mended = {name: value(slot, "good") == "new" and slot.live("leaves") is None for name, slot in slots.items()}
    return {
        name: Broken(f"{slot.name}/{file_of(name)}", *found[name], kept[name], written[name], mended[name])
        for name, slot in slots.items()
    }


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_named_with_its_line_and_its_target_keeps_what_it_has(
    broken: Mapping[str, Broken], name: str
) -> None:
    _, line, word = WRONG[name]
    case = broken[name]

    assert (case.failure["file"], case.failure["line"]) == (case.file, line)
    assert word in case.failure["error"]
    assert len(case.failure["error"]) < 400
    assert case.failure["remedy"] == "fix-repo"
    assert case.failure["hint"]
    assert case.target_failed["hint"] == case.failure["hint"]
    assert case.kept
    assert case.written == 0
    assert case.mended


def file_of(name: str) -> str:
    return "kustomization.yaml" if name == "kustomize" else "wrong.yaml"


def commit_to(
    slots: Mapping[str, Slot],
    files: Mapping[str, str | None],
    more: Mapping[str, Mapping[str, str | bytes | None]] | None = None,
) -> None:
    """One commit to several targets: the same files to each, and files of its own."""
    fleet = next(iter(slots.values())).fleet
    changes: dict[str, str | bytes | None] = {}
    for name, slot in slots.items():
        slot.since = fleet.daemon.now
        for file, content in {**files, **(more or {}).get(name, {})}.items():
            changes[f"{slot.name}/{file}"] = content
    fleet.repo.commit(changes)


def test_status_shows_the_file_the_line_and_the_fix(fleet: Fleet, slot: Slot) -> None:
    slot.commit({"wrong.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\n"})
    slot.event("target failed")

    ran = fleet.agent.run("status", slot.target)
    answer = fleet.agent.run("status", slot.target, "--output", "json")

    assert ran.code == answer.code == 1
    assert f"{slot.name}/wrong.yaml:1" in ran.stdout
    assert "fix: Give it a `metadata.name`." in ran.stdout
    (target,) = answer.json["targets"]
    assert target["state"] == "failed"
    assert [problem["remedy"] for problem in target["problems"]] == ["fix-repo"]


def test_the_same_object_twice_names_both_files(slot: Slot) -> None:
    slot.commit({"one.yaml": config_map("twin"), "two.yaml": f"# a comment\n{config_map('twin')}"})

    failure = slot.event("render failed")

    assert failure["file"] == f"{slot.name}/two.yaml"
    assert f"ConfigMap/{slot.namespace}/twin stands twice" in failure["error"]
    assert f"{slot.name}/one.yaml:1" in failure["error"]
    assert "Remove one" in failure["hint"]
    assert slot.live("twin") is None
    slot.commit({"two.yaml": None})
    slot.event("target in sync")


def test_the_same_object_twice_is_seen_when_one_of_them_names_the_default_namespace(slot: Slot) -> None:
    twin = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: twin, namespace: {slot.namespace}}}\n"
    slot.commit({"one.yaml": config_map("twin"), "two.yaml": twin})

    assert "stands twice" in slot.event("render failed")["error"]


def test_a_namespace_on_an_object_of_the_whole_cluster_is_told_with_the_fix(slot: Slot) -> None:
    slot.commit({"role.yaml": dedent("""\
        # on the third line of the file begins
        ---
        apiVersion: rbac.authorization.k8s.io/v1
        kind: ClusterRole
        metadata: {name: misplaced, namespace: web}
        """)})  # fmt: skip

    failure = slot.event("render failed")

    assert (failure["file"], failure["line"]) == (f"{slot.name}/role.yaml", 3)
    assert "ClusterRole" in failure["error"]
    assert "namespace" in failure["hint"]


def test_an_object_of_a_kind_that_nobody_knows_fails_alone(slot: Slot) -> None:
    slot.commit(
        {
            "good.yaml": config_map("good", value="1"),
            "strange.yaml": "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: strange}\n",
        }
    )

    failure = slot.event("object failed")

    assert failure["object"] == "Widget.example.com/strange"
    assert "Widget" in failure["error"]
    assert "example.com/v1" in failure["error"]
    assert failure["remedy"] == "fix-repo"
    assert "CustomResourceDefinition" in failure["hint"]
    slot.event("target failed", failed=1)
    again = slot.event("target failed", retry_s=lambda seconds: seconds > 1.5)
    assert "example.com/v1" in again["error"], "the second turn, which finds it on record, says the same"
    assert value(slot, "good") == "1"
    slot.commit({"strange.yaml": None})
    slot.event("target in sync", objects=1)


def test_an_object_of_an_unknown_kind_is_made_once_somebody_defines_the_kind(slot: Slot) -> None:
    slot.commit({"late.yaml": "apiVersion: late.example.com/v1\nkind: Gadget\nmetadata: {name: late}\n"})
    slot.event("object failed")

    slot.fleet.cluster.request("POST", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions", GADGET)

    applied = slot.event("object applied")
    assert applied["object"] == f"Gadget.late.example.com/{slot.namespace}/late"
    slot.event("target in sync", objects=1)


def test_lists_and_files_of_many_documents_give_all_their_objects(slot: Slot) -> None:
    items = ", ".join(config_map(f"listed-{number}") for number in range(2))
    slot.commit(
        {
            "list.yaml": f"apiVersion: v1\nkind: List\nitems: [{items}]\n",
            "typed.yaml": "apiVersion: v1\nkind: ConfigMapList\nitems:\n  - metadata: {name: typed}\n",
            "many.yaml": f"---\n# nothing but a comment\n---\n{config_map('first')}\n---\n{config_map('second')}\n---\n",
            "empty.yaml": "",
        }
    )

    slot.event("target in sync", objects=5)

    assert [name for name in ("listed-0", "listed-1", "typed", "first", "second") if slot.live(name) is None] == []


def test_a_hostile_file_under_one_target_does_not_hold_up_another(slots: Callable[[], Slot]) -> None:
    hostile, other = slots(), slots()
    other.commit({"good.yaml": config_map("good", value="1")})
    other.event("target in sync", objects=1)
    hostile.commit({"bomb.yaml": LAUGHS, "more.yaml": "[" * 60_000})
    hostile.event("render failed")

    edit(other, "good", value="edited")
    healed = other.event("drift reverted")
    other.commit({"good.yaml": config_map("good", value="2")})

    assert healed["object"] == f"ConfigMap/{other.namespace}/good"
    other.event("object applied", operation="updated")
    assert value(other, "good") == "2"


def value(slot: Slot, name: str) -> str | None:
    live = slot.live(name)
    return None if live is None else str(live["data"]["value"])


def edit(slot: Slot, name: str, **data: str) -> Json:
    """As a person would with kubectl."""
    cluster = slot.fleet.cluster
    path = f"/api/v1/namespaces/{slot.namespace}/configmaps/{name}?fieldManager=kubectl-edit"
    return dict(cluster.request("PATCH", path, {"data": data}, content_type="application/merge-patch+json"))
