"""The checksum is the one that OpenIGTLink's library and pyigtl have."""

import numpy as np
import pytest
from pyigtl.messages import CRC64

from service.igtl.crc import crc64


def test_check_value_of_the_standard():
    assert crc64(b"123456789") == 0x6C40DF5F0B497347


@pytest.mark.parametrize("size", [0, 1, 7, 8, 15, 16, 17, 31, 32, 33, 1000, 65537])
def test_equals_pyigtl_at_every_remainder_of_a_step(size):
    data = np.random.default_rng(size).integers(0, 256, size, np.uint8).tobytes()
    assert crc64(data) == crc64(memoryview(data)) == CRC64(data)
