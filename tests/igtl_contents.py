"""What TRANSFORM and STATUS hold, read by the protocol's tables. Source: OpenIGTLink, Protocol."""

import struct

import numpy as np


def transform_in(content: bytes | memoryview) -> np.ndarray:
    """Twelve float32, big endian: the columns of the upper three rows."""
    matrix = np.eye(4)
    matrix[:3] = np.array(struct.unpack(">12f", content)).reshape(4, 3).T
    return matrix


def status_in(content: bytes | memoryview) -> tuple[int, int, str, str]:
    """Code, number, word and sentence."""
    code, number, word = struct.unpack_from(">Hq20s", content)
    sentence = bytes(content[30:])
    assert sentence.endswith(b"\0")
    return code, number, word.rstrip(b"\0").decode(), sentence[:-1].decode()
