"""`gitsyncd run`: the daemon, started quickly."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from gitsyncd.cli.agent_file import agent_file
from gitsyncd.cli.output import DIFFERS, WRONG
from gitsyncd.model.errors import ConfigError, LocalError
from gitsyncd.text import screen

if TYPE_CHECKING:
    import argparse
    from collections.abc import Awaitable
    from pathlib import Path

    from gitsyncd.model.target import Configuration
    from gitsyncd.reading import Reading

_EARLY = 2
"""Clusters whose credentials are read while the program starts: plugins of more would delay one another."""
_GARBAGE = 50_000
"""New containers between two looks of the garbage collector; Python's own 700 are meant for small programs."""


def run(options: argparse.Namespace) -> int:
    import asyncio
    import gc

    # What is imported stays: looking for garbage meanwhile takes a tenth of the start and finds none.
    gc.disable()
    from gitsyncd.edges.child.launch import forbid_core_dumps

    forbid_core_dumps()
    return asyncio.run(_daemon(options))


async def _daemon(options: argparse.Namespace) -> int:
    """The daemon to its end.

    A child reads the agent file and the first kubeconfigs, while the rest of the program is imported in a thread.
    """
    import asyncio
    import gc

    from gitsyncd.edges.config.follow import Follower
    from gitsyncd.reading import read

    once, wait = options.once, options.wait
    options.failure = DIFFERS
    follower = Follower(agent_file(options))  # what is written from now on is news
    reading = asyncio.create_task(read(agent_file(options), os.environ, clusters=_EARLY, begun=options.reader))
    await asyncio.sleep(0)  # the child is asked, and started if it was not
    with _no_default_trust():  # before anything else runs beside: it changes the environment
        import aiohttp  # noqa: F401 - to be there when it is asked for
    importing = asyncio.create_task(asyncio.to_thread(_import))
    found = await _answer(reading, options)
    from gitsyncd.edges.kube.connect import AccessSource

    configuration = found.configuration
    early = {
        cluster.name: AccessSource(cluster, configuration.agent, told=found.told.get(cluster.name))
        for cluster in configuration.clusters[:_EARLY]
    }
    begun = list(early.values())
    for access in begun:
        access.begin()
    del found  # credentials are in it, and may be replaced
    log = _log(configuration, once=once)
    await importing
    from gitsyncd.daemon import Daemon
    from gitsyncd.edges.kube.cluster import KubeCluster
    from gitsyncd.wiring import Edges

    async def again() -> Configuration:
        return (await read(configuration.file, os.environ)).configuration

    edges = Edges(cluster=lambda cluster, agent: KubeCluster(cluster, agent, early.pop(cluster.name, None)))
    daemon = Daemon(configuration, log=log, edges=edges, load=again, follower=follower)
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


async def _answer(reading: Awaitable[Reading], options: argparse.Namespace) -> Reading:
    """What was read. Raises `ConfigError`, `LocalError`, both told in the log as well."""
    try:
        return await reading
    except (ConfigError, LocalError) as error:
        if isinstance(error, ConfigError):
            options.failure = WRONG  # else it may pass, and whoever started this tries again
        _log_refusal(error, agent_file(options))
        raise


def _import() -> None:
    """Most of the program, and most of the time that a start takes."""
    import gitsyncd.daemon
    import gitsyncd.edges.kube.cluster
    import gitsyncd.wiring  # noqa: F401 - to be there when it is asked for


def _log(configuration: Configuration, *, once: bool) -> Any:
    from gitsyncd.edges import logs

    agent = configuration.agent
    json = agent.log_format == "json" or (agent.log_format == "auto" and not logs.on_terminal(sys.stdout))
    # A line of progress stands where the next line of the log goes, when both are on the terminal.
    erase = once and screen.can_redraw(sys.stdout) and screen.can_redraw(sys.stderr)
    return logs.set_up(agent.log_level, json=json, erase=erase)


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


def _log_refusal(error: ConfigError | LocalError, file: Path) -> None:
    """For whoever collects the log alone. A terminal shows what goes to standard error beside it: once is enough."""
    from gitsyncd.edges import logs

    if not logs.on_terminal(sys.stdout):
        log = logs.set_up("info", json=True)
        log.error("configuration refused", file=str(file), error=str(error), remedy=error.remedy, hint=error.hint)
