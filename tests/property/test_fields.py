"""Promises about sets of fields and live objects that hold for everything, hostile input included."""

import json
from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gitsyncd.core.fields import (
    EXISTENCE,
    changed_paths,
    changed_values,
    digest,
    entry_hash,
    leaves,
    own_fields,
    paths,
    project,
    projection_hash,
    same,
    union,
)
from gitsyncd.core.observe import observe
from gitsyncd.core.ownership import additions, blame, take_over
from gitsyncd.core.redact import redact_values
from gitsyncd.core.writers import WriterTable

MANAGER = "gitsyncd/edge"
TABLE = WriterTable.build()

_scalars = st.none() | st.booleans() | st.integers(-3, 3) | st.floats(allow_nan=False) | st.text(max_size=4)
_names = st.sampled_from(["a", "b", "name", "metadata", "spec", "annotations", "labels", "finalizers", "managedFields"])
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_names | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)
_elements = st.sampled_from(
    [".", "f:a", "f:b", "f:name", "f:spec", "f:metadata", "f:annotations", "f:labels", "f:finalizers", 'k:{"name":"x"}', 'k:{"name":1}',
     'k:{"name":true,"a":null}', 'v:"x"', "v:1", 'v:{"a":[1]}', "i:0", "i:1"]
)  # fmt: skip
_odd_elements = _elements | st.text(max_size=6) | st.sampled_from(["k:[", "k:{}", "v:", "i:x", "i:true", "f", "k:7"])


def _sets(elements: st.SearchStrategy[str], leaf: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(leaf, lambda inner: st.dictionaries(elements, inner, max_size=4), max_leaves=10)


def _well_formed(fields: Any) -> Any:
    """A dot is always a leaf, and never alone: what a server writes."""
    return {
        key: {} if key == "." else _well_formed(below)
        for key, below in fields.items()
        if key != "." or len(fields) > 1
    }  # fmt: skip


_fields = st.dictionaries(_elements.filter(lambda key: key != "."), _sets(_elements, st.just({})), max_size=4).map(
    _well_formed
)
_entries = st.fixed_dictionaries(
    {},
    optional={
        "manager": st.sampled_from([MANAGER, "kubectl-edit", "helm", "x"]) | _values,
        "operation": st.sampled_from(["Apply", "Update"]) | _values,
        "apiVersion": st.sampled_from(["v1", "v2"]) | _values,
        "subresource": st.sampled_from(["", "status"]) | _values,
        "time": st.sampled_from(["2026-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59"]) | _values,
        "fieldsV1": _sets(_odd_elements, st.just({}) | _values),
    },
)
_objects = st.builds(
    lambda body, metadata, entries: {**body, "metadata": {**metadata, "managedFields": entries}},
    st.dictionaries(_names, _values, max_size=4),
    st.dictionaries(_names, _values, max_size=3),
    st.lists(_entries | _values, max_size=4),
)
_hostile = _objects | st.dictionaries(_names, _values) | _values


def _object(value: Any, *entries: Any) -> dict[str, Any]:
    return {"metadata": {"managedFields": list(entries)}, "spec": value}


def _entry(fields: Any, manager: str = MANAGER, operation: str = "Apply") -> dict[str, Any]:
    return {"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsV1": fields}


def _members(fields: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    """A set, spelled out: a leaf names itself, a dot names what it stands in."""
    found: set[tuple[str, ...]] = set()
    for key, below in fields.items():
        if key == ".":
            found.add(prefix)
        elif not below:
            found.add((*prefix, key))
        else:
            found |= _members(below, (*prefix, key))
    return found


@given(obj=_hostile, other=_hostile)
def test_no_json_makes_anything_here_raise(obj: Any, other: Any) -> None:
    observed = observe(obj, manager=MANAGER, table=TABLE, key=b"k")
    changes = changed_values(obj, other, MANAGER, include_removed=True)
    redact_values("", "Secret", changes)
    blame(obj, [change.path for change in changes], MANAGER, TABLE)
    taken = take_over(obj, MANAGER, lambda name, operation: True)

    assert observed.entry_hash == entry_hash(obj, MANAGER)
    assert observed.additions == additions(obj, MANAGER, TABLE)
    assert taken is None or json.dumps(taken)


@given(obj=_hostile)
def test_an_object_does_not_differ_from_itself(obj: Any) -> None:
    assert changed_paths(obj, obj, MANAGER, include_removed=True) == ()


@given(value=_values, other=_values, fields=_fields)
def test_the_projection_moves_exactly_when_a_path_can_be_named(value: Any, other: Any, fields: Any) -> None:
    before, after = _object(value, _entry({"f:spec": fields})), _object(other, _entry({"f:spec": fields}))

    moved = projection_hash(before, MANAGER) != projection_hash(after, MANAGER)
    named = changed_paths(before, after, MANAGER)

    assert moved == bool(named)


@given(value=_values, fields=_fields)
def test_a_projection_depends_on_nothing_but_values(value: Any, fields: Any) -> None:
    copied = json.loads(json.dumps(value))

    assert digest(project(value, fields)) == digest(project(copied, fields))


@given(left=_fields, right=_fields)
def test_a_union_names_exactly_what_one_of_the_sets_names(left: Any, right: Any) -> None:
    assert _members(union(left, right)) == _members(left) | _members(right)


@given(left=_fields, right=_fields)
def test_union_does_not_care_which_comes_first(left: Any, right: Any) -> None:
    assert same(union(left, right), union(right, left))
    assert same(union(left, left), left)
    assert same(union(left, {}), left)


@given(fields=_fields)
def test_every_leaf_has_its_path(fields: Any) -> None:
    assert len(list(paths(fields))) == len(list(leaves(fields))) == len(set(leaves(fields)))


@given(value=_values, ours=_fields)
def test_what_we_own_is_never_said_to_be_added_by_others(value: Any, ours: Any) -> None:
    obj = _object(
        value, _entry({"f:spec": ours}), _entry({"f:spec": ours}, "curl", "Update")
    )  # fmt: skip

    assert additions(obj, MANAGER, TABLE) == ()


@given(value=_values, ours=_fields, theirs=_fields)
def test_after_a_take_over_nothing_is_added_any_more_and_no_field_is_lost(value: Any, ours: Any, theirs: Any) -> None:
    obj = _object(value, _entry({"f:spec": ours}), _entry({"f:spec": theirs}, "curl", "Update"))

    taken = take_over(obj, MANAGER, lambda name, operation: name == "curl")

    entries = obj["metadata"]["managedFields"] if taken is None else list(taken)
    after = _object(value, *entries)
    named = set().union(*(_members(entry["fieldsV1"]) for entry in entries))
    assert additions(after, MANAGER, TABLE) == ()
    assert named == _members({"f:spec": ours}) | _members({"f:spec": theirs})


@given(value=_values, fields=_fields)
def test_existence_alone_says_nothing_about_what_is_inside(value: Any, fields: Any) -> None:
    theirs = {"f:spec": {**fields, "f:a": {}}}
    obj = _object({"a": value}, _entry({"f:spec": {}}), _entry(theirs, "x", "Update"))

    assert own_fields(obj, MANAGER) == {"f:spec": EXISTENCE}
