"""The applications under test, written once for every target.

meshserve's API equals its peer's, so an application differs by one import, and `serving.serve` is that import.
Classes are turned into deployments where an application is built, by `serving.deployed`.
"""
