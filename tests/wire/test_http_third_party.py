"""A well-known application that knows nothing of the mesh, unchanged, under a prefix: Datasette with its main paths."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from http_mesh import Served, serving

from meshserve.user.ingress import ingress

pytest.importorskip("datasette")

ROWS = 500


def explorer(database: str) -> Callable[[], Any]:
    """A builder of the application for a database."""

    def build() -> Any:
        from datasette.app import Datasette

        return Datasette([database], settings={"base_url": "/data/", "max_csv_mb": 0}).app()

    return build


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    database: Path = tmp_path_factory.mktemp("datasette") / "shop.db"
    with sqlite3.connect(database) as connection:
        connection.execute("create table item (id integer primary key, name text, kind text)")
        rows = [(number, f"item {number}", "even" if number % 2 == 0 else "odd") for number in range(ROWS)]
        connection.executemany("insert into item values (?, ?, ?)", rows)
    with serving(ingress(explorer(str(database)))(), prefix="/data") as served:
        yield served


def test_index_lists_the_database_and_links_under_the_prefix(data: Served) -> None:
    page = data.get("/data/")
    assert page.status_code == 200 and page.headers["content-type"].startswith("text/html")
    assert re.search(r'href="/data/shop"', page.text)
    assert data.get("/data/.json").json()["shop"]["tables_count"] == 1


def test_table_with_filter_facet_and_paging(data: Served) -> None:
    page = data.get("/data/shop/item.json", params={"kind": "odd", "_facet": "kind", "_size": 10, "_shape": "objects"})
    content = page.json()
    assert [row["id"] for row in content["rows"]] == list(range(1, 20, 2))
    assert content["facet_results"]["kind"]["results"][0]["count"] == ROWS // 2
    following = data.get(content["next_url"].replace("/data/data/", "/data/")).json()
    assert following["rows"][0]["id"] == 21
    assert "item 0" in data.get("/data/shop/item").text


def test_row_query_and_error(data: Served) -> None:
    assert data.get("/data/shop/item/7.json?_shape=array").json()[0]["name"] == "item 7"
    answer = data.get("/data/shop.json", params={"sql": "select count(*) as n from item", "_shape": "array"})
    assert answer.json() == [{"n": ROWS}]
    wrong = data.get("/data/shop.json", params={"sql": "select nothing from nowhere"})
    assert (wrong.status_code, wrong.json()["ok"]) == (400, False)
    assert data.get("/data/shop/absent").status_code == 404


def test_csv_streams_all_rows(data: Served) -> None:
    with data.stream("GET", "/data/shop/item.csv", params={"_stream": "on"}) as response:
        assert response.headers["content-type"].startswith("text/plain")
        lines = list(response.iter_lines())
    assert (lines[0], len(lines)) == ("id,name,kind", ROWS + 1)


def test_static_files_and_forms(data: Served) -> None:
    style = data.get("/data/-/static/app.css")
    assert style.status_code == 200 and style.headers["content-type"].startswith("text/css")
    form = data.get("/data/-/messages")
    token = re.search(r'name="csrftoken" value="([^"]+)"', form.text)
    assert token is not None
    answer = data.post("/data/-/messages", data={"csrftoken": token[1], "message": "hello", "message_type": "INFO"})
    assert answer.status_code == 302 and "ds_messages" in answer.headers["set-cookie"]
    assert data.post("/data/-/messages", data={"message": "forged"}).status_code == 403
