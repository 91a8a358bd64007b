"""RGB pictures as PNG and back, as this package writes them; needs no imaging library."""

import struct

import numpy as np
from isal import isal_zlib
from jaxtyping import UInt8

from service.registration.files.deflate import deflated

Picture = UInt8[np.ndarray, "height width 3"]

PNG_START, PNG_LEVEL = b"\x89PNG\r\n\x1a\n", 2
FILTER_UP, RGB = 2, 2
# More than any picture of ours; a hostile file must not fill the memory.
MOST_PIXELS = 40_000_000


def rgb_png(picture: Picture, level: int = PNG_LEVEL) -> bytes:
    """A picture as PNG, quickly rather than as small as can be.

    Every row is told by what it adds to the row above it, and deflated by ISA-L.

    Args:
        picture: Red, green and blue of each pixel, top row first.
        level: Of ISA-L, 0 to 3.

    Source: PNG specification, third edition, 5.2 (chunks), 9.2 (filter type 2, Up).
    """
    height, width, _ = picture.shape
    rows = picture.reshape(height, -1)
    filtered = np.empty((height, rows.shape[1] + 1), np.uint8)
    filtered[:, 0] = FILTER_UP
    filtered[:1, 1:] = rows[:1]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    size = struct.pack(">IIBBBBB", width, height, 8, RGB, 0, 0, 0)
    image = deflated(filtered.data.cast("B"), level, 15, isal_zlib.Z_FINISH)
    parts = ((b"IHDR", size), (b"IDAT", image), (b"IEND", b""))
    return PNG_START + b"".join(_chunk(*part) for part in parts)


def _chunk(kind: bytes, data: bytes) -> bytes:
    checksum = isal_zlib.crc32(data, isal_zlib.crc32(kind))
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", checksum)


def picture_of(png: bytes) -> Picture | None:
    """The picture in a PNG that `rgb_png` wrote; None for any other bytes."""
    try:
        return _decoded(png)
    except (struct.error, isal_zlib.error, ValueError):  # type: ignore[misc]  # it is a class
        return None


def _decoded(png: bytes) -> Picture | None:
    if not png.startswith(PNG_START) or png[12:16] != b"IHDR":
        return None
    width, height, *kind = struct.unpack(">IIBBBBB", png[16:29])
    size = height * (3 * width + 1)
    if kind != [8, RGB, 0, 0, 0] or not 0 < width * height <= MOST_PIXELS:
        return None
    inflating = isal_zlib.decompressobj()
    rows = np.frombuffer(inflating.decompress(_image_data(png), size), np.uint8)
    rows = rows.reshape(height, 3 * width + 1)
    if (rows[:, 0] != FILTER_UP).any():
        return None
    picture: Picture = np.add.accumulate(rows[:, 1:], axis=0, dtype=np.uint8)
    return picture.reshape(height, width, 3)


def _image_data(png: bytes) -> bytes:
    """What the IDAT chunks hold."""
    at, found = len(PNG_START), []
    while at + 8 <= len(png):
        length, kind = struct.unpack(">I4s", png[at : at + 8])
        if kind == b"IDAT":
            found.append(png[at + 8 : at + 8 + length])
        at += length + 12
    return b"".join(found)


def thumbnail(png: bytes, most_px: int) -> bytes | None:
    """The picture in a PNG of ours made smaller: each pixel the mean of a square of pixels.

    Args:
        png: As `rgb_png` wrote it.
        most_px: Width that the smaller picture has at most.

    Returns:
        A PNG; None where the bytes are no PNG of ours.
    """
    picture = picture_of(png)
    if picture is None:
        return None
    step = -(-picture.shape[1] // most_px)
    height, width = picture.shape[0] // step, picture.shape[1] // step
    if step == 1 or not height:
        return png
    squares = picture[: height * step, : width * step].reshape(height, step, width, step, 3)
    total = squares.sum(axis=(1, 3), dtype=np.uint32)
    return rgb_png((total // step**2).astype(np.uint8), level=3)
