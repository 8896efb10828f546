"""Fields that Git may name and others may own: what is sent for them."""

from typing import Any

import orjson
import pytest

from gitsyncd.core.ignore import is_yielded, keep_live

MANAGER = "gitsyncd/edge"


def entry(manager: str, fields: Any, operation: str = "Apply", **more: Any) -> Any:
    return {"manager": manager, "operation": operation, "apiVersion": "v1", "fieldsV1": fields, **more}


def live(spec: Any, *entries: Any) -> Any:
    return {"metadata": {"managedFields": list(entries)}, "spec": spec}


def sent(git: Any, obj: Any, *pointers: str) -> Any:
    return orjson.loads(keep_live(orjson.dumps({"spec": git}), obj, pointers, MANAGER))["spec"]


OURS = entry(MANAGER, {"f:spec": {"f:replicas": {}}})
AUTOSCALER = entry("kube-controller-manager", {"f:spec": {"f:replicas": {}}}, "Update", subresource="scale")


def test_a_field_that_somebody_else_owns_is_left_out() -> None:
    assert sent({"replicas": 1, "x": 1}, live({"replicas": 7}, AUTOSCALER), "/spec/replicas") == {"x": 1}


def test_a_field_that_we_own_together_is_left_out() -> None:
    assert sent({"replicas": 1}, live({"replicas": 7}, OURS, AUTOSCALER), "/spec/replicas") == {}


@pytest.mark.parametrize("owners", [[OURS], []], ids=["ours", "nobody's"])
def test_a_field_that_nobody_else_owns_is_sent_with_its_live_value(owners: list[Any]) -> None:
    assert sent({"replicas": 1}, live({"replicas": 7}, *owners), "/spec/replicas") == {"replicas": 7}


def test_a_field_that_git_gave_up_and_we_still_own_is_sent_so_that_it_does_not_fall_to_a_default() -> None:
    assert sent({}, live({"replicas": 7}, OURS), "/spec/replicas") == {"replicas": 7}


def test_a_field_that_git_does_not_name_and_we_do_not_own_is_not_claimed() -> None:
    assert sent({}, live({"replicas": 1}), "/spec/replicas") == {}


def test_a_field_that_is_not_live_is_left_out() -> None:
    assert sent({"replicas": 1, "x": 1}, live({}, OURS), "/spec/replicas") == {"x": 1}


def test_what_goes_by_our_name_without_being_our_apply_is_somebody_else() -> None:
    update = entry(MANAGER, {"f:spec": {"f:replicas": {}}}, "Update")

    assert sent({"replicas": 1}, live({"replicas": 7}, update), "/spec/replicas") == {}


def test_who_owns_something_below_the_field_owns_the_field() -> None:
    theirs = entry("other", {"f:spec": {"f:strategy": {"f:type": {}}}})

    assert sent({"strategy": {"type": "a"}}, live({"strategy": {"type": "b"}}, theirs), "/spec/strategy") == {}


def test_slashes_and_tildes_are_escaped_as_in_rfc_6901() -> None:
    assert sent({"a/b~c": 1, "a": {"b~c": 2}}, live({"a/b~c": 3, "a": {"b~c": 4}}), "/spec/a~1b~0c") == {
        "a/b~c": 3, "a": {"b~c": 2},
    }  # fmt: skip


def test_items_of_lists_are_named_by_position() -> None:
    assert sent({"args": ["a", "b"]}, live({"args": ["x", "y"]}), "/spec/args/1") == {"args": ["a", "y"]}


@pytest.mark.parametrize("pointers", [("/spec/args/0", "/spec/args/2"), ("/spec/args/2", "/spec/args/0")])
def test_leaving_out_one_item_does_not_move_the_others(pointers: tuple[str, ...]) -> None:
    assert sent({"args": ["a", "b", "c", "d"]}, live({}), *pointers) == {"args": ["b", "d"]}


def test_a_pointer_given_twice_counts_once() -> None:
    assert sent({"args": ["a", "b"]}, live({}), "/spec/args/0", "/spec/args/0") == {"args": ["b"]}


@pytest.mark.parametrize(
    "pointer", ["", "/spec/missing/deep", "/spec/replicas/deep", "/spec/args/9", "/spec/args/x", "/spec/args/-", "spec"]
)
def test_a_pointer_to_nothing_changes_nothing(pointer: str) -> None:
    git = {"replicas": 1, "args": ["a"]}

    assert sent(git, live({"replicas": 7, "args": ["b"]}), pointer) == git


@pytest.mark.parametrize("broken", [{}, {"metadata": None}, {"metadata": {"managedFields": "x"}}, {"spec": [1]}])
def test_a_live_object_of_any_shape_is_no_error(broken: Any) -> None:
    assert sent({"replicas": 1}, broken, "/spec/replicas") == {}


@pytest.mark.parametrize(
    ("path", "pointer", "yielded"),
    [
        (("f:spec", "f:replicas"), "/spec/replicas", True),
        (("f:spec", "f:strategy", "f:type"), "/spec/strategy", True),
        (("f:spec", "f:strategy"), "/spec/strategy/type", False),
        (("f:metadata", "f:annotations", "f:a/b~c"), "/metadata/annotations/a~1b~0c", True),
        (("f:spec", "f:replicasets"), "/spec/replicas", False),
        (("f:spec", "f:replicas"), "", False),
    ],
)
def test_a_field_may_be_owned_by_others_where_a_pointer_names_it_or_what_holds_it(
    path: tuple[str, ...], pointer: str, yielded: bool
) -> None:
    assert is_yielded(path, ["/other", pointer]) is yielded
