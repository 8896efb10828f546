"""gitsyncd keeps Kubernetes clusters equal to what is declared in Git.

One pure function in a patient loop: `plan(desired, inventory, observed, policy) -> Plan`. `model` is what it is, `core`
what to do, `engine` when, `edges` with what; `daemon` joins them and `cli` speaks to people. Imports go one way only:
cli, daemon, (edges | engine), core, model. Only the version lives in this file.
"""

__version__ = "0.1.0"
