"""Reading, projecting, comparing and naming sets of fields. What only a server can say is in tests/integration."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from gitsyncd.core.fields import (
    changed_paths,
    changed_values,
    entry_hash,
    our_entry,
    own_fields,
    path_text,
    paths,
    project,
    projection_hash,
    same,
    union,
)

MANAGER = "gitsyncd/edge"
OURS: Any = {
    "f:metadata": {"f:labels": {"f:app": {}}},
    "f:spec": {
        "f:selector": {},
        "f:containers": {
            'k:{"name":"web"}': {
                ".": {}, "f:name": {}, "f:image": {}, "f:ports": {'k:{"containerPort":80,"protocol":"TCP"}': {".": {}, "f:containerPort": {}}},
            },
            'k:{"name":"log"}': {".": {}, "f:name": {}},
        },
        "f:finalizers": {'v:"a"': {}, 'v:"b"': {}},
    },
}  # fmt: skip


def entry(fields: Any, manager: str = MANAGER, operation: str = "Apply", **more: Any) -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "apiVersion": "apps/v1", "fieldsV1": fields, **more}


def live(*entries: Any, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"labels": {"app": "front", "theirs": "1"}, "managedFields": list(entries)},
        "spec": {
            "selector": {"matchLabels": {"app": "front"}},
            "containers": [
                {"name": "web", "image": "nginx:1", "ports": [{"containerPort": 80, "protocol": "TCP", "name": "http"}]},
                {"name": "log", "image": "not ours"},
            ],
            "finalizers": ["b", "a", "theirs"],
            **spec,
        },
    }  # fmt: skip


@pytest.mark.parametrize(
    "other",
    [
        entry({}, manager="gitsyncd/other"),
        entry({}, operation="Update"),
        entry({}, subresource="status"),
        "no entry at all",
        None,
        {"manager": [MANAGER], "operation": {"Apply": 1}},
    ],
)
def test_only_applies_of_our_manager_to_the_object_itself_are_our_entry(other: Any) -> None:
    ours = entry(OURS)

    assert our_entry(live(other, ours), MANAGER) is ours
    assert our_entry(live(other), MANAGER) is None
    assert projection_hash(live(other), MANAGER) == entry_hash(live(other), MANAGER) == ""


def test_a_projection_holds_what_the_set_names_and_nothing_else() -> None:
    assert project(live(), OURS) == {
        "metadata": {"labels": {"app": "front"}},
        "spec": {
            "selector": {"matchLabels": {"app": "front"}},
            "containers": [
                [
                    'k:{"name":"web"}',
                    {
                        "name": "web",
                        "image": "nginx:1",
                        "ports": [['k:{"containerPort":80,"protocol":"TCP"}', {"containerPort": 80}]],
                    },
                ],
                ['k:{"name":"log"}', {"name": "log"}],
            ],
            "finalizers": ['v:"a"', 'v:"b"'],
        },
    }


def test_the_entry_hash_forgets_the_time_and_the_order_of_keys_and_nothing_else() -> None:
    shuffled = {key: OURS[key] for key in reversed(OURS)}

    assert entry_hash(live(entry(OURS, time="2026-01-01T00:00:00Z")), MANAGER) == entry_hash(
        live(entry(shuffled)), MANAGER
    )
    assert entry_hash(live(entry(OURS)), MANAGER) != entry_hash(live(entry({**OURS, "f:data": {}})), MANAGER)
    assert entry_hash(live(entry(OURS)), MANAGER) != entry_hash(live({**entry(OURS), "apiVersion": "apps/v2"}), MANAGER)


CONTAINERS = live()["spec"]["containers"]


@pytest.mark.parametrize(
    ("spec", "moves"),
    [
        ({"replicas": 7}, False),
        ({"containers": [*CONTAINERS, {"name": "side"}]}, False),
        ({"containers": [CONTAINERS[0], {"name": "side"}, CONTAINERS[1]]}, False),
        ({"containers": [CONTAINERS[0], {**CONTAINERS[1], "image": "another"}]}, False),
        ({"finalizers": ["a", "b"]}, False),
        ({"finalizers": ["a"]}, True),
        ({"containers": [CONTAINERS[1], CONTAINERS[0]]}, True),
        ({"containers": [{**CONTAINERS[0], "image": "nginx:2"}, CONTAINERS[1]]}, True),
        ({"containers": [CONTAINERS[0]]}, True),
        ({"containers": [*CONTAINERS, CONTAINERS[1]]}, True),
        ({"containers": {"web": 1}}, True),
        ({"containers": "none"}, True),
        ({"containers": None}, True),
        ({"selector": {"matchLabels": {"app": "front", "more": "1"}}}, True),
        ({"selector": None}, True),
    ],
)
def test_the_projection_moves_exactly_when_something_of_ours_does(spec: Mapping[str, Any], moves: bool) -> None:
    before = projection_hash(live(entry(OURS)), MANAGER)

    after = projection_hash(live(entry(OURS), **spec), MANAGER)

    assert (after != before) is moves


def test_a_key_makes_another_hash_of_the_same_fields_whatever_its_length() -> None:
    obj = live(entry(OURS))

    hashes = {projection_hash(obj, MANAGER, key) for key in (b"", b"a", b"b", b"k" * 64, b"k" * 65, b"k" * 500)}

    assert len(hashes) == 6
    assert all(len(found) == 32 for found in hashes)


def test_one_and_true_are_not_the_same_value() -> None:
    assert [same(1, True), same([0], [False]), same({"a": 1}, {"a": 1}), same(None, None)] == [False, False, True, True]


def test_keys_of_list_elements_are_found_whatever_their_type() -> None:
    items = {"l": [{"id": 1}, {"id": True}, {"id": "1"}, {"id": None}, {"id": {"a": [1]}}, {"id": [1]}, {}, 3]}

    found = {
        text: project(items, {"f:l": {f'k:{{"id":{text}}}': {}}})["l"] for text in ("1", "true", '"1"', '{"a":[1]}')
    }

    assert found == {
        "1": [['k:{"id":1}', {"id": 1}]],
        "true": [['k:{"id":true}', {"id": True}]],
        '"1"': [['k:{"id":"1"}', {"id": "1"}]],
        '{"a":[1]}': [['k:{"id":{"a":[1]}}', {"id": {"a": [1]}}]],
    }


def test_an_empty_map_of_ours_to_which_others_add_stays_as_it_was() -> None:
    ours = entry({"f:spec": {"f:emptyDir": {}}})
    theirs = entry({"f:spec": {"f:emptyDir": {"f:medium": {}}}}, manager="them", operation="Update")
    another_version = {**theirs, "apiVersion": "apps/v1beta1"}

    empty = projection_hash(live(ours, emptyDir={}), MANAGER)

    assert projection_hash(live(ours, theirs, emptyDir={"medium": "Memory"}), MANAGER) == empty
    assert projection_hash(live(ours, emptyDir={"medium": "Memory"}), MANAGER) != empty
    assert projection_hash(live(ours, another_version, emptyDir={"medium": "Memory"}), MANAGER) != empty
    assert own_fields(live(ours, theirs), MANAGER) == {"f:spec": {"f:emptyDir": {".": {}}}}


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ((), "."),
        (("f:spec", "f:replicas"), ".spec.replicas"),
        (("f:metadata", "f:labels", "f:app.kubernetes.io/name"), ".metadata.labels.app.kubernetes.io/name"),
        (("f:a", 'k:{"name":"c"}', "f:image"), '.a[name="c"].image'),
        (("f:a", 'k:{"protocol":"TCP","port":80}'), '.a[port=80,protocol="TCP"]'),
        (("f:a", 'v:"x.y/z"'), '.a[="x.y/z"]'),
        (("f:a", "v:3"), ".a[=3]"),
        (("f:a", "v:true"), ".a[=true]"),
        (("f:a", "v:null"), ".a[=null]"),
        (("f:a", "v:1.5"), ".a[=1.5]"),
        (("f:a", "i:3"), ".a[3]"),
        (
            ("f:a", "v:" + json.dumps('q"\\\n\x07\x01é\u200b\U000e0001')),
            '.a[="q\\"\\\\\\n\\a\\x01é\\u200b\\U000e0001"]',
        ),
        (("f:a", "k:{not json"), ".a{{invalid path element}}"),
        (("f:a", "k:[1]"), ".a{{invalid path element}}"),
        (("f:a", "what"), ".a{{invalid path element}}"),
        (("f:" + "x" * 2000,), "." + "x" * 999 + "…"),
    ],
)
def test_paths_are_written_as_the_api_server_writes_them(keys: tuple[str, ...], text: str) -> None:
    assert path_text(keys) == text


def test_the_leaves_of_a_set_are_its_paths() -> None:
    assert list(paths(OURS)) == [
        ".metadata.labels.app",
        ".spec.selector",
        '.spec.containers[name="web"].name',
        '.spec.containers[name="web"].image',
        '.spec.containers[name="web"].ports[containerPort=80,protocol="TCP"].containerPort',
        '.spec.containers[name="log"].name',
        '.spec.finalizers[="a"]',
        '.spec.finalizers[="b"]',
    ]


@pytest.mark.parametrize(
    ("left", "right", "both"),
    [
        ({}, {"f:a": {}}, {"f:a": {}}),
        ({"f:a": {}}, {"f:b": {}}, {"f:a": {}, "f:b": {}}),
        ({"f:a": {}}, {"f:a": {"f:b": {}}}, {"f:a": {".": {}, "f:b": {}}}),
        ({"f:a": {"f:b": {}}}, {"f:a": {}}, {"f:a": {".": {}, "f:b": {}}}),
        ({"f:a": {"f:b": {}}}, {"f:a": {"f:c": {}}}, {"f:a": {"f:b": {}, "f:c": {}}}),
        ({"f:a": {".": {}}}, {"f:a": {"f:b": {}}}, {"f:a": {".": {}, "f:b": {}}}),
        ({"f:a": {'k:{"n":1}': {".": {}}}}, {"f:a": {'k:{"n":1}': {"f:x": {}}, 'v:"s"': {}}}, {"f:a": {'k:{"n":1}': {".": {}, "f:x": {}}, 'v:"s"': {}}}),
    ],
)  # fmt: skip
def test_a_union_names_what_either_set_names(left: Any, right: Any, both: Any) -> None:
    before = json.dumps([left, right])

    assert union(left, right) == both
    assert json.dumps([left, right]) == before


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, ()),
        ({"replicas": 7}, ()),
        ({"containers": [{**CONTAINERS[0], "image": "x"}, CONTAINERS[1]]}, ('.spec.containers[name="web"].image',)),
        ({"containers": [CONTAINERS[0]]}, ('.spec.containers[name="log"]',)),
        ({"containers": [CONTAINERS[1], CONTAINERS[0]]}, (".spec.containers",)),
        ({"containers": None}, (".spec.containers",)),
        ({"finalizers": ["a"]}, ('.spec.finalizers[="b"]',)),
        ({"selector": {}}, (".spec.selector",)),
    ],
)
def test_what_differs_is_named_once_at_its_top(spec: Mapping[str, Any], expected: tuple[str, ...]) -> None:
    assert changed_paths(live(entry(OURS), **spec), live(entry(OURS)), MANAGER) == expected
    assert changed_paths(live(entry(OURS)), live(entry(OURS), **spec), MANAGER) == expected


def test_fields_whose_ownership_was_lost_are_compared_too() -> None:
    before = live(entry({"f:spec": {"f:selector": {}}}), containers=[{"name": "web", "image": "theirs"}])

    changed = changed_paths(before, live(entry(OURS)), MANAGER)

    assert changed == (
        '.spec.containers[name="web"].image',
        '.spec.containers[name="web"].ports',
        '.spec.containers[name="log"]',
    )


def test_fields_that_others_added_and_that_went_are_named_when_asked_for() -> None:
    theirs = entry(
        {"f:metadata": {"f:labels": {"f:theirs": {}}}, "f:spec": {"f:replicas": {}}}, "them", "Update"
    )  # fmt: skip
    status = entry({"f:spec": {"f:scaled": {}}}, "them", "Update", subresource="scale")
    before = live(entry(OURS), theirs, status, replicas=3, scaled=1)
    after = live(entry(OURS), replicas=4)
    del after["metadata"]["labels"]["theirs"]

    assert changed_paths(before, after, MANAGER) == ()
    assert changed_paths(before, after, MANAGER, include_removed=True) == (".metadata.labels.theirs",)


def test_values_of_both_sides_come_with_the_path() -> None:
    before, after = live(entry(OURS), containers=CONTAINERS[:1]), live(entry(OURS), selector={"a": 1})

    found = [(change.path, change.before, change.after) for change in changed_values(before, after, MANAGER)]

    assert found == [
        (".spec.selector", {"matchLabels": {"app": "front"}}, {"a": 1}),
        ('.spec.containers[name="log"]', None, CONTAINERS[1]),
    ]


def test_at_most_as_many_paths_are_named_as_asked_for() -> None:
    fields: Any = {"f:data": {f"f:{number}": {} for number in range(50)}}
    before: Any = {"metadata": {"managedFields": [entry(fields)]}, "data": {str(number): "a" for number in range(50)}}
    after = {**before, "data": {str(number): "b" for number in range(50)}}

    assert len(changed_paths(before, after, MANAGER)) == 20
    assert len(changed_paths(before, after, MANAGER, limit=3)) == 3


@pytest.mark.parametrize("nothing", [None, [], "text"])
def test_without_an_object_on_both_sides_nothing_differs(nothing: Any) -> None:
    assert changed_paths(nothing, live(entry(OURS)), MANAGER) == ()
    assert changed_paths(live(entry(OURS)), nothing, MANAGER) == ()


def nested(depth: int, key: str) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {key: value}
    return value


def test_nesting_without_end_neither_overflows_nor_hides_a_change() -> None:
    depth = 50_000
    ours = entry(nested(depth, "f:a"))
    one = {"metadata": {"managedFields": [ours]}, **nested(depth, "a")}
    other = {"metadata": {"managedFields": [ours]}, **nested(depth + 1, "a")}

    assert projection_hash(one, MANAGER) != projection_hash(other, MANAGER)
    assert entry_hash(one, MANAGER) == entry_hash(other, MANAGER) != ""
    assert changed_paths(one, one, MANAGER) == ()
    assert len(changed_paths(one, other, MANAGER)) == 1
    assert len(list(paths(nested(depth, "f:a")))) == 1


def test_a_list_of_many_elements_is_projected_in_one_pass() -> None:
    # 20,000 x 20,000 comparisons would take minutes, and the test's timeout with them.
    names = [f"n{number}" for number in range(20_000)]
    fields: Any = {"f:l": {f'k:{{"name":"{name}"}}': {"f:name": {}} for name in names}}
    obj: Any = {"metadata": {"managedFields": [entry(fields)]}, "l": [{"name": name} for name in names]}

    assert len(project(obj, fields)["l"]) == 20_000
    assert changed_paths(obj, {**obj, "l": obj["l"][1:]}, MANAGER) == ('.l[name="n0"]',)


def test_a_set_with_many_shapes_of_keys_takes_the_list_as_a_whole() -> None:
    fields: Any = {"f:l": {f'k:{{"k{number}":1}}': {} for number in range(10)}}

    assert project({"l": [{"k1": 1}, {"other": 2}]}, fields) == {"l": [{"k1": 1}, {"other": 2}]}


def test_a_field_that_two_others_added_is_named_once_when_it_goes() -> None:
    theirs = [entry({"f:spec": {"f:replicas": {}}}, name, "Update") for name in ("one", "two")]

    changed = changed_paths(live(entry(OURS), *theirs, replicas=3), live(entry(OURS)), MANAGER, include_removed=True)

    assert changed == (".spec.replicas",)
