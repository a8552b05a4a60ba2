"""What README and the guides show: programs run, in the order of their page, commands and files are valid."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import grpc
import pytest
import starlette.requests
import yaml
from fastapi import Depends, FastAPI
from pydantic import BaseModel

import meshserve as serve
from meshserve.cli.main import main
from meshserve.config import RequestRouterConfig
from meshserve.schema import ServeDeploySchema
from meshserve.testing.local import shutdown_local

DOCS = Path(serve.__file__).parent / "docs"
README = DOCS.parents[1] / "README.md"
PAGES = {page.name: page for page in (README, *sorted(DOCS.glob("*.md")))}


class Item(BaseModel):
    name: str


@serve.deployment
class Cached:
    """What a page calls as `handle`."""

    def __call__(self, request: str) -> str:
        return request

    def drop_cache(self, key: str) -> str:
        return key


def given() -> dict[str, Any]:
    """What the pages leave to their readers: modules that are imported, and names that stand for their own code."""
    return {
        "__name__": "__main__",
        "serve": serve,
        "time": time,
        "grpc": grpc,
        "starlette": starlette,
        "FastAPI": FastAPI,
        "Depends": Depends,
        "Item": Item,
        "User": Item,
        "current_user": lambda: Item(name="me"),
        "RequestRouterConfig": RequestRouterConfig,
        "announce": lambda *what: None,
        "handle": serve.run(Cached.bind(), name="given", _local_testing_mode=True),
        "key": "k",
        "request": "r",
    }


ELSEWHERE = {
    "meshserve.connect(": "tests/wire/test_client.py",
    "tritonclient": "tests/clients/test_triton.py",
    "serve.start(": "tests/wire/test_dashboard.py",
}
"""Words of programs that need a mesh with ports, and where what they show is tested: here they only have to parse."""


def blocks(page: str, *languages: str) -> list[str]:
    return re.findall(rf"```(?:{'|'.join(languages)})\n(.*?)```", PAGES[page].read_text(), re.DOTALL)


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MESHSERVE_FORCE_LOCAL_TESTING_MODE", "1")
    yield
    shutdown_local()


def execute(page: str) -> dict[str, Any]:
    """Executes the programs of a page in one namespace, which is returned."""
    names = given()
    for number, block in enumerate(blocks(page, "python")):
        code = compile(block, f"{page}, program {number}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if not any(word in block for word in ELSEWHERE):
            running = eval(code, names)
            if inspect.iscoroutine(running):
                asyncio.run(running)
    return names


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_the_programs_of_a_page_run(page: str) -> None:
    execute(page)


def test_the_configuration_file_is_one() -> None:
    (text,) = blocks("configuration.md", "yaml")
    (application,) = ServeDeploySchema.model_validate(yaml.safe_load(text)).applications
    assert (application.name, application.route_prefix) == ("greeter", "/greet")


def test_the_tour_gives_what_it_computes() -> None:
    assert execute("README.md")["handle"].score.remote("to be or not").result() == 9.0


def test_a_graph_and_the_same_with_handles_give_the_same() -> None:
    names = execute("graphs.md")
    assert "# 12.0" in blocks("graphs.md", "python")[1]
    assert names["handle"].predict.remote({"image": [1.0, 2.0], "scale": 2.0}).result() == 12.0
    assert serve.run(names["app"]).predict.remote([1.0, 2.0], 2.0).result() == 12.0


def test_calls_of_every_kind_give_what_they_compute(capsys: pytest.CaptureFixture[str]) -> None:
    names = execute("handles.md")
    assert capsys.readouterr().out == "to\nbe\n"
    assert (names["response"].result(), asyncio.run(names["main"]())) == (9.0, 6.0)
    assert names["test_handle"].score.remote("abc").result() == 3.0


def test_a_broadcast_and_a_choice_reach_the_replica() -> None:
    names = execute("routing.md")
    assert (names["results"], names["result"]) == (["k"], "r")


def test_a_policy_of_ones_own_answers() -> None:
    wanted, state = execute("scaling.md")["office_hours"](SimpleNamespace(total_num_requests=8))
    assert (wanted in (10, 2), state) == (True, {})


COMMANDS = [
    (page, line) for page in PAGES for line in "".join(blocks(page, "sh")).splitlines() if line.startswith("meshserve ")
]


@pytest.mark.parametrize(("page", "line"), COMMANDS)
def test_the_commands_of_a_page_are_ones_there_are(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    command: click.Command | None = main
    while isinstance(command, click.Group):
        command = command.get_command(click.Context(command), words.pop(0))
    assert command is not None
    command.make_context(line, words, resilient_parsing=False)
