"""The agent file, and what the first kubeconfigs that it names come to, read by a child.

What reads them (pydantic, ruamel.yaml, kubernetes) takes 11 MB and a third of a second to import, and nobody needs it
again before a file changes. A daemon starts that child before anything else and imports the rest of itself meanwhile,
so this module imports little until it is asked to `read`. Commands that end at once read the agent file where they
are: `edges.config.load`.
"""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from gitsyncd.edges.child.command import Limits, python_module
from gitsyncd.edges.child.early import EarlyChild
from gitsyncd.edges.config import QUICK
from gitsyncd.model.immutable import immutable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from gitsyncd.edges.kube.connect import Told
    from gitsyncd.model.target import Configuration

_READER = python_module("gitsyncd.reader")
_LIMITS = Limits(memory_bytes=2 * 2**30, cpu_seconds=60, network=True)
"""Our own program and the operator's own files. In a namespace of its own it could not read what the daemon may read as
root, or by a capability."""
_DEADLINE_S = 90
_MAX_OUTPUT_BYTES = 64 * 2**20
_CREDENTIALS = "CREDENTIALS_DIRECTORY"


@immutable
class Reading:
    """What was read."""

    configuration: Configuration
    told: Mapping[str, Told] = field(repr=False)
    """By cluster; credentials are in it."""


def begin(environ: Mapping[str, str]) -> EarlyChild | None:
    """What will read, before it is known which file; `environ` as for `read`. None when no process can be started."""
    try:
        return EarlyChild(_READER, limits=_LIMITS, env=_environment(environ))
    except OSError:
        return None  # `read` tries it again, and says what is in the way


async def read(
    path: Path, environ: Mapping[str, str], *, clusters: int = 0, begun: EarlyChild | None = None
) -> Reading:
    """The agent file at `path`, and the kubeconfigs of its first `clusters`; one that cannot be used is left out.

    `environ` is asked for `CREDENTIALS_DIRECTORY` only; `begun` is from `begin`, and used up. Raises `ConfigError` for
    what is wrong with the agent file, and `LocalError` when there is no child that reads it to its end, which may pass.
    """
    import io
    import json
    import pickle
    from datetime import timedelta

    from gitsyncd.edges.child.process import run_child
    from gitsyncd.model.errors import ConfigError, LocalError

    question = json.dumps({"file": str(_absolute(path)), "shown": str(path), "clusters": clusters}).encode()
    deadline = timedelta(seconds=_DEADLINE_S)
    if begun is not None:
        child = await begun.answer(question, deadline=deadline, max_output=_MAX_OUTPUT_BYTES)
    else:
        child = await run_child(
            _READER,
            stdin=question,
            limits=_LIMITS,
            deadline=deadline,
            max_output=_MAX_OUTPUT_BYTES,
            env=_environment(environ),
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
    return Reading(configuration=configuration, told=told)


def _environment(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: environ[name] for name in (_CREDENTIALS,) if name in environ} | QUICK


def _absolute(path: Path) -> Path:
    """The child need not be able to go where this process is. Raises `ConfigError`."""
    from gitsyncd.model.errors import ConfigError

    try:
        return path.absolute()
    except OSError as error:
        raise ConfigError(
            f"{path} is looked for in a folder that is gone", hint="Name the agent file by its whole name."
        ) from error
