"""Measures against numpy, scipy, and numbers that another program computed."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy import ndimage

from service.errors import BadPointsError, GridMismatchError
from service.registration import label_metrics, metrics, regularity
from service.registration.fields import Affine, DisplacementField
from service.registration.points import WorldPoints
from service.registration.resample import compose_affine
from service.registration.volume import Volume

# PyPI digital-diffeomorphism 1.1.1, `ndv(u, is_disp=True)` for
# u = default_rng(7).standard_normal((9, 8, 7, 3)).astype(float32) * float32(0.45) in voxels: the
# volume over the number of voxels.
PEER_NON_DIFFEOMORPHIC_VOLUME = 0.07352605698600648


def folded_field(grid):
    voxels = np.random.default_rng(7).standard_normal((*grid.shape, 3)).astype(np.float32)
    voxels *= np.float32(0.45)
    return DisplacementField(voxels @ grid.affine[:3, :3].T, grid), voxels


def blobs(rng, shape, count):
    """Labels in lumps of several voxels."""
    noise = np.stack([ndimage.gaussian_filter(rng.standard_normal(shape), 3) for _ in range(count)])
    return noise.argmax(0).astype(np.uint8)


def smooth_volume(grid, rng):
    return Volume(ndimage.gaussian_filter(rng.random(grid.shape), 1).astype(np.float32), grid)


def test_ncc_is_pearsons_correlation(make_grid, rng):
    a, b = smooth_volume(make_grid(), rng), smooth_volume(make_grid(), rng)
    mask = a.with_data(rng.random(a.grid.shape) > 0.5)
    inside = mask.data
    expected = np.corrcoef(a.data[inside], b.data[inside])[0, 1]
    assert metrics.ncc(a, b, mask) == pytest.approx(expected, abs=1e-6)
    assert metrics.ncc(a, a.with_data(5 - 2 * a.data)) == pytest.approx(-1)


def test_similarity_to_a_constant_is_not_a_number_or_the_least(make_grid, rng):
    a = smooth_volume(make_grid(), rng)
    flat = a.with_data(np.full_like(a.data, 3))
    assert math.isnan(metrics.ncc(a, flat))
    assert math.isnan(metrics.lncc(flat, a))
    assert metrics.lncc(a, flat) == 0
    assert metrics.nmi(a, flat) == pytest.approx(1)


def test_lncc_is_the_squared_correlation_of_windows(make_grid, rng):
    a, b = smooth_volume(make_grid(), rng), smooth_volume(make_grid(), rng)
    windows = [
        np.lib.stride_tricks.sliding_window_view(v.data.astype(float), (5, 5, 5)).reshape(
            *(n - 4 for n in a.grid.shape), 125
        )
        for v in (a, b)
    ]
    centred = [w - w.mean(-1, keepdims=True) for w in windows]
    var = [(c * c).mean(-1) for c in centred]
    expected = ((centred[0] * centred[1]).mean(-1) ** 2 / (var[0] * var[1])).mean()
    inner = np.zeros(a.grid.shape, np.uint8)
    inner[2:-2, 2:-2, 2:-2] = 1
    assert metrics.lncc(a, b, a.with_data(inner)) == pytest.approx(expected, abs=1e-4)


def test_nmi_is_two_for_a_one_to_one_map_and_one_for_noise(make_grid, rng):
    grid = make_grid(shape=(60, 50, 40))
    a = Volume(rng.random(grid.shape, dtype=np.float32), grid)
    inverted = a.with_data(1 - a.data)
    assert metrics.nmi(a, inverted) > 1.8
    assert metrics.nmi(a, Volume(rng.random(grid.shape, dtype=np.float32), grid)) < 1.01


def test_volumes_on_other_grids_are_refused(make_grid, rng):
    a, b = smooth_volume(make_grid("RAS"), rng), smooth_volume(make_grid("LAS"), rng)
    for measure in (
        metrics.ncc,
        metrics.lncc,
        metrics.nmi,
        label_metrics.dice,
        label_metrics.hd95_mm,
    ):
        with pytest.raises(GridMismatchError):
            measure(a, b)


def test_dice_by_hand(make_grid):
    grid = make_grid(shape=(4, 1, 1))
    a, b = (
        Volume(np.array(x, np.uint8).reshape(4, 1, 1), grid) for x in ([1, 1, 2, 0], [1, 2, 2, 3])
    )
    assert label_metrics.dice(a, b) == pytest.approx({1: 2 / 3, 2: 2 / 3, 3: 0.0})


def test_volume_change_counts_millimetres(make_grid):
    moving, warped = (
        make_grid(shape=(4, 1, 1)),
        make_grid(shape=(8, 1, 1), spacing_mm=(0.35, 1.3, 4)),
    )
    before = Volume(np.array([1, 1, 2, 3], np.uint8).reshape(4, 1, 1), moving)
    after = Volume(np.array([1, 1, 1, 1, 2, 2, 2, 0], np.uint8).reshape(8, 1, 1), warped)
    assert label_metrics.label_volume_change(after, before) == pytest.approx(
        {1: 1.0, 2: 1.5, 3: 0.0}
    )


@pytest.mark.parametrize("shift", [(1, 0, 0), (3, -2, 1), (14, 10, 6)])
def test_hd95_is_scipys_distance_transform(make_grid, orientation, rng, shift):
    grid = make_grid(orientation, shape=(40, 36, 30))
    first = blobs(rng, grid.shape, 6)
    second = np.roll(first, shift, (0, 1, 2))
    second[second == 5] = 0
    ours = label_metrics.hd95_mm(Volume(first, grid), Volume(second, grid))
    assert math.isnan(ours.pop(5))
    assert sorted(ours) == [1, 2, 3, 4]
    for label, distance in ours.items():
        a, b = first == label, second == label
        edge_a, edge_b = (m & ~ndimage.binary_erosion(m) for m in (a, b))
        to_a, to_b = (
            ndimage.distance_transform_edt(~e, sampling=grid.spacing_mm) for e in (edge_a, edge_b)
        )
        expected = max(np.percentile(to_b[edge_a], 95), np.percentile(to_a[edge_b], 95))
        assert distance == pytest.approx(expected, abs=1e-4)


def test_equal_labels_are_no_distance_apart(make_grid, rng):
    labels = Volume(blobs(rng, make_grid().shape, 4), make_grid())
    assert set(label_metrics.hd95_mm(labels, labels).values()) == {0.0}


def test_tre_is_in_millimetres():
    moved, target = WorldPoints(np.zeros((2, 3))), WorldPoints(np.array([[3.0, 4, 0], [0, 0, 2]]))
    assert_allclose(metrics.tre_mm(moved, target), [5, 2])
    with pytest.raises(BadPointsError):
        metrics.tre_mm(moved, WorldPoints(np.zeros((3, 3))))


def test_the_determinant_of_an_affine_field_is_the_affines(make_grid, orientation, rng):
    matrix = np.eye(4)
    matrix[:3, :3] += 0.1 * rng.standard_normal((3, 3))
    field = compose_affine(Affine(matrix), DisplacementField.zero(make_grid(orientation)))
    found = regularity.regularity(field).determinants
    assert_allclose(found.data, np.linalg.det(matrix), atol=1e-4)


def test_a_mirrored_field_folds_everywhere(make_grid, orientation):
    mirror = Affine(np.diag([-1.0, 1, 1, 1]))
    field = compose_affine(mirror, DisplacementField.zero(make_grid(orientation)))
    found = regularity.regularity(field)
    assert found.folding_fraction == 1
    # Inside; at the border the field is taken to go on unchanged, which is no mirror.
    assert 0.6 < found.non_diffeomorphic_volume <= 1.001


def test_no_displacement_bends_nothing(make_grid, orientation):
    found = regularity.regularity(DisplacementField.zero(make_grid(orientation)))
    assert found.folding_fraction == 0
    assert found.non_diffeomorphic_volume == 0
    assert found.sdlogj == pytest.approx(0, abs=1e-6)
    assert_allclose(found.determinants.data, 1, atol=1e-5)


def test_folded_volume_is_what_its_authors_program_finds(make_grid, orientation):
    field, _ = folded_field(make_grid(orientation, shape=(9, 8, 7)))
    assert regularity.regularity(field).non_diffeomorphic_volume == pytest.approx(
        PEER_NON_DIFFEOMORPHIC_VOLUME, rel=1e-5
    )


# Of the last two a plane is longer than what the kernel takes at once, and a run has many or none.
@pytest.mark.parametrize("shape", [(9, 8, 7), (37, 19, 23), (2, 3, 301)], ids=str)
def test_determinants_are_numpys_gradient(make_grid, orientation, shape):
    field, voxels = folded_field(make_grid(orientation, shape=shape))
    slopes = np.stack([np.stack(np.gradient(voxels[..., c]), -1) for c in range(3)], -2)
    expected = np.linalg.det(np.eye(3) + slopes)
    found = regularity.regularity(field)
    assert_allclose(found.determinants.data, expected, atol=1e-4)
    assert found.folding_fraction == pytest.approx((expected <= 0).mean())
    assert found.sdlogj == pytest.approx(np.log(np.clip(expected, 1e-9, 1e9)).std(), abs=1e-3)


def test_a_mask_restricts_the_figures(make_grid):
    field, _ = folded_field(make_grid(shape=(9, 8, 7)))
    mask = np.zeros((9, 8, 7), np.uint8)
    mask[2:5] = 1
    found = regularity.regularity(field, Volume(mask, field.grid))
    inside = regularity.regularity(field).determinants.data[2:5]
    assert found.folding_fraction == pytest.approx((inside <= 0).mean())
    nothing = regularity.regularity(field, Volume(0 * mask, field.grid))
    assert math.isnan(nothing.folding_fraction)


def test_displacements_are_measured_in_millimetres(make_grid, orientation, rng):
    grid = make_grid(orientation)
    vectors = rng.standard_normal((*grid.shape, 3)).astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=-1)
    field = DisplacementField(vectors, grid)
    assert regularity.max_displacement_mm(field) == pytest.approx(lengths.max(), rel=1e-5)
    assert regularity.regularity(field).longest_mm == pytest.approx(lengths.max(), rel=1e-5)


def test_a_translation_and_its_opposite_are_consistent(make_grid, orientation):
    grid = make_grid(orientation)
    there, back, off = (
        DisplacementField(np.broadcast_to(np.float32(v), (*grid.shape, 3)), grid)
        for v in ((1, 2, 3), (-1, -2, -3), (-1, -2, -1))
    )
    assert regularity.inverse_consistency_mm(there, back) == pytest.approx(0, abs=1e-5)
    assert regularity.inverse_consistency_mm(there, off) == pytest.approx(2, abs=1e-5)


def test_overlap_is_the_share_that_lands_in_the_moving_view(make_grid, orientation):
    grid = make_grid(orientation, shape=(32, 32, 32), spacing_mm=(1, 1, 1))
    field = DisplacementField.zero(grid)
    shift = np.eye(4)
    shift[:3, 3] = 8 * grid.directions[:, 0]
    assert regularity.overlap_fraction(field, grid) == 1
    assert regularity.overlap_fraction(field, grid, affine=Affine(shift)) == pytest.approx(24 / 32)
