"""What runs in the child that `reading` starts. It starts slowly enough: nothing else belongs here."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from gitsyncd.edges.config.load import load
from gitsyncd.model.errors import ConfigError
from gitsyncd.model.target import Kubeconfig

if TYPE_CHECKING:
    from gitsyncd.edges.kube.connect import Told
    from gitsyncd.model.target import Configuration


def main(args: list[str]) -> None:
    """Pickle to standard output: what the agent file `args[0]` asks for, or None; the parts of a `ConfigError`; and
    what the kubeconfigs of its first `args[1]` clusters come to.
    """
    file, clusters = args
    try:
        configuration = load(Path(file), os.environ)
        answer: tuple[object, ...] = (configuration, "", (), "", _told(configuration, int(clusters)))
    except ConfigError as error:
        answer = (None, error.message, error.mistakes, error.hint, {})
    sys.stdout.buffer.write(pickle.dumps(answer, pickle.HIGHEST_PROTOCOL))
    sys.stdout.flush()


def _told(configuration: Configuration, count: int) -> dict[str, Told]:
    """By cluster. What cannot be read is left out: whoever needs it reads it, and says what is wrong."""
    connections = {cluster.name: cluster.connection for cluster in configuration.clusters[:count]}
    kubeconfigs = {name: found for name, found in connections.items() if isinstance(found, Kubeconfig)}
    if not kubeconfigs:
        return {}
    from gitsyncd.edges.kube.kubeconfig import answer
    from gitsyncd.edges.kube.stamp import stamp

    told: dict[str, Told] = {}
    for name, kubeconfig in kubeconfigs.items():
        before = stamp(kubeconfig.file)
        try:
            text = kubeconfig.file.read_text()
        except (OSError, ValueError):
            continue
        told[name] = before, answer(text, kubeconfig.file, kubeconfig.context)
    return told
