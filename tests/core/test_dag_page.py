"""The page on graphs: its programs run, and give what it says."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import meshserve
from meshserve import run
from meshserve.api.dag_picture import as_text, picture_of
from meshserve.testing.local import shutdown_local

PAGE = (Path(meshserve.__file__).parent / "docs" / "graphs.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def graph() -> Iterator[dict[str, Any]]:
    names: dict[str, Any] = {}
    exec(blocks("python")[0], names)
    yield names
    shutdown_local()


def test_the_graph_gives_what_the_page_says(graph: dict[str, Any]) -> None:
    handle = run(graph["app"], _local_testing_mode=True)

    assert handle.predict.remote({"image": [1.0, 2.0], "scale": 2.0}).result() == 12.0
    assert "# 12.0" in blocks("python")[1]


def test_it_is_drawn_as_shown(graph: dict[str, Any]) -> None:
    assert as_text(picture_of(graph["app"])) == blocks("text")[0].rstrip("\n")


def test_the_program_with_handles_does_the_same(graph: dict[str, Any]) -> None:
    exec(blocks("python")[2], graph)

    assert run(graph["app"], _local_testing_mode=True).predict.remote([1.0, 2.0], 2.0).result() == 12.0
