"""Messages to a stream: alone at once, in quick succession together."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from meshserve.rpc import batch_writer
from meshserve.rpc.batch_writer import YOUNG_S, BatchWriter, Young

pytestmark = pytest.mark.asyncio

LONG_S = 60.0


class Stream:
    """Frames to write, the messages that were written, and whether it takes more."""

    def __init__(self):
        self.frames = []
        self.in_flight = 0
        self.messages = []
        self.writable = True
        self.faults = []
        self.on_writable = None
        self.writer = BatchWriter(self._build, self._in_company)

    def add(self, frame):
        self.frames.append(frame)
        self.writer.wake()

    def send(self, message):
        self.messages.append(message)

    def fail(self, error):
        self.faults.append(str(error))

    def _build(self):
        if "bad" in self.frames:
            raise ValueError("a bad frame")
        frames, self.frames = self.frames, []
        return frames or None

    def _in_company(self):
        return len(self.frames) >= self.in_flight or not self.frames


@asynccontextmanager
async def writing(stream):
    stream.writer.begin(stream)
    await settled()
    yield
    stream.writer.end()


async def settled():
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_frame_alone_leaves_at_once(monkeypatch):
    monkeypatch.setattr(batch_writer, "PAUSE_S", LONG_S)
    stream = Stream()
    async with writing(stream):
        for frame in "ab":
            stream.in_flight = 1
            stream.add(frame)
            await settled()
    assert stream.messages == [["a"], ["b"]]


async def test_frames_in_quick_succession_leave_together_once_all_in_flight_are_there(monkeypatch):
    monkeypatch.setattr(batch_writer, "PAUSE_S", LONG_S)
    stream = Stream()
    async with writing(stream):
        stream.in_flight = 3
        for frame in "abcd":
            stream.add(frame)
            await settled()
    assert stream.messages == [["a"], ["b", "c", "d"]], "the first follows none"


async def test_a_pause_has_an_end():
    stream = Stream()
    async with writing(stream):
        stream.in_flight = 10
        stream.add("a")
        await settled()
        stream.add("b")
        async with asyncio.timeout(10):
            while len(stream.messages) < 2:
                await asyncio.sleep(0.001)
    assert stream.messages == [["a"], ["b"]]


async def test_what_comes_while_the_stream_takes_nothing_leaves_together_afterwards(monkeypatch):
    monkeypatch.setattr(batch_writer, "PAUSE_S", 0.0)
    stream = Stream()
    async with writing(stream):
        stream.writable = False
        for frame in "abc":
            stream.add(frame)
            await settled()
        assert stream.messages == []
        stream.writable = True
        stream.on_writable()
        await settled()
    assert stream.messages == [["a", "b", "c"]]


async def test_what_becomes_ready_in_one_step_of_the_loop_leaves_together():
    stream = Stream()
    async with writing(stream):
        for frame in "abc":
            stream.add(frame)
        await settled()
    assert stream.messages == [["a", "b", "c"]]


async def test_nothing_leaves_before_the_beginning_nor_after_the_end():
    stream = Stream()
    stream.add("a")
    await settled()
    assert stream.messages == []
    async with writing(stream):
        assert stream.messages == [["a"]]
        stream.add("b")
    await settled()
    assert stream.messages == [["a"]]


async def test_a_message_that_cannot_be_made_ends_the_stream():
    stream = Stream()
    async with writing(stream):
        stream.add("bad")
        await settled()
    assert stream.faults == ["a message could not be written: ValueError('a bad frame')"]


async def test_calls_that_take_long_are_no_company():
    at = 0.0
    calls = dict.fromkeys(range(1, 4))
    young = Young(calls, lambda: at)
    assert young.count() == 3
    at += YOUNG_S
    calls[4] = None
    assert young.count() == 4, "they were first seen now"
    at += YOUNG_S
    calls[5] = None
    assert young.count() == 1, "only the one that came since the last look"
    del calls[1], calls[2]
    at += YOUNG_S
    assert young.count() == 0
    calls.clear()
    at += YOUNG_S
    assert young.count() == 0
    calls[6] = None
    assert young.count() == 1
