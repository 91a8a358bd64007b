"""DICOM written byte by byte, so that it can be wrong in ways that no library writes."""

import struct

IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
DEFLATED, BIG_ENDIAN, RLE = "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"
LONG = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = (0xFFFE, 0xE000), (0xFFFE, 0xE00D), (0xFFFE, 0xE0DD)
SEQUENCE = (0x0008, 0x1140)  # referenced images
PIXELS = (0x7FE0, 0x0010)
ROWS = COLUMNS = 4


def explicit(
    tag: tuple[int, int], vr: bytes, value: bytes = b"", length: int | None = None
) -> bytes:
    """One element; a length that is given may lie."""
    told = len(value) if length is None else length
    if vr in LONG:
        return struct.pack("<HH2sHL", *tag, vr, 0, told) + value
    return struct.pack("<HH2sH", *tag, vr, told & 0xFFFF) + value


def implicit(tag: tuple[int, int], value: bytes = b"", length: int | None = None) -> bytes:
    """The same without its type; delimiters and items are written so everywhere."""
    return struct.pack("<HHL", *tag, len(value) if length is None else length) + value


def text(value: str) -> bytes:
    """Of even length."""
    return value.encode() + b" " * (len(value) % 2)


def uid(value: str) -> bytes:
    """Of even length, filled up with a null."""
    return value.encode() + b"\0" * (len(value) % 2)


def us(value: int) -> bytes:
    return struct.pack("<H", value)


# What an image of 4 x 4 pixels needs; `image` replaces single ones.
SOUND: dict[tuple[int, int], tuple[bytes, bytes]] = {
    (0x0008, 0x0008): (b"CS", text("ORIGINAL\\PRIMARY\\AXIAL")),
    (0x0008, 0x0016): (b"UI", uid("1.2.840.10008.5.1.4.1.1.2")),
    (0x0008, 0x0018): (b"UI", uid("1.2.3.4.5")),
    (0x0008, 0x0060): (b"CS", text("CT")),
    (0x0010, 0x0010): (b"PN", text("Doe^Jane")),
    (0x0010, 0x0020): (b"LO", text("P1")),
    (0x0018, 0x0050): (b"DS", text("2.0")),
    (0x0020, 0x000D): (b"UI", uid("1.2.3")),
    (0x0020, 0x000E): (b"UI", uid("1.2.4")),
    (0x0020, 0x0013): (b"IS", text("1")),
    (0x0020, 0x0032): (b"DS", text("0\\0\\0")),
    (0x0020, 0x0037): (b"DS", text("1\\0\\0\\0\\1\\0")),
    (0x0028, 0x0002): (b"US", us(1)),
    (0x0028, 0x0004): (b"CS", text("MONOCHROME2")),
    (0x0028, 0x0010): (b"US", us(ROWS)),
    (0x0028, 0x0011): (b"US", us(COLUMNS)),
    (0x0028, 0x0030): (b"DS", text("1\\1")),
    (0x0028, 0x0100): (b"US", us(16)),
    (0x0028, 0x0101): (b"US", us(16)),
    (0x0028, 0x0102): (b"US", us(15)),
    (0x0028, 0x0103): (b"US", us(0)),
    PIXELS: (b"OW", bytes(range(2 * ROWS * COLUMNS))),
}

Parts = dict[tuple[int, int], bytes | None]


def image(parts: Parts | None = None, *, is_explicit: bool = True) -> bytes:
    """The data set of an image. `parts` replace or add whole elements, None leaves one out."""
    made: Parts = {
        tag: explicit(tag, vr, value) if is_explicit else implicit(tag, value)
        for tag, (vr, value) in SOUND.items()
    }
    made.update(parts or {})
    return b"".join(part for _, part in sorted(made.items()) if part is not None)


def meta(syntax: str = EXPLICIT, *, preamble: bytes = b"", extra: bytes = b"") -> bytes:
    """Preamble, magic and group 2."""
    group = explicit((0x0002, 0x0001), b"OB", b"\0\1") + extra
    if syntax:
        group += explicit((0x0002, 0x0010), b"UI", uid(syntax))
    return (
        preamble.ljust(128, b"\0")
        + b"DICM"
        + explicit((0x0002, 0x0000), b"UL", struct.pack("<L", len(group)))
        + group
    )


def file_of(parts: Parts | None = None, *, syntax: str = EXPLICIT, preamble: bytes = b"") -> bytes:
    """A whole file."""
    return meta(syntax, preamble=preamble) + image(parts, is_explicit=syntax != IMPLICIT)


def nested(depth: int, *, is_defined: bool = False, is_explicit: bool = True) -> bytes:
    """Sequences within sequences."""
    header = 12 if is_explicit else 8
    if is_defined:
        parts = []
        for left in range(depth - 1, -1, -1):
            inner = left * (header + 8)
            parts.append(
                explicit(SEQUENCE, b"SQ", b"", inner + 8)
                if is_explicit
                else implicit(SEQUENCE, b"", inner + 8)
            )
            parts.append(implicit(ITEM, b"", inner))
        return b"".join(parts)
    start = (
        explicit(SEQUENCE, b"SQ", b"", UNDEFINED)
        if is_explicit
        else implicit(SEQUENCE, b"", UNDEFINED)
    )
    return (start + implicit(ITEM, b"", UNDEFINED)) * depth + (
        implicit(ITEM_END) + implicit(SEQUENCE_END)
    ) * depth


def fragments(*pieces: bytes, end: bytes | None = None) -> bytes:
    """Compressed pixels: an empty table of offsets, the pieces, the delimiter."""
    closing = implicit(SEQUENCE_END) if end is None else end
    items = b"".join(implicit(ITEM, piece) for piece in (b"", *pieces))
    return explicit(PIXELS, b"OB", items + closing, UNDEFINED)
