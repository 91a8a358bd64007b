"""Labels carried through a field: nearest, or the label with the largest share."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import gaussian_filter

from service.errors import BadLabelsError
from service.registration.fields import DisplacementField
from service.registration.resample import warp, warp_both, warp_labels
from service.registration.volume import Volume
from tests.displacements import constant_field, smooth_field


def test_labels_keep_their_set_and_their_type(make_grid, rng):
    grid = make_grid()
    labels = Volume(rng.integers(0, 300, grid.shape).astype(np.int32), grid)
    for interpolation in ("nearest", "linear"):
        warped = warp_labels(labels, smooth_field(grid, rng, 3), interpolation=interpolation)
        assert warped.data.dtype == np.uint16
        assert set(np.unique(warped.data)) <= set(np.unique(labels.data)) | {0}


@pytest.mark.parametrize("how", ["linear", "cubic"])
@pytest.mark.parametrize("label_how", ["nearest", "linear"])
def test_an_image_and_its_labels_at_once_are_what_each_is_alone(make_grid, rng, how, label_how):
    grid = make_grid("oblique", shape=(20, 22, 1) if how == "cubic" else (20, 22, 18))
    field = smooth_field(grid, rng, 4)
    image = Volume(rng.standard_normal(grid.shape).astype(np.float32), grid)
    labels = Volume(rng.integers(0, 300, grid.shape).astype(np.int32), grid)
    options = {"interpolation": how, "fill": -3.0}
    both = warp_both(image, labels, field, label_interpolation=label_how, **options)
    alone = warp_labels(labels, field, interpolation=label_how)
    assert_array_equal(both[0].data, warp(image, field, **options).data)
    assert_array_equal(both[1].data, alone.data)
    assert both[1].data.dtype == alone.data.dtype
    assert (both[0].data == -3).any()
    elsewhere = Volume(labels.data, make_grid("oblique", shape=grid.shape, spacing_mm=(1, 1, 1)))
    apart = warp_both(image, elsewhere, field, label_interpolation=label_how, **options)
    expected = warp_labels(elsewhere, field, interpolation=label_how)
    assert_array_equal(apart[1].data, expected.data)


def test_label_maps_of_fractions_are_refused(make_grid):
    grid = make_grid()
    with pytest.raises(BadLabelsError):
        warp_labels(Volume(np.full(grid.shape, 0.5), grid), DisplacementField.zero(grid))


def test_linear_labels_are_the_argmax_of_warped_indicators(make_grid, orientation, rng):
    grid = make_grid(orientation)
    labels = Volume(
        (gaussian_filter(rng.standard_normal(grid.shape), 1) * 20 + 3).clip(0, 6).astype(np.uint8),
        grid,
    )
    field = smooth_field(grid, rng, 3)
    shares = np.stack(
        [
            warp(labels.with_data((labels.data == n).astype(np.float32)), field).data
            for n in range(7)
        ]
    )
    ours = warp_labels(labels, field, interpolation="linear").data
    best = np.take_along_axis(shares, ours[None].astype(int), 0)[0]
    inside = shares.sum(0) > 0
    assert_allclose(best[inside], shares.max(0)[inside], atol=1e-5)
    assert not ours[~inside].any()
    clear = np.sort(shares, 0)[-1] - np.sort(shares, 0)[-2] > 1e-5
    assert_array_equal(ours[clear], shares.argmax(0)[clear])


def test_of_labels_with_equal_shares_the_lowest_wins(make_grid):
    grid = make_grid(spacing_mm=(1.0, 1.0, 1.0))
    labels = np.zeros(grid.shape, np.uint8)
    labels[::2], labels[1::2] = 9, 4
    field = constant_field(grid, (0.5, 0, 0))
    warped = warp_labels(Volume(labels, grid), field, interpolation="linear").data
    assert (warped[:-1] == 4).all()
