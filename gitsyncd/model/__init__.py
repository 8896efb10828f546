"""What it is: values (`immutable`), enums and errors that refuse wrong values when built.

Standard library only; no decision, no clock, no I/O.
"""
