"""The meaning suite against kubectl itself: what is stored is what it answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cases.yaml import suite

pytestmark = pytest.mark.real


@pytest.mark.parametrize("path", suite.ACCEPTED, ids=lambda path: path.name)
def test_what_is_expected_is_what_kubectl_reads(path: Path) -> None:
    assert suite.kubectl_objects(path) == json.loads(suite.expectation(path))


@pytest.mark.parametrize("path", suite.REFUSED, ids=lambda path: path.name)
def test_what_counts_as_refused_is_refused_by_kubectl(path: Path) -> None:
    assert suite.kubectl_objects(path) is None


@pytest.mark.parametrize("path", suite.STRICTER, ids=lambda path: path.name)
def test_what_counts_as_stricter_is_accepted_by_kubectl(path: Path) -> None:
    assert suite.kubectl_objects(path) is not None
