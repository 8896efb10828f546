"""What of the agent file a running daemon takes up."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from gitsyncd.core.reload import unchangeable
from gitsyncd.model.target import Agent, Listen, LogFormat, Webhook

BEFORE = Agent(name="edge", state_dir=Path("/a"), cluster_namespace="gitsyncd", socket=Path("/a/s"))

OTHER: dict[str, Any] = {
    "name": "core",
    "state_dir": Path("/b"),
    "cluster_namespace": "elsewhere",
    "socket": Path("/b/s"),
    "http": Listen(host="127.0.0.1", port=9481),
    "webhook": Webhook(listen=Listen(host="127.0.0.1", port=9482)),
    "log_level": "debug",
    "log_format": LogFormat.JSON,
    "shares": True,
}
TAKEN_UP: dict[str, Any] = {
    "writers": {"person": ("k9s",)},
    "exec_plugins": (Path("/usr/bin/login"),),
}


def test_of_every_key_it_is_known_whether_it_can_change() -> None:
    assert {field.name for field in fields(Agent)} == OTHER.keys() | TAKEN_UP.keys()


@pytest.mark.parametrize("name", OTHER)
def test_what_a_process_is_from_its_start_cannot_change_and_is_named_as_in_the_file(name: str) -> None:
    (key,) = unchangeable(BEFORE, replace(BEFORE, **{name: OTHER[name]}))

    assert key.startswith("agent.")


@pytest.mark.parametrize("name", TAKEN_UP)
def test_the_rest_is_taken_up(name: str) -> None:
    assert unchangeable(BEFORE, replace(BEFORE, **{name: TAKEN_UP[name]})) == []
