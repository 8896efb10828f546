"""What rings at the webhook listener: which path belongs to whom, who may ring, and whose bell it is.

What is rung only looks sooner than it would have: a lost, doubled, late or forged delivery changes nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from gitsyncd.core.hooks import is_authentic, is_news, pushed_images
from gitsyncd.core.reference import image_name
from gitsyncd.edges.web import hooks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gitsyncd.edges.web.hooks import Delivery
    from gitsyncd.engine.image_loop import PolicyLoop
    from gitsyncd.engine.ports import Log
    from gitsyncd.engine.trigger import Bell
    from gitsyncd.model.hook import Hook
    from gitsyncd.wiring import Fleet

SOURCES: Final = "/hooks/"
IMAGES: Final = "/image-hooks"
_SECRET_BYTES: Final = 64 << 10


@asynccontextmanager
async def serve(fleet: Fleet, *, log: Log) -> AsyncIterator[None]:
    """Listen where the agent file says, if it does. Raises `LocalError` when that is not possible."""
    webhook = fleet.configuration.agent.webhook
    if webhook is None:
        yield
        return
    tower = _Tower(fleet, log)
    async with hooks.serve(webhook.listen, webhook.certificate, tower.knows, tower.receive) as address:
        log.info("webhooks listening", address=address)
        yield


class _Tower:
    """All bells. What there is now is asked for at each delivery: the agent file may have changed."""

    def __init__(self, fleet: Fleet, log: Log) -> None:
        self._fleet = fleet
        self._log = log

    def knows(self, path: str) -> bool:
        return any(True for _ in self._hooks(path))

    async def receive(self, delivery: Delivery) -> int:
        """The status: 202 whatever came of it, as long as the sender knows a secret."""
        for hook, prefix in self._hooks(delivery.path):
            secret = await asyncio.to_thread(_secret, hook)
            if is_authentic(hook.kind, secret, delivery.headers, delivery.query, delivery.body):
                if is_news(hook.kind, delivery.headers):
                    for bell in self._bells(delivery, hook, prefix):
                        bell.ring()
                self._log.debug("webhook heard", path=delivery.path)
                return 202
        self._log.debug("webhook refused", path=delivery.path)
        return 401

    def _hooks(self, path: str) -> Iterator[tuple[Hook, str]]:
        """Who may ring here, and (of registries) for which images."""
        configuration = self._fleet.configuration
        if path.startswith(SOURCES):
            name = path.removeprefix(SOURCES)
            yield from ((s.webhook, "") for s in configuration.sources if s.name == name and s.webhook is not None)
        elif path == IMAGES:
            for access in configuration.images.registries:
                if access.webhook is not None:
                    yield access.webhook, access.prefix

    def _bells(self, delivery: Delivery, hook: Hook, prefix: str) -> list[Bell]:
        if delivery.path.startswith(SOURCES):
            name = delivery.path.removeprefix(SOURCES)
            return [loop.bell for loop in self._fleet.sources if any(t.source.name == name for t in loop.tracks)]
        automation = self._fleet.automation
        policies: Sequence[PolicyLoop] = automation.policies if automation is not None else ()
        ours = {loop: str(image_name(loop.policy.image)) for loop in policies}
        beginning = str(image_name(f"{prefix}/x")).removesuffix("/x")
        ours = {loop: image for loop, image in ours.items() if f"{image}/".startswith(f"{beginning}/")}
        named = pushed_images(hook.kind, delivery.body)
        return [loop.bell for loop, image in ours.items() if not named or image in named]


def _secret(hook: Hook) -> bytes:
    """Empty where it cannot be read: then nobody knows it."""
    try:
        with hook.secret_file.open("rb") as file:
            return file.read(_SECRET_BYTES).strip()
    except OSError:
        return b""
