"""The table of commands: one line for each, imported when it is used.

Completion in a shell runs the program at every press of TAB, and `--help` names all commands: neither may wait for the
imports of all of them. To add a command, write its module and add its line to the chapter of the help it belongs to.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import click

from meshserve.rpc.import_path import import_object


@dataclass(frozen=True, slots=True)
class Entry:
    """One command.

    Attributes:
        name: as it is typed.
        path: `module:function` of the click command.
        summary: what it does, in a line of the help.
    """

    name: str
    path: str
    summary: str


@dataclass(frozen=True, slots=True)
class Chapter:
    """Commands that belong together in the help."""

    title: str
    entries: Sequence[Entry]


CHAPTERS = (
    Chapter(
        "Run an application",
        (
            Entry("run", "meshserve.cli.run:run", "Run an application until Ctrl-C."),
            Entry("graph", "meshserve.cli.graph:graph", "Draw an application, without running it."),
        ),
    ),
    Chapter(
        "Operate a mesh",
        (
            Entry("deploy", "meshserve.cli.deploy:deploy", "Make what a file says run, in the background."),
            Entry("build", "meshserve.cli.build:build", "Write the file of an application."),
            Entry("config", "meshserve.cli.config:config", "Print the file that is in force."),
            Entry("start", "meshserve.cli.start:start", "Start the mesh in a Ray cluster that runs."),
            Entry("status", "meshserve.cli.status:status", "Tell what runs."),
            Entry("top", "meshserve.cli.top:top", "Show rates, latencies, queues and events, live."),
            Entry(
                "controller-health",
                "meshserve.cli.controller_health:controller_health",
                "Tell how the controller does.",
            ),
            Entry("logs", "meshserve.cli.logs:logs", "Print what was logged, or follow it."),
            Entry("metrics", "meshserve.cli.metrics:metrics", "Write files for Grafana and Prometheus."),
            Entry("delete", "meshserve.cli.inspection:delete", "Delete an application."),
            Entry("shutdown", "meshserve.cli.inspection:shutdown", "Delete all applications and end the mesh."),
        ),
    ),
    Chapter(
        "Talk to a gRPC server",
        (
            Entry("ls", "meshserve.cli.ls:ls", "List the services of a server, or the methods of one."),
            Entry("call", "meshserve.cli.call:call", "Call a method with JSON."),
            Entry("health", "meshserve.cli.health:health", "Tell whether a server or a service is healthy."),
        ),
    ),
    Chapter(
        "At the terminal",
        (Entry("completion", "meshserve.cli.completion:completion", "Print what lets a shell complete commands."),),
    ),
)


class CommandTable(click.Group):
    """A group whose commands are those of `CHAPTERS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, as click wants them."""
        return [entry.name for chapter in CHAPTERS for entry in chapter.entries]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports a command; None when there is none of that name."""
        for chapter in CHAPTERS:
            for entry in chapter.entries:
                if entry.name == cmd_name:
                    command: click.Command = import_object(entry.path)
                    return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name; a misspelt one is answered with the nearest."""
        near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
        if near and near[0] != args[0]:
            ctx.fail(f"There is no command {args[0]!r}. Did you mean {near[0]!r}?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The chapters of the help; no command is imported for it."""
        for chapter in CHAPTERS:
            with formatter.section(chapter.title):
                formatter.write_dl([(entry.name, entry.summary) for entry in chapter.entries])
