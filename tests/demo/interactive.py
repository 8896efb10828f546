"""The demo for people: things to try, then the daemon's log, until Ctrl-C."""

from __future__ import annotations

import signal
import threading
from types import FrameType

from tests.demo.world import World
from tests.sandbox import KUBERNETES

_TO_TRY = """\

A control plane (Kubernetes {kubernetes}) with two simulated nodes, a Git server and a registry run on this machine; gitsyncd
keeps the cluster equal to the repository. Its log follows below. In a second terminal:

    . {folder}/env
    gitsyncd status --watch                           # what is in sync, what is healthy
    kubectl get all,ingress,configmap -n shop         # what is there

  change the cluster, and see it undone:
    kubectl edit deployment worker -n shop
    kubectl delete service front -n shop
    kubectl set env deployment worker DEBUG=1 -n shop
    kubectl label configmap settings team=mine -n shop

  change Git, and see it applied:
    cd $DEMO/shop                                     # the work tree; edit what you like
    sed -i.bak s/1.0.0/1.1.0/ deploy/worker/deployment.yaml && rm deploy/worker/*.bak
    gitsyncd plan --dir .                             # what it would do; `diff` in place of `plan` shows fields
    git commit -am "a new worker" && git push

  what waits for you, a rewritten history and a Namespace that would be deleted:
    git commit --amend -m "a newer worker" && git push --force
    gitsyncd approve shop --revision $(git rev-parse HEAD)
    git rm -r deploy/reports && git commit -m "no reports" && git push
    gitsyncd plan                                     # refused; it shows the digest to approve

  what ran when, and the way back by a commit:
    gitsyncd history shop
    gitsyncd rollback shop                            # shows what it would do; --yes does it

Everything is in {folder} and is removed at the end. Ctrl-C stops everything.
"""


def watch() -> int:
    """Until Ctrl-C, SIGTERM or the end of the daemon: 0 when it ended well."""
    print("starting a control plane, a Git server and the daemon …", flush=True)
    stop = threading.Event()
    with World() as world:
        print(_TO_TRY.format(folder=world.folder, kubernetes=KUBERNETES), flush=True)
        daemon = world.start_daemon()

        def on_signal(number: int, _frame: FrameType | None) -> None:
            del number
            stop.set()

        previous = {
            number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }
        try:
            while not stop.wait(0.1) and daemon.poll() is None:
                pass
            code = daemon.poll() if daemon.poll() is not None else world.end_daemon(signal.SIGTERM)
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)
    print("\nstopped; nothing is left" if code == 0 else f"\nthe daemon ended with exit code {code}", flush=True)
    return 0 if code == 0 else 1
