"""The contents of TRANSFORM, POINT, STATUS, STRING and CAPABILITY.

Source: OpenIGTLink, Documents/Protocol.
"""

import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum

import numpy as np
from jaxtyping import Float

from service.igtl.wire import UTF8
from service.registration.grid import Matrix4

POINT = struct.Struct(">64s32s4B3ff20s")
STATUS = struct.Struct(">Hq20s")
TYPE_BYTES = 12
YELLOW = (255, 255, 0, 255)


class StatusCode(IntEnum):
    """Codes of STATUS that this bridge sends."""

    OK = 1
    UNKNOWN_ERROR = 2
    BUSY = 6
    LOST = 7
    CHECKSUM = 9
    RESOURCES = 11
    UNKNOWN_INSTRUCTION = 12
    NOT_READY = 13
    UNKNOWN_VERSION = 17
    SHUT_DOWN = 19


def pack_transform(matrix: Matrix4) -> bytes:
    """The upper three rows of a matrix, column by column, float32."""
    return np.asarray(matrix)[:3].T.astype(">f4").tobytes()


def pack_points(positions_mm: Float[np.ndarray, "n 3"], names: Sequence[str], owner: str) -> bytes:
    """Points in world millimetres, RAS+; `owner` is the device name of the image they lie in."""
    return b"".join(
        POINT.pack(
            _cut(name, 64), b"Labeled Point", *YELLOW, *map(float, position), 0.0, _cut(owner, 20)
        )
        for name, position in zip(names, positions_mm, strict=True)
    )


def pack_status(code: int, name: str, sentence: str, subcode: int = 0) -> bytes:
    """A status: a code, a word, a sentence that ends in a zero byte, and a number of ours."""
    return STATUS.pack(code, subcode, _cut(name, 19)) + sentence.encode() + b"\0"


def pack_string(text: str) -> bytes:
    """A text of at most 65535 bytes; a longer one is cut."""
    encoded = _cut(text, 0xFFFF)
    return struct.pack(">HH", UTF8, len(encoded)) + encoded


def pack_types(kinds: Iterable[str]) -> bytes:
    """The kinds of message that can be taken, for CAPABILITY."""
    return b"".join(_cut(kind, TYPE_BYTES).ljust(TYPE_BYTES, b"\0") for kind in kinds)


def _cut(text: str, size: int) -> bytes:
    """Text cut to a field, never in the middle of a character."""
    return text.encode()[:size].decode("utf-8", "ignore").encode()
