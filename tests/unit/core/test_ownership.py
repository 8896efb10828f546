"""Additions, blame and take-over on values. That a server does what follows from them is in tests/integration."""

from datetime import UTC, datetime
from typing import Any

import pytest

from gitsyncd.core.marks import LAST_APPLIED
from gitsyncd.core.ownership import additions, blame, needs_take_over, take_over, written_at
from gitsyncd.core.writers import WriterTable, is_client_side_tool
from gitsyncd.model.observed import Addition, Blame, Writer

MANAGER = "gitsyncd/edge"
TABLE = WriterTable.build()
EARLY, LATE = "2026-01-01T10:00:00Z", "2026-01-01T11:00:00Z"
AT_LATE = datetime(2026, 1, 1, 11, tzinfo=UTC)
WEB = 'k:{"name":"web"}'
OURS: Any = {
    "f:metadata": {"f:labels": {"f:app": {}}},
    "f:spec": {"f:args": {}, "f:containers": {WEB: {".": {}, "f:name": {}, "f:image": {}}}},
}


def entry(fields: Any, manager: str = "kubectl-edit", operation: str = "Update", time: str = LATE, **more: Any) -> Any:
    return {"manager": manager, "operation": operation, "apiVersion": "v1", "time": time, "fieldsV1": fields, **more}


def ours(fields: Any = OURS, **more: Any) -> Any:
    return entry(fields, MANAGER, "Apply", **{"time": EARLY, **more})


def live(*entries: Any, metadata: Any = None, **more: Any) -> Any:
    return {
        "metadata": {"labels": {"app": "a", "x": "1"}, "managedFields": list(entries), **(metadata or {})},
        "spec": {"args": {"a": 1}, "containers": [{"name": "web", "image": "i", "env": [{"name": "X"}]}, {"name": "side"}]},
        **more,
    }  # fmt: skip


def added(obj: Any) -> list[tuple[str, tuple[str, ...], bool]]:
    return [(found.manager, found.fields, found.keep) for found in additions(obj, MANAGER, TABLE)]


# --- Additions -------------------------------------------------------------------------------------------------------
def test_an_addition_tells_who_added_what_how_and_when() -> None:
    theirs = entry({"f:metadata": {"f:labels": {"f:app": {}, "f:x": {}}}})

    assert additions(live(ours(), theirs), MANAGER, TABLE) == (
        Addition(
            manager="kubectl-edit",
            writer=Writer.PERSON,
            operation="Update",
            at=AT_LATE,
            keys=(("f:metadata", "f:labels", "f:x"),),
            fields=(".metadata.labels.x",),
        ),
    )


SIDE: Any = {".": {}, "f:name": {}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"f:spec": {"f:containers": {'k:{"name":"side"}': SIDE}}}, ('.spec.containers[name="side"]',)),
        (
            {"f:spec": {"f:containers": {WEB: {"f:env": {".": {}, 'k:{"name":"X"}': SIDE}}}}},
            ('.spec.containers[name="web"].env',),
        ),
        (
            {"f:spec": {"f:containers": {WEB: {"f:env": {'k:{"name":"X"}': SIDE}}}}},
            ('.spec.containers[name="web"].env[name="X"]',),
        ),
        ({"f:metadata": {"f:labels": {".": {}, "f:x": {}}}}, (".metadata.labels.x",)),
        ({"f:metadata": {"f:labels": {"f:gone": {}}}}, ()),
        ({"f:spec": {"f:args": {"f:a": {}, "f:gone": {}}}}, (".spec.args.a",)),
        ({"f:spec": {"f:args": {}}}, ()),
        ({"f:spec": {"f:containers": {WEB: {"f:image": {}, "f:name": {}}}}}, ()),
        ({"f:spec": "no set"}, ()),
        ({"f:metadata": {"f:labels": {"f:x": "no set"}}}, (".metadata.labels.x",)),
        ("no set", ()),
        ({}, ()),
    ],
)
def test_an_addition_names_the_topmost_element_that_is_there_and_not_ours(fields: Any, expected: Any) -> None:
    found = added(live(ours(), entry(fields)))

    assert found == ([("kubectl-edit", expected, False)] if expected else [])


@pytest.mark.parametrize("subresource", ["status", "scale"])
def test_what_is_written_to_a_subresource_is_no_addition(subresource: str) -> None:
    assert added(live(ours(), entry({"f:metadata": {"f:labels": {"f:x": {}}}}, subresource=subresource))) == []


@pytest.mark.parametrize(
    "annotation",
    ["deployment.kubernetes.io/revision", "autoscaling.alpha.kubernetes.io/conditions", "pv.kubernetes.io/bound-by", "cloud.google.com/neg-status"],
)  # fmt: skip
def test_what_is_never_removed_is_no_addition(annotation: str) -> None:
    fields = {
        "f:status": {"f:ready": {}},
        "f:metadata": {
            "f:finalizers": {'v:"a/b"': {}},
            "f:ownerReferences": {".": {}, 'k:{"uid":"u"}': {}},
            "f:labels": {"f:kubernetes.io/metadata.name": {}},
            "f:annotations": {".": {}, f"f:{annotation}": {}, "f:other": {}},
        },
    }
    metadata = {
        "finalizers": ["a/b"],
        "ownerReferences": [{"uid": "u"}],
        "labels": {"kubernetes.io/metadata.name": "n"},
        "annotations": {annotation: "1", "other": "1"},
    }

    found = added(live(ours(), entry(fields), metadata=metadata, status={"ready": True}))

    assert found == [("kubectl-edit", (".metadata.annotations.other",), False)]


def test_a_restart_is_an_addition_that_is_kept() -> None:
    annotations: Any = {".": {}, "f:kubectl.kubernetes.io/restartedAt": {}, "f:mine": {}}
    fields = {"f:spec": {"f:template": {"f:metadata": {"f:annotations": annotations}}}}
    template = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now", "mine": "1"}}}

    found = added(live(ours(), entry(fields, "kubectl-rollout"), spec={"template": template}))

    assert found == [
        ("kubectl-rollout", (".spec.template.metadata.annotations.mine",), False),
        ("kubectl-rollout", (".spec.template.metadata.annotations.kubectl.kubernetes.io/restartedAt",), True),
    ]


def test_a_restart_that_git_asks_for_is_nobodys_addition() -> None:
    fields: Any = {"f:template": {"f:metadata": {"f:annotations": {"f:kubectl.kubernetes.io/restartedAt": {}}}}}
    template = {"metadata": {"annotations": {"kubectl.kubernetes.io/restartedAt": "now"}}}

    assert added(live(ours(fields), entry(fields, "kubectl-rollout"), template=template)) == []


def test_below_a_field_that_is_ours_as_a_whole_nobody_adds() -> None:
    # At another version of the kind the same field may be a map that is shared.
    theirs = {**entry({"f:spec": {"f:args": {"f:a": {}}}}), "apiVersion": "v1beta1"}

    assert added(live(ours(), theirs)) == []


def test_at_most_twenty_paths_are_named() -> None:
    names = [str(number) for number in range(50)]

    found = added(live(ours(), entry({"f:data": {f"f:{name}": {} for name in names}}), data=dict.fromkeys(names, "1")))

    assert [len(fields) for _, fields, _ in found] == [20]


# --- Blame -----------------------------------------------------------------------------------------------------------
IMAGE = '.spec.containers[name="web"].image'
LOST = {"f:metadata": OURS["f:metadata"]}
TOOK: Any = {"f:spec": {"f:containers": {WEB: {"f:image": {}}}}}
PERSON = Blame(manager="kubectl-edit", writer=Writer.PERSON, operation="Update", at=AT_LATE)
NOBODY = Blame(manager=None)


@pytest.mark.parametrize(
    ("entries", "changed", "expected"),
    [
        # who owns the field now, the most recent of several, however it was written
        ([ours(LOST), entry(TOOK)], [IMAGE], PERSON),
        ([ours(LOST), entry(TOOK, "helm", time=EARLY), entry(TOOK), entry({}, "curl")], [IMAGE], PERSON),
        ([ours(LOST), entry({"f:spec": {"f:containers": {}}})], [IMAGE], PERSON),
        ([ours(LOST), entry(TOOK)], ['.spec.containers[name="web"]'], PERSON),
        (
            [ours(LOST), entry({"f:spec": {"f:replicas": {}}}, "kubectl", subresource="scale")],
            [".spec.replicas"],
            Blame(manager="kubectl", writer=Writer.CONTROLLER, operation="Update", at=AT_LATE),
        ),
        # our own entry still owns it: another client used our name
        (
            [ours(), entry({}, "helm")],
            [IMAGE],
            Blame(manager=MANAGER, writer=Writer.US, operation="Apply", at=datetime(2026, 1, 1, 10, tzinfo=UTC)),
        ),
        # nobody owns it: whoever wrote last, if that was not before us
        ([ours(LOST), entry({"f:data": {}})], [IMAGE], PERSON),
        ([ours(LOST, time=LATE), entry({"f:data": {}}, time=EARLY)], [IMAGE], NOBODY),
        ([ours(LOST), entry({"f:status": {}}, "kubelet", subresource="status")], [IMAGE], NOBODY),
        ([ours(LOST)], [IMAGE], NOBODY),
        ([entry({"f:data": {}})], [IMAGE], PERSON),
        ([], [IMAGE], NOBODY),
        # only the ownership moved
        ([ours(LOST), entry(TOOK)], [], PERSON),
        ([ours()], [], NOBODY),
        # the order of a list: owning one of its elements proves nothing
        ([ours(time=LATE), entry({"f:spec": {"f:containers": {'k:{"name":"side"}': SIDE}}}, time=EARLY)], [".spec.containers"], NOBODY),
        # a name that begins alike is another field
        ([ours(LOST, time=LATE), entry({"f:spec": {"f:imagePull": {}}}, time=EARLY)], [".spec.image"], NOBODY),
        # odd entries
        ([ours(LOST), entry(TOOK, time="yesterday")], [IMAGE], Blame(manager="kubectl-edit", writer=Writer.PERSON, operation="Update")),
        ([ours(LOST), {"fieldsV1": TOOK, "manager": 7, "time": []}], [IMAGE], Blame(manager=None, writer=Writer.UNKNOWN)),
    ],
)  # fmt: skip
def test_blame_goes_to_whom_managed_fields_point_at(entries: Any, changed: Any, expected: Blame) -> None:
    assert blame(live(*entries), changed, MANAGER, TABLE) == expected


@pytest.mark.parametrize(
    ("time", "expected"),
    [
        (LATE, AT_LATE),
        ("2026-01-01T13:00:00+02:00", AT_LATE),
        ("2026-01-01T11:00:00", AT_LATE),
        ("0001-01-01T00:00:00+23:59", None),
        ("soon", None),
        (7, None),
        (None, None),
    ],
)
def test_times_are_read_in_utc_and_odd_ones_are_none(time: Any, expected: datetime | None) -> None:
    assert written_at({"time": time}) == expected


# --- Take-over -------------------------------------------------------------------------------------------------------
def test_the_entries_of_client_side_tools_become_part_of_ours() -> None:
    kept = entry({"f:metadata": {"f:labels": {"f:z": {}}}}, "helm")
    status = entry({"f:status": {}}, "kubectl-edit", subresource="status")
    obj = live(
        kept, ours(), entry({"f:data": {"f:a": {}}}), status, entry({"f:data": {"f:b": {}}}, "before-first-apply")
    )

    result = take_over(obj, MANAGER, is_client_side_tool)

    assert result == (kept, ours({**OURS, "f:data": {"f:a": {}, "f:b": {}}}), status)
    assert needs_take_over(obj, MANAGER, is_client_side_tool)


def test_without_an_entry_of_ours_one_is_made_at_the_version_and_time_of_the_newest() -> None:
    old = entry({"f:a": {}}, "kubectl-create", time=EARLY)

    result = take_over(live(old, entry({"f:b": {}})), MANAGER, is_client_side_tool)

    assert result == (
        {
            "manager": MANAGER,
            "operation": "Apply",
            "apiVersion": "v1",
            "time": LATE,
            "fieldsType": "FieldsV1",
            "fieldsV1": {"f:a": {}, "f:b": {}},
        },
    )


def test_what_is_never_removed_stays_with_its_owner() -> None:
    restarted: Any = {
        "f:template": {"f:metadata": {"f:annotations": {".": {}, "f:kubectl.kubernetes.io/restartedAt": {}}}}
    }
    theirs = entry(
        {
            "f:metadata": {
                "f:finalizers": {".": {}, 'v:"a"': {}},
                "f:annotations": {".": {}, f"f:{LAST_APPLIED}": {}, "f:deployment.kubernetes.io/revision": {}},
            },
            "f:spec": restarted,
        }
    )

    result = take_over(live(ours({}), theirs), MANAGER, is_client_side_tool)

    assert result == (
        ours({"f:metadata": {"f:annotations": {".": {}, f"f:{LAST_APPLIED}": {}}}}),
        {
            **theirs,
            "fieldsV1": {
                "f:metadata": {
                    "f:finalizers": {".": {}, 'v:"a"': {}},
                    "f:annotations": {"f:deployment.kubernetes.io/revision": {}},
                },
                "f:spec": restarted,
            },
        },
    )


def deep(levels: int) -> Any:
    fields: Any = {}
    for _ in range(levels):
        fields = {"f:a": fields}
    return fields


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [ours()],
        [ours(), entry({}, "helm")],
        [ours(), entry({"f:status": {}}, subresource="status")],
        [ours(), entry({})],
        [ours(), entry({"f:metadata": {"f:finalizers": {".": {}, 'v:"a"': {}}}})],
        [ours(), entry({"f:metadata": {"f:labels": {".": {}, "f:kubernetes.io/metadata.name": {}}}})],
        [ours(), {**entry({"f:data": {}}), "apiVersion": "v1beta1"}],
        [ours(), {**entry({"f:data": {}}), "apiVersion": None}],
        [ours(), entry(deep(10_000))],
        [ours(deep(10_000)), entry({"f:data": {}})],
        ["odd", None, 3],
    ],
)
def test_there_may_be_nothing_to_take(entries: Any) -> None:
    obj = live(*entries)

    assert take_over(obj, MANAGER, is_client_side_tool) is None
    assert not needs_take_over(obj, MANAGER, is_client_side_tool)


def test_a_second_take_over_finds_nothing() -> None:
    theirs = entry({"f:metadata": {"f:finalizers": {".": {}, 'v:"a"': {}}, "f:labels": {"f:x": {}}}})
    obj = live(ours(), theirs)

    obj["metadata"]["managedFields"] = list(take_over(obj, MANAGER, is_client_side_tool) or ())

    assert take_over(obj, MANAGER, is_client_side_tool) is None


def test_appliers_are_taken_over_when_asked_for_by_name() -> None:
    result = take_over(
        live(ours({}), entry({"f:data": {}}, "kubectl", "Apply")), MANAGER, lambda name, _: name == "kubectl"
    )

    assert result == (ours({"f:data": {}}),)
