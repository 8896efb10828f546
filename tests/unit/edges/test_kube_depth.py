"""Objects that are nested deeper than the JSON reader goes: one of them hides no other."""

from __future__ import annotations

import time

import orjson
import pytest

from gitsyncd.edges.kube.depth import DEEPEST, KEPT, loads, shallow
from gitsyncd.edges.kube.watch import parse_event

DEEP = b'{"a":[' * 2500 + b"1" + b"]}" * 2500
META = b'"metadata":{"name":"x","namespace":"web","uid":"u","resourceVersion":"7"}'


def test_what_can_be_read_is_left_alone() -> None:
    body = b"[" * DEEPEST + b"]" * DEEPEST

    assert shallow(body) is body
    assert orjson.dumps(loads(b'{"a":"[[{{\\"[","b":[1]}')) == b'{"a":"[[{{\\"[","b":[1]}'


def test_everything_but_what_lies_too_deep_is_read() -> None:
    body = b'{"items":[{"spec":' + DEEP + b"," + META + b'},{"v":"}]\\"' + b"[" * 2000 + b'"}],"z":1}'

    value = loads(body)

    assert value["z"] == 1
    assert value["items"][0]["metadata"]["name"] == "x"
    assert value["items"][1]["v"] == '}]"' + "[" * 2000
    assert depth_of(value) == KEPT


def depth_of(value: object) -> int:
    depth, level = 0, [value]
    while level := [x for x in level if isinstance(x, dict | list)]:
        depth += 1
        level = [y for x in level for y in (x.values() if isinstance(x, dict) else x)]
    return depth


@pytest.mark.parametrize("prefix", [b'{"type":"MODIFIED","object":', b'{"object":'])
def test_an_event_about_such_an_object_is_an_event(prefix: bytes) -> None:
    suffix = b"}" if b"type" in prefix else b',"type":"MODIFIED"}'
    line = prefix + b"{" + META + b',"spec":' + b'{"a":' * 3000 + b"1" + b"}" * 3000 + b"}" + suffix

    event = parse_event(line, "eu")

    assert event is not None
    assert (event.name, event.resource_version) == ("x", "7")
    assert orjson.loads(event.object)["metadata"]["uid"] == "u"


@pytest.mark.parametrize(
    "body",
    [b"[" * 5000, b"]" * 5000, b'"' * 5001 + b"[" * 5000, b"{" * 3000 + b"]" * 3000, b"\\" * 5000 + b"[" * 5000],
    ids=["open", "closed", "quotes", "crossed", "backslashes"],
)
def test_what_is_no_json_stays_none(body: bytes) -> None:
    with pytest.raises(orjson.JSONDecodeError):
        loads(body)


def test_cutting_takes_one_pass_whatever_the_bytes_are() -> None:
    begin = time.process_time()

    for body in (b'"\\' * 2_000_000 + b"[" * 5000, DEEP * 200, b"[" * 4_000_000):
        shallow(body)

    assert time.process_time() - begin < 10
