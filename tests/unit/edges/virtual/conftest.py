import asyncio
from collections.abc import Callable, Mapping

import pytest

from tests.engine.virtualtime import VirtualTimeLoop


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Pauses and time limits take no time in the tests of this folder."""
    return {"virtual": VirtualTimeLoop}
