"""`meshserve completion`: the script by which a shell completes commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

PROGRAM = "meshserve"

_HINTS = {
    "bash": f'eval "$({PROGRAM} completion bash)"   in ~/.bashrc',
    "zsh": f'eval "$({PROGRAM} completion zsh)"   in ~/.zshrc, after compinit',
    "fish": f"{PROGRAM} completion fish > ~/.config/fish/completions/{PROGRAM}.fish",
}


@click.command(epilog="\b\n" + "\n".join(_HINTS.values()))
@click.argument("shell", type=click.Choice(list(_HINTS)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Prints the script that lets SHELL complete commands, options and choices."""
    kind = get_completion_class(shell)
    assert kind is not None  # click knows all shells of the choice
    click.echo(kind(context.find_root().command, {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source())
