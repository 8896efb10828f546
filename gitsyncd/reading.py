"""The agent file, and what the first kubeconfigs that it names come to, read by a child.

What reads them (pydantic, ruamel.yaml, kubernetes) takes 11 MB and a quarter of a second to import, and nobody needs it
again before a file changes. A daemon that starts imports the rest of itself meanwhile. Commands that end at once read
the agent file where they are: `edges.config.load`.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gitsyncd.edges.child.process import Limits, python_module, run_child
from gitsyncd.model.errors import ConfigError, LocalError

if TYPE_CHECKING:
    from gitsyncd.edges.kube.connect import Told
    from gitsyncd.model.target import Configuration

_LIMITS = Limits(memory_bytes=2 * 2**30, cpu_seconds=60)
_DEADLINE = timedelta(seconds=90)
_MAX_OUTPUT_BYTES = 64 * 2**20
_CREDENTIALS = "CREDENTIALS_DIRECTORY"


@dataclass(frozen=True, slots=True)
class Reading:
    """What was read."""

    configuration: Configuration
    told: Mapping[str, Told] = field(repr=False)
    """By cluster; credentials are in it."""


async def read(path: Path, environ: Mapping[str, str], *, clusters: int = 0) -> Reading:
    """The agent file at `path`, and the kubeconfigs of its first `clusters`.

    `environ` is asked for `CREDENTIALS_DIRECTORY` only. Raises `ConfigError`, also when no child can be had or none
    comes to an end; a kubeconfig that cannot be used is left out.
    """
    try:
        child = await run_child(
            python_module("gitsyncd.reader", str(path), str(clusters)),
            limits=_LIMITS,
            deadline=_DEADLINE,
            max_output=_MAX_OUTPUT_BYTES,
            env={_CREDENTIALS: environ[_CREDENTIALS]} if _CREDENTIALS in environ else {},
            cwd=_here(),
        )
    except LocalError as error:
        raise ConfigError(f"{path} cannot be read: {error.message}", hint=error.hint) from error
    if not child.succeeded:
        raise ConfigError(
            f"{path} cannot be read: what reads it ended by {child}",
            hint="Try `gitsyncd check`, which reads it as well. Is there memory left?",
        )
    # Made by our own program, of the operator's own files: there is nobody else to trust.
    configuration, message, mistakes, hint, told = pickle.loads(child.stdout)  # noqa: S301
    if configuration is None:
        raise ConfigError(message, mistakes=mistakes, hint=hint)
    return Reading(configuration, told)


def _here() -> Path:
    """Where names that do not begin with / are looked for."""
    try:
        return Path.cwd()
    except OSError:  # it is gone, and with it all such names
        return Path("/")
