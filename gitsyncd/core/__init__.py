"""What to do: pure functions from values to values.

Imports model only; no clock, no I/O, no logging, no await.
"""
