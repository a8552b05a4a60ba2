"""A client of a mesh from outside, without Ray: what `meshserve.connect` gives, and the command line uses."""
