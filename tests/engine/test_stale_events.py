"""What a watch says late, of the time before our own write, is no change."""

from typing import Any, cast

import orjson
import pytest

from gitsyncd.core.writers import WriterTable
from gitsyncd.edges.store import MemoryStore
from gitsyncd.engine.cluster_view import Claims, ClusterView, Feed
from gitsyncd.engine.trigger import Bell, Wake
from gitsyncd.model.answers import WatchEvent
from gitsyncd.model.ids import ObjectId, ObjectType
from gitsyncd.model.target import Agent
from gitsyncd.wiring import Silence, SystemClock

FEED = Feed(ObjectType(api_version="v1", kind="ConfigMap"))
SETTINGS = ObjectId(group="", kind="ConfigMap", namespace="web", name="settings")


@pytest.fixture
def view() -> ClusterView:
    """A view of no cluster in which the target `web` wants one ConfigMap."""
    agent = Agent(name="edge", state_dir=cast("Any", None), cluster_namespace="gitsyncd", socket=cast("Any", None))
    view = ClusterView(
        cast("Any", None),
        cast("Any", None),
        agent,
        writers=WriterTable.build(),
        clock=SystemClock(),
        log=Silence(),
        store=MemoryStore(),
    )
    view.bells["web"] = Bell()
    view.claim("web", Claims(ids=frozenset({SETTINGS})))
    return view


def live(version: str, color: str, manager: str) -> dict[str, Any]:
    owned = {
        "manager": manager,
        "operation": "Apply",
        "fieldsType": "FieldsV1",
        "fieldsV1": {"f:data": {"f:color": {}}},
    }
    metadata = {
        "name": "settings",
        "namespace": "web",
        "uid": "1",
        "resourceVersion": version,
        "managedFields": [owned],
    }
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"color": color}}


def event(body: dict[str, Any]) -> WatchEvent:
    metadata = body["metadata"]
    return WatchEvent(
        kind="MODIFIED",
        namespace="web",
        name="settings",
        uid="1",
        resource_version=metadata["resourceVersion"],
        object=orjson.dumps(body),
    )


def test_an_event_from_before_our_write_that_arrives_after_its_answer_changes_nothing(view: ClusterView) -> None:
    # given: somebody's change of 99 is put right, and the answer is 101
    view.writing(SETTINGS)
    view.wrote(SETTINGS, live("101", "blue", "gitsyncd/edge"), FEED.type)
    view.bells["web"].take()

    # when
    view.heard(FEED, event(live("100", "red", "kubectl-edit")))

    # then
    assert view.objects[SETTINGS].resource_version == "101"
    assert view.bells["web"].take() == Wake()


def test_an_event_that_was_held_back_while_we_wrote_is_dropped_when_the_answer_is_newer(view: ClusterView) -> None:
    # given: a write of two requests, of which the watch has told the first
    view.writing(SETTINGS)
    view.heard(FEED, event(live("100", "red", "gitsyncd/edge")))

    # when
    view.wrote(SETTINGS, live("101", "blue", "gitsyncd/edge"), FEED.type)

    # then
    assert view.objects[SETTINGS].resource_version == "101"
    assert view.take_news([SETTINGS]) == {}
    assert view.bells["web"].take() == Wake()


def test_an_event_of_a_later_time_is_heard_whatever_the_number_of_its_digits(view: ClusterView) -> None:
    # given
    view.writing(SETTINGS)
    view.wrote(SETTINGS, live("999", "blue", "gitsyncd/edge"), FEED.type)
    view.bells["web"].take()

    # when
    view.heard(FEED, event(live("1000", "red", "kubectl-edit")))

    # then
    assert view.objects[SETTINGS].resource_version == "1000"
    assert view.bells["web"].take() == Wake(ids=frozenset({SETTINGS}))
