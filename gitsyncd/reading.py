"""The agent file, and what the first kubeconfigs that it names come to, read by a child.

What reads them (pydantic, ruamel.yaml, kubernetes) takes 11 MB and a quarter of a second to import, and nobody needs it
again before a file changes. A daemon that starts imports the rest of itself meanwhile. Commands that end at once read
the agent file where they are: `edges.config.load`.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping
from dataclasses import field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gitsyncd.edges.child.process import Limits, python_module, run_child
from gitsyncd.edges.config import QUICK
from gitsyncd.model.errors import ConfigError, LocalError
from gitsyncd.model.immutable import immutable

if TYPE_CHECKING:
    from gitsyncd.edges.kube.connect import Told
    from gitsyncd.model.target import Configuration

_LIMITS = Limits(memory_bytes=2 * 2**30, cpu_seconds=60, network=True)
"""Our own program and the operator's own files. In a namespace of its own it could not read what the daemon may read as
root, or by a capability."""
_DEADLINE = timedelta(seconds=90)
_MAX_OUTPUT_BYTES = 64 * 2**20
_CREDENTIALS = "CREDENTIALS_DIRECTORY"


@immutable(kw_only=False)
class Reading:
    """What was read."""

    configuration: Configuration
    told: Mapping[str, Told] = field(repr=False)
    """By cluster; credentials are in it."""


async def read(path: Path, environ: Mapping[str, str], *, clusters: int = 0) -> Reading:
    """The agent file at `path`, and the kubeconfigs of its first `clusters`; one that cannot be used is left out.

    `environ` is asked for `CREDENTIALS_DIRECTORY` only. Raises `ConfigError` for what is wrong with the agent file, and
    `LocalError` when there is no child that reads it to its end, which may pass.
    """
    child = await run_child(
        python_module("gitsyncd.reader", str(_absolute(path)), str(path), str(clusters)),
        limits=_LIMITS,
        deadline=_DEADLINE,
        max_output=_MAX_OUTPUT_BYTES,
        env={name: environ[name] for name in (_CREDENTIALS,) if name in environ} | QUICK,
    )
    # Made by our own program, of the operator's own files: there is nobody else to trust.
    answers = io.BytesIO(child.stdout)
    try:
        configuration, message, mistakes, hint = pickle.load(answers)  # noqa: S301
    except (EOFError, pickle.UnpicklingError):
        raise LocalError(
            f"{path} cannot be read: what reads it came to its end by {child}",
            hint="Is there memory left? `gitsyncd check` reads the file as well.",
        ) from None
    if configuration is None:
        raise ConfigError(message, mistakes=mistakes, hint=hint)
    try:
        told = pickle.load(answers)  # noqa: S301
    except (EOFError, pickle.UnpicklingError):
        told = {}  # it came to its end over a kubeconfig, which is told of that cluster
    return Reading(configuration, told)


def _absolute(path: Path) -> Path:
    """The child need not be able to go where this process is. Raises `ConfigError`."""
    try:
        return path.absolute()
    except OSError as error:
        raise ConfigError(
            f"{path} is looked for in a folder that is gone", hint="Name the agent file by its whole name."
        ) from error
