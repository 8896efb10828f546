"""Lines of a watch: cut out cheaply, trusted in nothing."""

from __future__ import annotations

import json

import orjson
import pytest

from gitsyncd.edges.kube.watch import parse_event
from gitsyncd.model.answers import WatchEvent
from gitsyncd.model.errors import ClusterError, ClusterUnreachable, Expired

OBJECT = (
    b'{"kind":"ConfigMap","metadata":{"name":"a","namespace":"web","uid":"u","resourceVersion":"7"},"data":{"k":"}"}}'
)


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED", "DELETED"])
def test_an_event_carries_identity_and_the_object_as_it_came(kind: str) -> None:
    event = parse_event(b'{"type":"%s","object":%s}' % (kind.encode(), OBJECT), "eu")

    assert event == WatchEvent(kind=kind, namespace="web", name="a", uid="u", resource_version="7", object=OBJECT)


@pytest.mark.parametrize(
    "line",
    [b'{"object":%s,"type":"ADDED"}', b'{ "type": "ADDED", "object": %s }', b'{"type":"ADDED","object":%s,"more":1}'],
)
def test_an_event_written_otherwise_carries_the_same_object(line: bytes) -> None:
    event = parse_event(line % OBJECT, "eu")

    assert event is not None
    assert orjson.loads(event.object) == orjson.loads(OBJECT)


def test_a_bookmark_has_a_version_only() -> None:
    event = parse_event(b'{"type":"BOOKMARK","object":{"kind":"ConfigMap","metadata":{"resourceVersion":"9"}}}', "eu")

    assert event == WatchEvent(kind="BOOKMARK", namespace="", name="", uid="", resource_version="9", object=b"")


@pytest.mark.parametrize(
    ("code", "error"), [(410, Expired), (500, ClusterError), ("x", ClusterError), (None, ClusterError)]
)
def test_an_error_event_is_raised_as_what_it_stands_for(code: object, error: type[ClusterError]) -> None:
    status = {"kind": "Status", "code": code, "message": "too old resource version"}

    with pytest.raises(error) as caught:
        parse_event(json.dumps({"type": "ERROR", "object": status}).encode(), "eu")

    assert type(caught.value) is error


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b"5",
        b'"x"',
        b"null",
        b"{}",
        b'{"type":"ADDED"}',
        b'{"type":"ADDED","object":null}',
        b'{"type":[],"object":{}}',
        b'{"type":"ERROR","object":7}',
        b'{"type":"ADDED","object":{"metadata":{"name":"a"}}}',
        b"\xff\xfe",
    ],
)
def test_a_line_that_is_no_event_is_an_error_of_ours(line: bytes) -> None:
    with pytest.raises(ClusterUnreachable):
        parse_event(line, "eu")


def test_an_empty_line_is_nothing() -> None:
    assert parse_event(b"", "eu") is None
