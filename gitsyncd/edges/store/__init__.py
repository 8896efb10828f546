"""Last reports and caches on the local disk, all of which can be lost without harm.

Nothing here decides who owns an object: that is kept in the cluster.
"""
