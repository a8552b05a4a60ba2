"""Benchmarks: the same applications on meshserve and on its peer, one after the other on one machine.

`scripts/bench` is the door. The parent process (`command`, `session`, `report`) needs nothing but the standard library;
each target runs in a child process (`runner`) inside that target's own virtual environment and private Ray cluster.
Benchmarks report. They are never tests, and nothing here fails because a figure is low.
"""
