"""`make bench`: what gitsyncd costs, each figure beside a floor that was measured in the same run.

    python -m tests.bench --list
    python -m tests.bench --only revert --rounds 1

The floor is the least that the same work can cost here: a bare client with 16 connections that sends the very same
bodies, one serial apply, git's and kubectl's own commands. A bound is a ratio to that floor wherever a ratio makes
sense, so that a slow or busy machine moves both sides. Everything is real: kube-apiserver and etcd with fsync, a Git
server with TLS, the daemon as a process. Nothing here looks inside gitsyncd but `parsing` and `polling`, which time a
part of it.

`corpus` makes the 2,000 objects, `stage` the clusters and the repository, `daemon` and `proc` run and weigh the process
under test, `floor` is the bare client; `first`, `steady`, `parsing` and `polling` measure; `table` judges and prints.
"""
