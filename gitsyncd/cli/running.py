"""`gitsyncd run`: the daemon, started quickly."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gitsyncd.cli.agent_file import agent_file, load
from gitsyncd.cli.output import DIFFERS
from gitsyncd.model.errors import ConfigError
from gitsyncd.text import screen

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from gitsyncd.model.target import Configuration

_EARLY = 2
"""Clusters whose credentials are read while the program starts: more children at a time would delay one another."""
_GARBAGE = 50_000
"""New containers between two looks of the garbage collector; Python's own 700 are meant for small programs."""


def run(options: argparse.Namespace) -> int:
    import asyncio
    import gc

    # What is imported stays: looking for garbage meanwhile takes a tenth of the start and finds none.
    gc.disable()
    try:
        configuration = load(options)
    except ConfigError as error:
        _log_refusal(error, agent_file(options))
        raise
    from gitsyncd.edges import logs

    agent = configuration.agent
    json = agent.log_format == "json" or (agent.log_format == "auto" and not logs.on_terminal(sys.stdout))
    # A line of progress stands where the next line of the log goes, when both are on the terminal.
    erase = options.once and screen.can_redraw(sys.stdout) and screen.can_redraw(sys.stderr)
    log = logs.set_up(agent.log_level, json=json, erase=erase)
    options.failure = DIFFERS
    from gitsyncd.edges.config.load import load as load_file

    def again() -> Configuration:
        return load_file(configuration.file, os.environ)

    return asyncio.run(_daemon(configuration, log, again, once=options.once, wait=options.wait))


async def _daemon(
    configuration: Configuration, log: Any, load: Callable[[], Configuration], *, once: bool, wait: bool
) -> int:
    """The daemon to its end. The first credentials are read, in a child, while the rest of the program is imported."""
    import asyncio
    import gc

    from gitsyncd.edges.kube.connect import AccessSource

    early = {cluster.name: AccessSource(cluster, configuration.agent) for cluster in configuration.clusters[:_EARLY]}
    begun = list(early.values())
    for access in begun:
        access.begin()
    await asyncio.sleep(0)  # the children start here
    with _no_default_trust():
        from gitsyncd.daemon import Daemon
        from gitsyncd.edges.kube.cluster import KubeCluster
        from gitsyncd.wiring import Edges

    edges = Edges(cluster=lambda cluster, agent: KubeCluster(cluster, agent, early.pop(cluster.name, None)))
    daemon = Daemon(configuration, log=log, edges=edges, load=load)
    # Lists of thousands of objects would have the collector walk them again and again while they grow.
    gc.freeze()
    gc.set_threshold(_GARBAGE)
    gc.enable()
    try:
        work = daemon.run(once=once, wait=wait)
        if not once or not screen.can_redraw(sys.stderr):
            return await work
        from gitsyncd.text.progress import shown_during

        return await shown_during(
            work, lambda: daemon.control.status.of()["targets"] if daemon.control else None, sys.stderr
        )
    finally:
        for access in begun:
            await access.settled()


@contextmanager
def _no_default_trust() -> Iterator[None]:
    """What aiohttp is imported in: it reads every certificate of the machine then, and all our contexts are our own.

    30 to 50 ms and 2 MB. The context that it makes trusts nobody instead.
    """
    names = ("SSL_CERT_FILE", "SSL_CERT_DIR")  # where OpenSSL looks for them
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, os.devnull))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _log_refusal(error: ConfigError, file: Path) -> None:
    """For whoever collects the log alone. A terminal shows what goes to standard error beside it: once is enough."""
    from gitsyncd.edges import logs

    if not logs.on_terminal(sys.stdout):
        log = logs.set_up("info", json=True)
        log.error("configuration refused", file=str(file), error=str(error), remedy=error.remedy, hint=error.hint)
