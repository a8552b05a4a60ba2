"""Decisions: pure functions. `now` and `rng` are arguments; no I/O, no clock, no threads."""
