"""The sandbox for people and scripts: `python -m tests.sandbox --help`."""

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.sandbox import binaries
from tests.sandbox.cluster import PLAIN_USERS, Cluster, NotReady, running
from tests.sandbox.processes import Process, ProcessEnded, end
from tests.sandbox.sandbox import Sandbox

EXAMPLES = f"""\
examples:
  python -m tests.sandbox up --dir .sandbox                    one cluster with two simulated nodes
  python -m tests.sandbox up --dir .sandbox --clusters 3 --nodes 5
  KUBECONFIG=.sandbox/c1/admin.kubeconfig kubectl get nodes
  python -m tests.sandbox kubectl --dir .sandbox get pods -A   with the kubectl that belongs to it
  python -m tests.sandbox down --dir .sandbox
  python -m tests.sandbox build                                only builds, and prints where the programs are

Clusters listen on loopback only, live until `down` or the next boot, and keep nothing: `up` begins with empty ones.
Pods on simulated nodes run nothing: they become ready, and Jobs complete, at once; a container whose image has the tag
`broken` never starts. Users alice, bob and carol have kubeconfigs beside the administrator's, and no rights.

The programs ({binaries.KUBERNETES} of Kubernetes) are taken from the folder $KUBEBUILDER_ASSETS, the cache, or PATH, and
built where they are missing: once, in about 6 minutes on 2 cores, into {{cache}}.
"""


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except (binaries.BuildFailed, NotReady, ProcessEnded, OSError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sandbox: interrupted; what was started has been ended", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.sandbox",
        description="Real Kubernetes control planes on this machine, to try things on.",
        epilog=EXAMPLES.format(cache=binaries.cache_directory()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    up = commands.add_parser("up", help="start clusters and return when they are ready")
    _directory(up)
    up.add_argument("--clusters", type=int, default=1, metavar="N", help="how many, named c1 to cN (default 1)")
    up.add_argument(
        "--nodes",
        type=int,
        default=2,
        metavar="N",
        help="simulated nodes of each; 0: only etcd and kube-apiserver (default 2)",
    )
    up.add_argument("--audit", action="store_true", help="record every request in DIR/<cluster>/audit.log")
    up.add_argument(
        "--fsync", action="store_true", help="let etcd make writes durable, as a production one does: slower"
    )
    up.set_defaults(run=_up)

    down = commands.add_parser("down", help="end the clusters that `up` started in a folder, and remove their data")
    _directory(down)
    down.set_defaults(run=_down)

    build = commands.add_parser("build", help="only build what is missing, and print the folder of the programs")
    build.add_argument(
        "--servers", action="store_true", help="also the registry and the forge that tests ask, about 5 minutes more"
    )
    build.set_defaults(run=_build)

    kubectl = commands.add_parser("kubectl", help="run kubectl as the administrator of a cluster")
    _directory(kubectl)
    kubectl.add_argument("--cluster", default="c1", metavar="NAME", help="which one (default c1)")
    kubectl.add_argument("arguments", nargs=argparse.REMAINDER, help="for kubectl")
    kubectl.set_defaults(run=_kubectl)
    return parser


def _directory(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dir", type=Path, required=True, metavar="DIR", help="the folder of these clusters")


def _up(arguments: argparse.Namespace) -> int:
    directory: Path = arguments.dir
    if arguments.clusters < 1 or arguments.nodes < 0:
        print("sandbox: --clusters is at least 1 and --nodes at least 0", file=sys.stderr)
        return 2
    there = {cluster.name: processes for cluster in _clusters(directory) if (processes := running(cluster))}
    if there:
        return _already_up(directory, there, arguments.clusters)
    box = Sandbox(
        clusters=arguments.clusters,
        nodes=arguments.nodes,
        audit=arguments.audit,
        fsync=arguments.fsync,
        directory=directory,
        tethered=False,
    )
    # What an earlier run left, that has ended without `down`: a reboot, say.
    for cluster in _clusters(directory):
        Cluster(cluster).remove()
    # As Ctrl-C does: a start that is called off leaves nothing running.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    box.start()
    for started in box.clusters:
        for user in PLAIN_USERS:
            started.kubeconfig_for(user)
        print(f"{started.name}: {started.server}, {directory / started.name / 'admin.kubeconfig'}")
    return 0


def _already_up(directory: Path, there: dict[str, list[Process]], wanted: int) -> int:
    """Being asked twice is no mistake, as long as what is asked for is there."""
    whole = {name for name, processes in there.items() if {"etcd", "kube-apiserver"} <= {p.name for p in processes}}
    if whole != {f"c{number}" for number in range(1, wanted + 1)}:
        print(
            f"sandbox: {directory} holds a sandbox with other clusters ({', '.join(there)}), or one of which parts have "
            f"ended. End it first: python -m tests.sandbox down --dir {directory}",
            file=sys.stderr,
        )
        return 1
    for name in sorted(whole):
        print(f"{name}: already up, {directory / name / 'admin.kubeconfig'}")
    return 0


def _down(arguments: argparse.Namespace) -> int:
    found = _clusters(arguments.dir)
    processes = [process for cluster in found for process in running(cluster)]
    # No grace: there is nothing to put in order, the data go too.
    end(processes, grace_seconds=0)
    for cluster in found:
        Cluster(cluster).remove()
    print(f"ended {len(processes)} processes of {len(found)} clusters" if found else f"no sandbox in {arguments.dir}")
    return 0


def _build(arguments: argparse.Namespace) -> int:
    print(binaries.build_all(servers=arguments.servers))
    return 0


def _kubectl(arguments: argparse.Namespace) -> int:
    kubeconfig = arguments.dir / arguments.cluster / "admin.kubeconfig"
    if not kubeconfig.exists():
        print(f"sandbox: there is no {kubeconfig}; `up` makes it", file=sys.stderr)
        return 1
    kubectl = binaries.program("kubectl")
    # Neither a preference nor the cache of the person's own kubectl is read or written.
    cache = kubeconfig.parent.absolute() / ".kube" / "cache"
    environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "KUBERC": "off", "KUBECACHEDIR": str(cache)}
    return subprocess.run([kubectl, *arguments.arguments], env=environment, check=False).returncode


def _clusters(directory: Path) -> list[Path]:
    """The folders in it that the sandbox made: nothing else in there is touched."""
    return sorted(pids.parent for pids in directory.glob("c*/pids") if pids.is_dir())


if __name__ == "__main__":
    sys.exit(main())
