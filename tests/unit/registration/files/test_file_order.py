"""Arrays in the order of files, whatever their size."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from service.registration.files.file_order import turned, turned_vectors

# Slabs of the second lie at a multiple of a large power of two, and are turned some at a time.
SHAPES = [(19, 6, 37), (21, 16, 128), (1, 5, 3)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.float32, np.float64])
def test_axes_come_in_reverse(rng, shape, kind):
    values = (100 * rng.standard_normal(shape)).astype(kind)
    found = turned(values)
    assert found.flags.c_contiguous
    assert_array_equal(found, values.T)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("some", [slice(0, 3), slice(1, 2)], ids=str)
def test_components_come_apart_with_their_signs(rng, shape, some):
    vectors = rng.standard_normal((*shape, 3)).astype(np.float32)
    signs = np.array([-1, 1, -1], np.float32)
    expected = np.moveaxis(vectors * signs, -1, 0)[some].transpose(0, 3, 2, 1)
    assert_array_equal(turned_vectors(vectors, some, signs), expected)
