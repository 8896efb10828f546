"""Several clusters at once, in one folder that is gone afterwards."""

import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Self

from tests.sandbox import binaries
from tests.sandbox.cluster import Cluster, ClusterOptions


class Sandbox:
    """Clusters c1 to cN, started together, for the length of a `with` block.

        with Sandbox(clusters=2, nodes=2) as box:
            print(box.clusters[0].kubectl("get", "nodes"))

    In a folder of the caller's the data and logs stay; without one they are in a temporary folder and removed.
    """

    def __init__(
        self,
        *,
        clusters: int = 1,
        nodes: int = 0,
        controllers: bool | tuple[str, ...] | None = None,
        audit: bool = False,
        fsync: bool = False,
        apiserver_flags: tuple[str, ...] = (),
        directory: Path | None = None,
        tethered: bool = True,
    ) -> None:
        """What each cluster consists of is said by `ClusterOptions`."""
        if clusters < 1:
            raise ValueError(f"clusters is {clusters}: at least 1")
        options = ClusterOptions(
            nodes=nodes, controllers=controllers, audit=audit, fsync=fsync, apiserver_flags=apiserver_flags
        )
        self._temporary = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="sandbox-"))
        names = [f"c{number}" for number in range(1, clusters + 1)]
        self.clusters = [
            Cluster(self.directory / name, name=name, options=options, tethered=tethered) for name in names
        ]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start all clusters and return when they are ready; if one fails, the others are ended again."""
        # Once and here, so that progress is shown by one thread.
        binaries.program("etcd")
        try:
            # More at a time than there are cores only makes each slower.
            with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
                for started in [pool.submit(cluster.start) for cluster in self.clusters]:
                    started.result()
        except BaseException:
            self.stop()
            raise

    def stop(self, *, grace_seconds: float = 0) -> None:
        """End all clusters; a temporary folder is removed."""
        for cluster in self.clusters:
            cluster.stop(grace_seconds=grace_seconds)
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)
