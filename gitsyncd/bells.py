"""What rings at the webhook listener: which path belongs to whom, who may ring, and whose bell it is.

What is rung only looks sooner than it would have: a lost, doubled, late or forged delivery changes nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from gitsyncd.core.hooks import moved_branches, pushed_images
from gitsyncd.core.reference import beginning, image_name
from gitsyncd.edges.web import hooks
from gitsyncd.edges.web.hooks import Door
from gitsyncd.engine.supervise import describe_bug

if TYPE_CHECKING:
    from gitsyncd.engine.ports import Log
    from gitsyncd.model.hook import Hook
    from gitsyncd.model.image import RegistryAccess
    from gitsyncd.model.source import Source
    from gitsyncd.wiring import Fleet

SOURCES: Final = "/hooks/"
IMAGES: Final = "/image-hooks"


@asynccontextmanager
async def serve(fleet: Fleet, *, log: Log) -> AsyncIterator[None]:
    """Listen where the agent file says, if it does. Raises `LocalError` when that is not possible."""
    webhook = fleet.configuration.agent.webhook
    if webhook is None:
        yield
        return
    tower = _Tower(fleet, log)
    async with hooks.serve(webhook.listen, webhook.certificate, tower.doors, broken=tower.broken) as address:
        log.info("webhooks listening", address=address)
        yield


class _Tower:
    """All bells. What there is now is asked for at each delivery: the agent file may have changed."""

    def __init__(self, fleet: Fleet, log: Log) -> None:
        self._fleet = fleet
        self._log = log
        self._said: dict[str, str] = {}
        """By door, what was said last: how often strangers knock is theirs to choose, how often it is said is not."""

    def doors(self, path: str) -> list[Door]:
        configuration = self._fleet.configuration
        if path == IMAGES:
            return [
                self._door(f"registry {access.prefix}", access.webhook, partial(self._ring_policies, access))
                for access in configuration.images.registries
                if access.webhook is not None
            ]
        return [
            self._door(f"source {source.name}", source.webhook, partial(self._ring_source, source))
            for source in configuration.sources
            if path == SOURCES + source.name and source.webhook is not None
        ]

    def _door(self, name: str, hook: Hook, ring: Callable[[str, Any], None]) -> Door:
        def heard(event: str, body: Any) -> None:
            say = self._log.debug if self._said.get(name) == "" else self._log.info
            self._said[name] = ""
            say("webhook heard", hook=name)
            ring(event, body)

        def refused(why: str) -> None:
            say = self._log.debug if self._said.get(name) == why else self._log.warning
            self._said[name] = why
            say(
                "webhook refused",
                hook=name,
                error=why,
                remedy="fix-config",
                hint="If it was yours, compare its secret and kind with `webhook` there; else there is nothing to do.",
            )

        return Door(name=name, hook=hook, ring=heard, refused=refused)

    def _ring_source(self, source: Source, event: str, body: Any) -> None:
        assert source.webhook is not None
        news = moved_branches(source.webhook.kind, event, body)
        for loop in self._fleet.sources:
            if any(track.source.name == source.name and news.concerns(track.source.branch) for track in loop.tracks):
                loop.bell.ring()

    def _ring_policies(self, access: RegistryAccess, event: str, body: Any) -> None:
        assert access.webhook is not None
        news = pushed_images(access.webhook.kind, event, body)
        automation = self._fleet.automation
        for loop in automation.policies if automation is not None else ():
            image = image_name(loop.policy.image)
            if beginning(access.prefix, image) and news.concerns(str(image)):
                loop.bell.ring()

    def broken(self, error: Exception) -> None:
        self._log.error("internal error", loop="webhooks", error=describe_bug(error), retry_s=0.0)
