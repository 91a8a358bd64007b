"""Multipart messages, against the standard library's own writer, cut anywhere."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import PacsUnavailableError
from service.pacs.multipart import boundary_of, pieces

BOUNDARY = b"b0undary"


def message(parts: list[bytes]) -> bytes:
    """As RFC 2046 has it."""
    head = b"--" + BOUNDARY + b"\r\nContent-Type: application/dicom\r\n\r\n"
    return b"".join(head + part + b"\r\n" for part in parts) + b"--" + BOUNDARY + b"--\r\n"


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def parts_of(chunks: Iterator[bytes]) -> list[bytes]:
    found: list[bytes] = []
    for piece in pieces(chunks, BOUNDARY):
        if piece.begins:
            found.append(b"")
        found[-1] += piece.data
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([b"", b"a", b"\r\n", b"\r\n--b0", b"--", b"x" * 90]), max_size=5),
    st.integers(1, 40),
)
def test_parts_come_whole_however_the_bytes_come(parts: list[bytes], size: int) -> None:
    assert parts_of(cut(message(parts), size)) == parts


def test_a_preamble_means_nothing() -> None:
    assert parts_of(iter([b"hello\r\n" + message([b"a"])])) == [b"a"]


@pytest.mark.parametrize("length", [0, 5, 30, 60, 70, 75])
def test_an_answer_that_ends_early_is_not_whole(length: int) -> None:
    with pytest.raises(PacsUnavailableError):
        parts_of(iter([message([b"a" * 20])[:length]]))


def test_headers_have_an_end() -> None:
    endless = (b"--" + BOUNDARY + b"\r\n", *[b"X: " + b"y" * 4096 + b"\r\n"] * 20)
    with pytest.raises(PacsUnavailableError):
        parts_of(iter(endless))


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ('multipart/related; type="application/dicom"; boundary=b0undary', b"b0undary"),
        ('Multipart/Related;boundary="a b=c"', b"a b=c"),
        ("application/dicom", None),
        ("multipart/related", None),
        ("", None),
    ],
)
def test_boundaries(content_type: str, boundary: bytes | None) -> None:
    assert boundary_of(content_type) == boundary
