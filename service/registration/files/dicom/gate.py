"""May these bytes be parsed as DICOM? Walks the elements and believes no length.

Parsers recurse into sequences, allocate what a length announces and keep every element. So a file
is first walked here, without recursion and without a copy: each length must fit what encloses it,
and depth and number of elements are bounded.

Source: DICOM PS3.5 section 7 (elements, sequences), annex A.4 (encapsulated pixels); PS3.10
section 7 (preamble, file meta information).
"""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

from service.errors import (
    CorruptFileError,
    DicomTooComplexError,
    DicomTooDeepError,
    ExecutablePreambleError,
    InvalidFileError,
    NoDicomError,
    TransferSyntaxError,
    TruncatedFileError,
)
from service.registration.files.dicom.syntaxes import IMPLICIT, TRANSFER_SYNTAXES

START_BYTES = 1 << 16
PREAMBLE_BYTES, MAGIC = 128, b"DICM"
# What operating systems start: Windows, Linux, macOS (both orders, fat), scripts.
EXECUTABLES = (
    b"MZ",
    b"\x7fELF",
    b"#!",
    b"\xfe\xed\xfa\xce",
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"\xca\xfe\xba\xbe",
)
MOST_DEPTH = 16  # sequences within sequences; enhanced images have five
MOST_ELEMENTS = 400_000  # an enhanced image of 2,000 frames has about 200,000
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
TRANSFER_SYNTAX = 0x00020010
LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR",
                  b"UT", b"UV"})  # fmt: skip
DAMAGED = "The DICOM file is damaged: an element is longer than what encloses it."


def has_magic(start: bytes) -> bool:
    """Whether a file that starts so says that it is DICOM."""
    return start[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == MAGIC


@dataclass(frozen=True)
class Passed:
    """What is known about a file that may be parsed."""

    transfer_syntax: str
    has_pixels: bool


def syntax_of(path: Path) -> str:
    """The transfer syntax, from the file's first kilobytes; empty if it does not say."""
    try:
        with path.open("rb") as file, memoryview(file.read(START_BYTES)) as view:
            if not has_magic(bytes(view[: PREAMBLE_BYTES + 4])):
                return ""
            return _meta(view, PREAMBLE_BYTES + 4)[0]
    except (InvalidFileError, OSError):
        return ""


def check_file(path: Path) -> Passed:
    """Walk a DICOM file once.

    Raises:
        NoDicomError: If it is not one.
        ExecutablePreambleError: If an operating system would run it.
        TransferSyntaxError: If its transfer syntax is not on the list of syntaxes.py.
        DicomTooDeepError: If sequences nest deeper than 16.
        DicomTooComplexError: If there are more than 400,000 elements.
        TruncatedFileError: If it ends within an element.
        CorruptFileError: If a length passes the end of what encloses it.
    """
    with path.open("rb") as file:
        start = file.read(PREAMBLE_BYTES + 4)
        if not has_magic(start):
            raise NoDicomError("The file is not DICOM: its magic number is missing.")
        if start.startswith(EXECUTABLES):
            raise ExecutablePreambleError(
                "The file's preamble starts a program. Write the file again with a tool that "
                "clears the preamble."
            )
        with (
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as view,
        ):
            return _check(view)


def _check(view: memoryview) -> Passed:
    syntax, position = _meta(view, PREAMBLE_BYTES + 4)
    if syntax not in TRANSFER_SYNTAXES:
        known = ", ".join(sorted(set(TRANSFER_SYNTAXES.values())))
        raise TransferSyntaxError(
            f"The pixels are encoded in a way that this service does not decode; send one of: "
            f"{known}."
        )
    walk = _Walk(view, position, is_explicit=syntax != IMPLICIT)
    return Passed(syntax, walk.run())


def _meta(view: memoryview, position: int) -> tuple[str, int]:
    """The transfer syntax, and where the data set begins. Group 2 is always explicit."""
    syntax = ""
    for _ in range(64):
        if position + 8 > len(view) or bytes(view[position : position + 2]) != b"\x02\x00":
            break
        tag, _, length, header = _explicit(view, position, len(view))
        if length > len(view) - position - header:
            raise CorruptFileError(DAMAGED)
        if tag == TRANSFER_SYNTAX:
            value = bytes(view[position + header : position + header + min(length, 64)])
            syntax = value.rstrip(b"\0 ").decode("ascii", "replace")
        position += header + length
    if not syntax:
        raise CorruptFileError("The DICOM file does not say how it is encoded.")
    return syntax, position


def _explicit(view: memoryview, position: int, end: int) -> tuple[int, bytes, int, int]:
    """Tag, value representation, length, and bytes of the element's header."""
    group, element = struct.unpack_from("<HH", view, position)
    vr = bytes(view[position + 4 : position + 6])
    if vr in LONG:
        if position + 12 > end:
            raise TruncatedFileError("The DICOM file ends within an element.")
        return group << 16 | element, vr, struct.unpack_from("<L", view, position + 8)[0], 12
    if not (vr.isalpha() and vr.isupper()):
        raise CorruptFileError("The DICOM file is damaged: an element has no known type.")
    return group << 16 | element, vr, struct.unpack_from("<H", view, position + 6)[0], 8


@dataclass
class _Level:
    """An open sequence or item. `end` is None where a delimiter ends it."""

    end: int | None
    limit: int
    is_explicit: bool
    is_sequence: bool
    is_fragments: bool = False


class _Walk:
    """Goes over a data set, element by element, without recursion."""

    def __init__(self, view: memoryview, position: int, *, is_explicit: bool) -> None:
        self._view, self._position = view, position
        size = len(view)
        self._levels = [_Level(size, size, is_explicit, is_sequence=False)]
        self._elements = 0

    def run(self) -> bool:
        """Walk to the pixels or to the end; whether there are pixels."""
        while self._close_full_levels():
            level = self._levels[-1]
            if self._position + 8 > level.limit:
                raise TruncatedFileError("The DICOM file ends within an element.")
            self._count()
            group, element = struct.unpack_from("<HH", self._view, self._position)
            tag = group << 16 | element
            if group == 0xFFFE:
                self._delimiter(tag, level)
            elif level.is_sequence:
                raise CorruptFileError("The DICOM file is damaged: a sequence holds no items.")
            elif self._element(tag, level):
                return True
        return False

    def _close_full_levels(self) -> bool:
        while self._levels and self._levels[-1].end is not None:
            end = self._levels[-1].end
            if self._position < end:
                return True
            if self._position > end:
                raise CorruptFileError(DAMAGED)
            self._levels.pop()
        return bool(self._levels)

    def _count(self) -> None:
        self._elements += 1
        if self._elements > MOST_ELEMENTS:
            raise DicomTooComplexError(
                f"The DICOM file has more than {MOST_ELEMENTS} elements. Send images only, "
                "without private data."
            )

    def _delimiter(self, tag: int, level: _Level) -> None:
        length = struct.unpack_from("<L", self._view, self._position + 4)[0]
        self._position += 8
        if tag == ITEM and level.is_sequence:
            if level.is_fragments:
                self._skip(length, level.limit)
            else:
                self._open(length, level.is_explicit, is_sequence=False)
        elif tag in (ITEM_END, SEQUENCE_END) and level.end is None:
            if (tag == SEQUENCE_END) != level.is_sequence:
                raise CorruptFileError("The DICOM file is damaged: sequences end out of order.")
            self._levels.pop()
        else:
            raise CorruptFileError("The DICOM file is damaged: a delimiter out of place.")

    def _element(self, tag: int, level: _Level) -> bool:
        """Go past one element, or into it; whether it is the image's pixels."""
        if level.is_explicit:
            _, vr, length, header = _explicit(self._view, self._position, level.limit)
        else:
            vr, header = b"", 8
            length = struct.unpack_from("<L", self._view, self._position + 4)[0]
        self._position += header
        if tag in PIXELS:
            is_image = len(self._levels) == 1
            if length == UNDEFINED:
                self._open(length, level.is_explicit, is_sequence=True, is_fragments=True)
                return is_image and self._fragments()
            self._skip(length, level.limit)
            return is_image
        if length == UNDEFINED or vr == b"SQ" or self._starts_with_item(vr, length):
            self._open(length, level.is_explicit and vr != b"UN", is_sequence=True)
        else:
            self._skip(length, level.limit)
        return False

    def _starts_with_item(self, vr: bytes, length: int) -> bool:
        """Whether a value without a known type is a sequence, which parsers would go into."""
        if vr not in (b"", b"UN") or length < 8:
            return False
        return bytes(self._view[self._position : self._position + 4]) == b"\xfe\xff\x00\xe0"

    def _fragments(self) -> bool:
        """Go over the pieces of compressed pixels; whether there are any."""
        depth, pieces = len(self._levels), 0
        while len(self._levels) == depth:
            if self._position + 8 > self._levels[-1].limit:
                raise TruncatedFileError("The DICOM file ends within its pixels.")
            self._count()
            group, element = struct.unpack_from("<HH", self._view, self._position)
            self._delimiter(group << 16 | element, self._levels[-1])
            pieces += 1
        return pieces > 1

    def _open(
        self, length: int, is_explicit: bool, *, is_sequence: bool, is_fragments: bool = False
    ) -> None:
        limit = self._levels[-1].limit
        end = None
        if length != UNDEFINED:
            end = self._position + length
            if end > limit:
                raise CorruptFileError(DAMAGED)
        level = _Level(end, end or limit, is_explicit, is_sequence, is_fragments)
        self._levels.append(level)
        if len(self._levels) > 2 * MOST_DEPTH + 1:
            raise DicomTooDeepError(f"Sequences are nested more than {MOST_DEPTH} deep.")

    def _skip(self, length: int, limit: int) -> None:
        if length > limit - self._position:
            raise (
                TruncatedFileError("The DICOM file ends before an element does; send it again.")
                if limit == len(self._view)
                else CorruptFileError(DAMAGED)
            )
        self._position += length
