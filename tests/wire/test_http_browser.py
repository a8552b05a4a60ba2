"""A real browser on a page of an example: tokens by server-sent events, a conversation over a WebSocket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from browser import CHROMIUM, Tab, browser
from http_mesh import Served, eventually, serving
from websockets.sync.client import connect

from meshserve.examples.chat import Chat

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


class Model:
    """Takes the place of the handle that the example's ingress calls its model by."""

    def options(self, **_options: Any) -> Model:
        return self

    @property
    def answer(self) -> Any:
        return self

    async def remote(self, prompt: str) -> AsyncIterator[str]:
        for word in f"You said: {prompt}".split():
            yield f"{word} "


@pytest.fixture(scope="module")
def chat() -> Iterator[Served]:
    with serving(Chat.func_or_class, Model(), prefix="/chat") as served:
        yield served


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("chromium")) as opened:
        yield opened


@pytest.fixture
def page(chat: Served, tab: Tab) -> Tab:
    """The page, freshly opened under its prefix and connected."""
    tab.problems.clear()
    tab.open(f"{chat.mesh.url}/chat/")
    tab.until("document.getElementById('state').textContent === '1 connected'")
    return tab


def type_and_send(page: Tab, form: str, field: str, text: str) -> None:
    page.value(f"document.querySelector('#{form} [name={field}]').value = {json.dumps(text)}")
    page.value(f"document.querySelector('#{form} button').click()")


def test_tokens_stream_into_the_page(page: Tab) -> None:
    type_and_send(page, "ask", "prompt", "the sea & <the> sky")
    page.until("document.getElementById('answer').dataset.state === 'done'")
    assert page.value("document.getElementById('answer').textContent").strip() == "You said: the sea & <the> sky"
    assert not page.problems


def test_conversation_over_a_web_socket(page: Tab) -> None:
    for number, text in enumerate(["hello", "and again"], start=1):
        type_and_send(page, "say", "text", text)
        page.until(f"document.querySelectorAll('#talk li[data-state=done]').length === {number}")
    assert page.value("[...document.querySelectorAll('#talk li')].map(item => item.textContent.trim())") == [
        "hello",
        "You said: hello",
        "and again",
        "You said: and again",
    ]
    assert not page.problems


def test_page_hears_of_others_while_it_is_silent(chat: Served, page: Tab) -> None:
    with connect(f"{chat.mesh.url.replace('http', 'ws')}/chat/ws"):
        page.until("document.getElementById('state').textContent === '2 connected'")
    page.until("document.getElementById('state').textContent === '1 connected'")


def test_closing_in_the_page_ends_the_conversation(chat: Served, page: Tab) -> None:
    present = chat.mesh.user()._present
    assert len(present) == 1
    page.value("socket.close(4001)")
    page.until("document.getElementById('state').textContent === 'closed (4001)'")
    eventually(lambda: not present)
