"""Pieces of bytes: turned, cut and clipped wherever their borders fall."""

from hypothesis import given
from hypothesis import strategies as st

from archive.retrieve.reading import clip, cut, swapped

PIECES = st.lists(st.binary(max_size=20), max_size=8)


@given(PIECES, st.sampled_from([2, 4, 8]))
def test_words_are_turned_whatever_the_pieces(pieces, word_bytes):
    joined = b"".join(pieces)
    whole = len(joined) // word_bytes * word_bytes
    expected = b"".join(
        joined[start : start + word_bytes][::-1] for start in range(0, whole, word_bytes)
    )
    assert b"".join(swapped(pieces, word_bytes)) == expected + joined[whole:]


@given(PIECES, st.integers(0, 200), st.integers(1, 200))
def test_a_cut_is_a_slice(pieces, offset, length):
    assert b"".join(cut(pieces, offset, length)) == b"".join(pieces)[offset : offset + length]


@given(PIECES, st.integers(0, 200), st.integers(0, 200))
def test_clipped_spans_name_the_same_bytes(pieces, offset, length):
    body = b"".join(pieces)
    spans, at = [], 0
    for piece in pieces:
        spans.append((at, len(piece)))
        at += len(piece)
    clipped = clip(spans, offset, length)
    assert (
        b"".join(body[start : start + size] for start, size in clipped)
        == (body[offset : offset + length])
    )
