"""What the affine alone tells: planted in a phantom that is nowhere like itself."""

import numpy as np
import pytest
from scipy import ndimage

from service.registration.coverage import coverage
from service.registration.fields import Affine
from service.registration.grid import Grid
from service.registration.initialise import nudged
from service.registration.label_place import label_place
from service.registration.plausibility import plausibility
from service.registration.rivals import AFFINE_STEPS, TURNS, fits
from service.registration.scouted import Scouted
from service.registration.volume import Volume

SHAPE = (44, 40, 36)
GRID = Grid(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0]))
NOTHING = Affine.identity()


def blobs(seed: int) -> np.ndarray:
    """Smooth structure in an ellipsoid, zero around it."""
    rng = np.random.default_rng(seed)
    inside = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 2.5)
    place = np.moveaxis(np.indices(SHAPE), 0, -1) / (np.array(SHAPE) - 1) - 0.5
    body = (np.linalg.norm(place / (0.40, 0.42, 0.38), axis=-1) < 1).astype(np.float32)
    return np.asarray(body * (1 + inside / inside.std() / 3), np.float32)


def scouted(data: np.ndarray) -> Scouted:
    return Scouted(Volume(np.ascontiguousarray(data, np.float32), GRID))


IMAGE = blobs(1)
LIKE = IMAGE + 0.05 * np.random.default_rng(3).standard_normal(SHAPE).astype(np.float32)


def test_a_pair_fits_better_as_found_than_any_other_way():
    found = fits(scouted(IMAGE), scouted(LIKE), NOTHING)
    assert found is not None
    assert found.turned_fit < 0.75 * found.affine_fit
    assert found.mirrored_fit < 0.75 * found.affine_fit
    assert found.affine_ncc > found.mirrored_ncc


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flipped_image_fits_better_mirrored(axis: int):
    found = fits(scouted(IMAGE), scouted(np.flip(LIKE, axis)), NOTHING)
    assert found is not None
    assert found.mirrored_fit > 1.2 * found.affine_fit


def test_between_contrasts_both_ways_of_the_search_are_tried():
    """A sine of the values: coarse copies mislead an affine that begins on them."""
    values = (IMAGE - IMAGE.min()) / np.ptp(IMAGE)
    other = np.sin(3 * np.pi * values).astype(np.float32)
    found = fits(scouted(IMAGE), scouted(other), NOTHING)
    flipped = fits(scouted(IMAGE), scouted(other[::-1]), NOTHING)
    assert found is not None
    assert flipped is not None
    one_way = nudged(scouted(IMAGE), scouted(other), NOTHING, "affine", AFFINE_STEPS)[1]
    assert found.affine_fit > 1.002 * one_way
    assert flipped.mirrored_fit > one_way > 1.2 * flipped.affine_fit


def test_an_image_turned_by_right_angles_fits_better_turned():
    found = fits(scouted(IMAGE), scouted(LIKE[::-1, ::-1]), NOTHING)
    assert found is not None
    assert found.turned_fit > 1.2 * found.affine_fit


def test_noise_fits_as_well_any_way():
    noise = ndimage.gaussian_filter(np.random.default_rng(5).standard_normal(SHAPE), 2)
    found = fits(scouted(IMAGE), scouted(noise), NOTHING)
    assert found is not None
    assert found.turned_fit > 0.7 * found.affine_fit


def test_nothing_is_said_of_slices_and_flat_images():
    flat = Scouted(Volume(np.full(SHAPE, 3.0, np.float32), GRID))
    slices = Scouted(Volume(IMAGE[:, :, :1].copy(), Grid((44, 40, 1), GRID.affine)))
    assert fits(scouted(IMAGE), flat, NOTHING) is None
    assert fits(slices, slices, NOTHING) is None
    assert coverage(flat, scouted(IMAGE), NOTHING) is None


def test_there_are_23_other_turns_each_of_right_angles():
    assert len({turn.tobytes() for turn in TURNS}) == 23
    assert all(np.allclose(turn @ turn.T, np.eye(3)) for turn in TURNS)
    assert all(np.linalg.det(turn) == pytest.approx(1) for turn in TURNS)


def test_half_an_image_is_half_in_view():
    half = Scouted(Volume(IMAGE[:22].copy(), Grid((22, *SHAPE[1:]), GRID.affine)))
    found = coverage(scouted(IMAGE), half, NOTHING)
    assert found is not None
    assert found.in_view == pytest.approx(0.5, abs=0.06)
    whole = coverage(half, scouted(IMAGE), NOTHING)
    assert whole is not None
    assert whole.in_view == 1
    assert whole.met > 0.95


def test_a_blank_half_is_in_view_and_not_met():
    blank = IMAGE.copy()
    blank[:22] = 0
    found = coverage(scouted(IMAGE), scouted(blank), NOTHING)
    assert found is not None
    assert found.in_view == 1
    assert found.met == pytest.approx(0.55, abs=0.08)


def test_labels_fit_where_they_lie_and_not_elsewhere():
    parts = (1 + np.digitize(IMAGE, [0.8, 1.0, 1.2])) * (IMAGE != 0)
    labels = Volume(parts.astype(np.uint8), GRID)
    right = label_place(scouted(IMAGE), labels)
    wrong = label_place(scouted(IMAGE), labels.with_data(np.roll(labels.data, 5, axis=0)))
    assert right is not None
    assert wrong is not None
    assert right.here > 0.8
    assert right.here > 1.3 * right.moved
    assert wrong.here < wrong.moved
    assert label_place(scouted(IMAGE), labels.with_data(np.zeros(SHAPE, np.uint8))) is None


def test_figures_have_the_names_of_the_report():
    fixed, moving = Volume(IMAGE, GRID), Volume(LIKE, GRID)
    labels = Volume((IMAGE != 0).astype(np.uint8), GRID)
    names = {"affine_fit", "turned_fit", "mirrored_fit", "affine_ncc", "mirrored_ncc"}
    names |= {"structure_in_view", "structure_met"}
    seen = Scouted(fixed), Scouted(moving)
    assert set(plausibility(*seen, NOTHING)) == names
    found = plausibility(*seen, NOTHING, moving_labels=labels)
    assert set(found) - names == {"moving_labels_fit", "moving_labels_fit_moved"}
