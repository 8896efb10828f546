"""A few facts on local disk: last admitted commits, the identity of clusters, suspensions. All of it can be lost.

Belongs here: small JSON files that survive power loss whole or not at all. Does not belong here: mirrors (`edges/git`),
and anything that would hurt to lose: that lives in the cluster it describes.
"""

from gitsyncd.edges.store.alone import alone_in
from gitsyncd.edges.store.files import FileStore, MemoryStore
from gitsyncd.edges.store.process import has_ended, holder_name

__all__ = ["FileStore", "MemoryStore", "alone_in", "has_ended", "holder_name"]
