"""With what: one folder per outside thing, and the helper modules they share.

Edges know model and core; never the engine, and never each other.
Errors of a library are translated here, where they arise.
"""
