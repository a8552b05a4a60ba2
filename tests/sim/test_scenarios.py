"""Scripted lives of a mesh against their recorded transcripts.

A change of behaviour shows as a difference. To accept it: `MESHSERVE_SIM_REWRITE=1 pytest tests/sim`, then read the
diff.
"""

import os
from pathlib import Path

import pytest

from sim.script import play

SCENARIOS = sorted((Path(__file__).parent / "scenarios").glob("*.txt"))


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_the_mesh_does_what_was_recorded(path):
    recorded = path.read_text()
    played = play(recorded)
    if os.environ.get("MESHSERVE_SIM_REWRITE") == "1":
        path.write_text(played)
    else:
        assert played == recorded
