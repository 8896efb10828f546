"""Fixtures of the end-to-end tests."""

from pathlib import Path

import pytest

from tests.e2e.daemon import Agent
from tests.gitserver.repository import Repo


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    """An agent without sources, clusters or targets yet."""
    return Agent(tmp_path / "agent")


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """An empty repository."""
    return Repo(tmp_path / "fleet.git")
