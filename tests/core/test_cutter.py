"""Pieces that begin with their length, however the bytes come."""

from hypothesis import given
from hypothesis import strategies as st

from meshserve.transport.cutter import Cutter


def cut(chunks):
    """Pieces of which the first two bytes are their length; what is left over."""
    cutter = Cutter(2, lambda data, at: 2 + int.from_bytes(data[at : at + 2], "big"))
    pieces = [data[begin + 2 : end] for chunk in chunks for data, begin, end in cutter.feed(chunk)]
    return pieces, cutter.holds


@given(st.lists(st.binary(max_size=300)), st.lists(st.integers(0, 400)))
def test_the_same_pieces_come_out_however_they_were_torn(pieces, tears):
    data = b"".join(len(piece).to_bytes(2, "big") + piece for piece in pieces)
    chunks = []
    for size in tears:
        chunks.append(data[:size])
        data = data[size:]
    assert cut([*chunks, data]) == (pieces, 0)


def test_a_piece_that_is_not_whole_is_held():
    assert cut([b"\0\3ab"]) == ([], 4)
    assert cut([b"\0"]) == ([], 1)
    assert cut([b"\0\1a\0"]) == ([b"a"], 1)
