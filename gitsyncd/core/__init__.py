"""What to do: pure functions from values to values. No clock, no I/O, no logging, no await; imports model only."""
