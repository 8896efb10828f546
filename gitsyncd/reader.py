"""What runs in the child that `reading` starts. It starts slowly enough: nothing else belongs here."""

from __future__ import annotations

import json
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


def main(_args: list[str]) -> None:
    """Write two pickles to standard output, the first one whole before the second is begun.

    What is asked stands on standard input, and may come long after this has been imported: the agent file, what it is
    called in messages, and a number of clusters. First comes the configuration, or the parts of a `ConfigError`; then
    what the kubeconfigs of the first so many clusters come to.
    """
    question = json.load(sys.stdin)
    try:
        configuration = load(Path(question["file"]), os.environ, shown=question["shown"])
    except ConfigError as error:
        _answer((None, error.message, error.mistakes, error.hint))
    else:
        _answer((configuration, "", (), ""))
        _answer(_told(configuration, question["clusters"]))


def _answer(value: object) -> None:
    sys.stdout.buffer.write(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))
    sys.stdout.flush()


def _told(configuration: Configuration, count: int) -> dict[str, Told]:
    """By cluster. What cannot be used is left out: whoever needs it reads it, and says what is wrong."""
    connections = {cluster.name: cluster.connection for cluster in configuration.clusters[:count]}
    kubeconfigs = {name: found for name, found in connections.items() if isinstance(found, Kubeconfig)}
    if not kubeconfigs:
        return {}
    from gitsyncd.edges.kube.files import content, stamp
    from gitsyncd.edges.kube.kubeconfig import answer

    told: dict[str, Told] = {}
    for name, kubeconfig in kubeconfigs.items():
        before = stamp(kubeconfig.file)
        try:
            text = content(kubeconfig.file, "kubeconfig")
            told[name] = before, answer(text, kubeconfig.file.absolute(), kubeconfig.context)
        except Exception:  # noqa: BLE001, S112 - of one cluster, and told when that is looked at
            continue
    return told
