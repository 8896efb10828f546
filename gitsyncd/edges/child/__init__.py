"""Children that read what others wrote: packs of a Git server, YAML of a repository, kubeconfigs.

`process` starts, feeds, limits and ends them from the parent (`early` the one that is there before all else), by the
line of `command`; `launch` is the few lines that run inside a child before anything else. This package imports nothing
by itself, because every child starts by importing it.
"""
