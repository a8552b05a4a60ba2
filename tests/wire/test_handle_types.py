"""`DeploymentHandle[Model]` in the eyes of mypy and of pyright."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).parent / "typed_handles.py"


@pytest.mark.parametrize("checker", ["mypy", "pyright"])
def test_calls_of_a_typed_handle_have_the_types_of_the_deployment(checker):
    command = [sys.executable, "-m", checker, str(FILE)]
    run = subprocess.run(command, cwd=FILE.parents[2], capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stdout + run.stderr
