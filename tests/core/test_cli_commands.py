"""The table of commands: every line leads to a command, help needs no imports, mistakes are answered."""

import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from meshserve.cli.commands import CHAPTERS
from meshserve.cli.failures import reporting
from meshserve.cli.main import main


@pytest.mark.parametrize(
    "entry", [entry for chapter in CHAPTERS for entry in chapter.entries], ids=lambda one: one.name
)
def test_every_line_of_the_table_is_a_command_that_explains_itself(entry):
    command = main.get_command(click.Context(main), entry.name)
    assert command is not None
    assert command.name == entry.name
    assert CliRunner().invoke(main, [entry.name, "--help"]).exit_code == 0


def test_help_names_every_command_and_imports_none():
    program = "import sys\nfrom meshserve.cli.main import main\nmain(['--help'], standalone_mode=False)\n"
    program += "print('ray' in sys.modules, 'grpc' in sys.modules)\n"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    for chapter in CHAPTERS:
        assert chapter.title in told
        for entry in chapter.entries:
            assert entry.summary in " ".join(told.split())
    assert told.splitlines()[-1] == "False False"


def test_a_misspelt_command_names_the_nearest():
    said = CliRunner().invoke(main, ["stats"])
    assert said.exit_code == 2
    assert "Did you mean 'status'?" in said.output


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_get_a_completion_script(shell):
    said = CliRunner().invoke(main, ["completion", shell])
    assert said.exit_code == 0
    assert "_MESHSERVE_COMPLETE" in said.output


def test_output_that_is_closed_early_is_left_to_click():
    with pytest.raises(BrokenPipeError), reporting("It cannot be shown"):
        raise BrokenPipeError
