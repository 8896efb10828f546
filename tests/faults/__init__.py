"""A proxy that hurts: it stands between the daemon and a real API server or Git server and misbehaves when told to.

`faults` says what can go wrong, `proxy` does it, `wire` reads and writes just enough HTTP for that.
"""
