"""A systemd of the tests' own, and services that run under it as they would on a machine."""
