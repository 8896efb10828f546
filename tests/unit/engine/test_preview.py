"""Which fields of an object that is taken over count as additions, in `gitsyncd diff`."""

from typing import Any

import pytest

from gitsyncd.engine.preview import is_named

GIT: dict[str, Any] = {
    "spec": {"replicas": 2, "selector": {"app": "x"}, "containers": [{"name": "c", "image": "i:2"}]},
}
LIVE: dict[str, Any] = {
    "spec": {"replicas": 1, "selector": {"app": "x"}, "paused": True, "containers": [{"name": "c", "image": "i:1"}]},
}


@pytest.mark.parametrize(
    ("keys", "named"),
    [
        (("f:spec", "f:replicas"), True),
        (("f:spec", "f:selector"), True),
        (("f:spec", "f:paused"), False),
        (("f:spec", "f:containers", 'k:{"name":"c"}', "f:image"), True),
        (("f:spec", "f:containers", 'k:{"name":"c"}'), False),
    ],
    ids=["another value in Git", "the same map in Git", "not in Git", "a leaf of a list item", "an item that differs"],
)
def test_what_git_names_itself_is_no_addition(keys: tuple[str, ...], named: bool) -> None:
    assert is_named(GIT, LIVE, keys) is named
