"""The architecture page names every module, in its own words."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_architecture_page_is_what_the_modules_say():
    command = [sys.executable, ROOT / "scripts" / "tree"]
    page = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert (ROOT / "meshserve" / "docs" / "architecture.md").read_text() == page, (
        "run `scripts/tree > meshserve/docs/architecture.md`"
    )
