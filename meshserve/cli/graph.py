"""`meshserve graph`: draws an application, without running it."""

from __future__ import annotations

from pathlib import Path

import click

from meshserve.api.dag_picture import as_text, picture_of
from meshserve.api.dag_svg import as_svg
from meshserve.cli.failures import reporting_user_code
from meshserve.cli.target import load_application

FORMATS = {"text": as_text, "svg": as_svg}


@click.command()
@click.argument("target", metavar="MODULE:APPLICATION")
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE]...")
@click.option(
    "-f", "--format", "style", type=click.Choice(list(FORMATS)), help="Of the drawing; else by the file's name."
)
@click.option("-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="The file to write.")
@click.option("-d", "--app-dir", default=".", show_default=True, help="The folder to import from.")
def graph(target: str, arguments: tuple[str, ...], style: str | None, output: Path | None, app_dir: str) -> None:
    """Draws an application: its deployments, the calls bound between them, and the input.

    MODULE:APPLICATION is an application, or a function that builds one from the KEY=VALUE arguments. The drawing is a
    text, or an SVG image when the output is named so.
    """
    draw = FORMATS[style or _style_of(output)]
    with reporting_user_code(f"{target} cannot be drawn"):
        drawing = draw(picture_of(load_application(target, arguments, app_dir)))
    if output is None:
        click.echo(drawing)
        return
    output.write_text(drawing if drawing.endswith("\n") else drawing + "\n", encoding="utf-8")
    click.echo(f"Written to {output}.")


def _style_of(output: Path | None) -> str:
    suffix = "" if output is None else output.suffix.lower()
    if suffix not in ("", ".txt", ".svg"):
        raise click.UsageError(f"A drawing is a text or an SVG image, not {suffix}: name the file .svg and convert it.")
    return "svg" if suffix == ".svg" else "text"
