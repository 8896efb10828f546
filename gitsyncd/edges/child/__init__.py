"""Children that touch what others wrote: a Git conversation, YAML of a repository, kustomize and Helm.

`process` starts, feeds, limits and ends them from the parent; `launch` is the few lines that run inside a child before
anything else. This package imports nothing by itself, because every child starts by importing it.
"""
