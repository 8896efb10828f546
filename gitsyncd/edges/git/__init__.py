"""Git repositories: a bare mirror of the wanted branches, and the files of one commit read from its objects.

    remote / local --heads--> mirror --pack--> fetch (child) --ingest--> directory <--store-- history, tree

`mirror` is the port that the engine sees; everything else here serves it. dulwich is used for the format of packs and
objects only: no checkout, worktree, submodule, hook, filter, configuration file or transport of it is ever reached.
What came from a server is inflated and parsed in a child process that may die of it. This package imports nothing by
itself, because that child starts by importing it.
"""
