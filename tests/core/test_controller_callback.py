"""The operator's own code in the controller's process: called at its start, and in the way when it is broken."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshserve.controller.callback import call_back

CODE = """
calls = []

def note():
    calls.append("called")

def fail():
    raise RuntimeError("the callback is broken")

NUMBER = 1
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A folder of the operator's, which holds the module `controller_notes`."""
    (tmp_path / "controller_notes.py").write_text(CODE)
    monkeypatch.syspath_prepend(str(tmp_path))  # so that the path is as before when the test is over
    return str(tmp_path)


def test_the_function_that_is_named_is_called_and_none_when_none_is(folder: str) -> None:
    call_back({"callback": "controller_notes.note", "import_paths": (folder,)})
    call_back({"callback": "", "import_paths": ()})
    call_back({})
    from controller_notes import calls

    assert calls == ["called"]


@pytest.mark.parametrize(
    ("path", "error", "text"),
    [
        ("controller_notes:fail", RuntimeError, "the callback is broken"),
        ("controller_notes:NUMBER", TypeError, "is not callable"),
        ("controller_notes:absent", ValueError, "no attribute 'absent'"),
        ("not_there", ModuleNotFoundError, "is not an import path"),
    ],
)
def test_what_cannot_be_called_keeps_the_controller_from_starting(
    folder: str, path: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        call_back({"callback": path, "import_paths": (folder,)})
