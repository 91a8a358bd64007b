"""Pairs between contrasts: what the files hold, and where the landmarks lie."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.accuracy_cases import known_field, read_image, remapped_image
from benchmarks.comparison.cases import Case, listed
from benchmarks.comparison.contrast_cases import undone
from benchmarks.comparison.more_cases import MORE
from service.registration.fields import DisplacementField
from service.registration.grid import Grid

GRID = Grid((40, 44, 12), np.diag([-1.5, 1.5, 5.0, 1.0]))


def test_the_field_leads_back_to_the_points(rng: np.random.Generator) -> None:
    known = known_field(GRID, 1)
    points = GRID.to_world(rng.uniform(3, 9, (50, 3)))
    found, is_found = undone(known, points)
    assert is_found.all()
    assert np.linalg.norm(found - points, axis=1).max() > 1
    np.testing.assert_allclose(known.move(found), points, atol=1e-3)


def test_a_point_that_nothing_leads_to_is_told() -> None:
    """All goes 4 mm along x, up to the end of the grid: the first 4 mm are reached from nowhere."""
    shift = np.tile(np.float32([4, 0, 0]), (*GRID.shape, 1))
    first, middle = GRID.to_world(np.array([[39.0, 20, 6], [20, 20, 6]]))
    _, is_found = undone(DisplacementField(shift, GRID), np.array([first, middle]))
    assert is_found.tolist() == [False, True]


@pytest.mark.real_data
def test_a_head_s_landmarks_end_where_the_undeformed_image_has_them(
    shared_data: Path, tmp_path: Path
) -> None:
    cases = MORE["mr_ct"](shared_data, tmp_path)
    assert len({case.name for case in cases}) == len(cases) == 4
    for case in cases:
        (marks,) = case.landmarks
        assert case.measures == ("TRE, mm",)
        assert len(marks.fixed) == len(marks.moving) > 100
        assert brighter(case, marks.fixed) > 0.99


def brighter(case: Case, points: np.ndarray) -> float:
    """How many of the points lie on the head of the fixed image, as ITK finds them."""
    import SimpleITK

    image = SimpleITK.ReadImage(str(case.fixed))
    least = -300 if case.name.startswith("ct") else 25
    at = [image.TransformPhysicalPointToIndex(point) for point in points.tolist()]
    return float(np.mean([image[index] > least for index in at]))


@pytest.mark.real_data
def test_a_brain_s_values_change_and_its_grid_does_not(shared_data: Path, tmp_path: Path) -> None:
    plain = listed(shared_data, "brain_malf35", tmp_path)[0]
    changed = MORE["brain_sine"](shared_data, tmp_path)[0]
    assert (changed.category, changed.name) == ("brain_sine", plain.name)
    assert (changed.fixed, changed.labels) == (plain.fixed, plain.labels)
    before, after = read_image(plain.moving), read_image(changed.moving)
    np.testing.assert_allclose(after.grid.affine, before.grid.affine, atol=1e-5)
    np.testing.assert_allclose(after.data, remapped_image(before, "sine").data, atol=1e-3)
