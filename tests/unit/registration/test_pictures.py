"""Pictures: nibabel says which way is up, cases worked by hand say the rest."""

import re
from io import BytesIO

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from service.registration.colours import FOLD_RGB, GreyMatch, Scale
from service.registration.pictures import Scene, draw_pictures, overlay_picture
from service.registration.views import views
from service.registration.volume import Volume


def smooth_volume(shape, rng):
    index = np.indices(shape).astype(np.float32)
    waves = sum(np.sin(axis / rng.uniform(2, 5)) for axis in index)
    return (100 + 30 * waves).astype(np.float32)


@pytest.fixture
def make_scene(make_grid, rng):
    def make(orientation="oblique", **changes):
        grid = make_grid(orientation)
        fixed = smooth_volume(grid.shape, rng)
        parts = {
            "fixed": Volume(fixed, grid),
            "before": fixed.max() - fixed,  # as wrong as can be
            "warped": fixed.copy(),
            "displacement_mm": np.zeros((*grid.shape, 3), np.float32),
            "jacobian": lambda: np.ones(grid.shape, np.float32),
        }
        return Scene(**{**parts, **changes})

    return make


def pixels_of(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(BytesIO(png)).convert("RGB")).astype(int)


def test_slices_lie_as_nibabels_canonical_orientation_says(make_grid, orientation, rng):
    grid = make_grid(orientation)
    data = rng.normal(size=grid.shape).astype(np.float32)
    centre = (11, 8, 5)
    ras = nib.as_closest_canonical(nib.Nifti1Image(data, grid.affine)).get_fdata()
    value = data[centre]
    i, j, k = (int(n) for n in np.argwhere(np.isclose(ras, value))[0])
    axial, coronal, sagittal = views(grid, centre)
    # Right and anterior come first on the screen, superior is up.
    np.testing.assert_allclose(axial.cut(data), ras[::-1, ::-1, k].T, rtol=1e-6)
    np.testing.assert_allclose(coronal.cut(data), ras[::-1, j, ::-1].T, rtol=1e-6)
    np.testing.assert_allclose(sagittal.cut(data), ras[i, ::-1, ::-1].T, rtol=1e-6)
    assert [view.letters for view in (axial, coronal, sagittal)] == [
        ("R", "L", "A", "P"),
        ("R", "L", "S", "I"),
        ("A", "P", "S", "I"),
    ]


def test_pixels_are_square_millimetres(make_grid, orientation):
    for view in views(make_grid(orientation), (3, 3, 3)):
        grid = make_grid(orientation)
        width_mm, height_mm = grid.extent_mm[view.column_axis], grid.extent_mm[view.row_axis]
        assert view.size_px[0] / width_mm == pytest.approx(view.size_px[1] / height_mm, rel=0.02)


def test_a_voxel_is_drawn_where_pixels_says(make_grid, orientation):
    grid = make_grid(orientation)
    for view in views(grid, (11, 8, 5)):
        data = np.zeros(grid.shape, np.float32)
        data[11, 8, 5] = 1
        drawn = view.scaled(view.cut(data), smooth=False)
        y, x = (float(place.mean()) + 0.5 for place in np.nonzero(drawn > 0.5))
        voxel = np.array([11.0, 8.0, 5.0])
        expected = view.pixels(voxel[[view.row_axis]], voxel[[view.column_axis]])
        assert x == pytest.approx(float(expected[0][0]), abs=1.0)
        assert y == pytest.approx(float(expected[1][0]), abs=1.0)


def test_identical_images_blend_to_grey_and_differ_nowhere(make_scene):
    scene = make_scene()
    pictures = draw_pictures(scene)
    checked = pixels_of(pictures.png["overlay_after"])
    letters = pixels_of(pictures.png["fixed"])
    coloured = np.ptp(checked, axis=-1) > 2
    assert not (coloured & (np.ptp(letters, axis=-1) <= 2)).any()
    moved = pixels_of(pictures.png["overlay_before"])
    assert (np.ptp(moved, axis=-1) > 40).mean() > 0.3
    np.testing.assert_array_equal(checked[~coloured], letters[~coloured])


def test_every_picture_is_a_png_of_one_size(make_scene, orientation):
    labels = np.zeros((31, 24, 19), np.uint8)
    labels[8:20, 6:16, 4:12] = 7
    scene = make_scene(orientation, fixed_labels=labels, labels_before=labels, warped_labels=labels)
    pictures = draw_pictures(scene)
    sizes = {Image.open(BytesIO(png)).size for png in pictures.png.values()}
    assert sizes == {pictures.size_px}
    assert {"labels_before", "labels_after", "jacobian", "displacement"} <= set(pictures.png)


def test_folded_voxels_are_red_and_only_they(make_scene):
    def red(png):
        return (pixels_of(png) == FOLD_RGB).all(axis=-1).mean()

    folded = np.ones((31, 24, 19), np.float32)
    folded[12:20, 8:16, 6:13] = -0.2
    assert red(draw_pictures(make_scene(jacobian=lambda: folded)).png["jacobian"]) > 0.01
    assert red(draw_pictures(make_scene()).png["jacobian"]) == 0


def test_deformation_is_what_lies_beyond_the_affine(make_scene, make_grid, rng):
    grid = make_grid("oblique")
    affine = np.eye(4)
    affine[:3] = [[1.1, 0.1, 0, 20], [-0.1, 0.9, 0.2, -35], [0, 0.1, 1.05, 4]]
    deformation = rng.normal(size=(*grid.shape, 3))
    world = grid.to_world(np.stack(np.indices(grid.shape), axis=-1))
    moved = (world + deformation) @ affine[:3, :3].T + affine[:3, 3]
    scene = make_scene(displacement_mm=moved - world, affine=affine)
    for view, found in zip(scene.views, scene.deformations_mm, strict=True):
        np.testing.assert_allclose(found, view.cut(deformation), atol=1e-9)
    assert scene.affine_volume_factor == pytest.approx(np.linalg.det(affine))


def test_colour_scales_end_where_the_body_does(make_scene, make_grid):
    grid = make_grid("LPS")
    body = np.zeros(grid.shape, bool)
    body[8:24, 6:18, 4:15] = True
    field = np.zeros((*grid.shape, 3), np.float32)
    field[..., 1] = 80.0
    field[5:27, 3:21, 1:18, 1] = 3.0
    fixed = Volume(np.where(body, 100.0, 0.0).astype(np.float32), grid)
    scene = make_scene("LPS", fixed=fixed, displacement_mm=field)
    assert draw_pictures(scene).scales["displacement"].high == pytest.approx(3.0, rel=0.05)
    plain = make_scene("LPS", displacement_mm=np.full_like(field, 2.0))
    assert draw_pictures(plain).scales["displacement"].high == pytest.approx(12**0.5, rel=1e-3)


def path_points(svg: str) -> list[np.ndarray]:
    """The lines of the SVG as absolute points."""
    lines = []
    for path in re.findall(r'd="([^"]*)"', svg):
        for piece in path.split("M")[1:]:
            numbers = [float(n) for n in piece.replace("l", " ").split()]
            lines.append(np.cumsum(np.array(numbers).reshape(-1, 2), axis=0))
    return lines


def test_grid_lines_are_straight_without_deformation(make_scene, orientation):
    for line in path_points(draw_pictures(make_scene(orientation)).grid_svg):
        assert np.ptp(line, axis=0).min() < 0.11


def test_grid_lines_move_with_the_field(make_scene):
    still = path_points(draw_pictures(make_scene("RAS")).grid_svg)
    shift = np.zeros((31, 24, 19, 3), np.float32)
    shift[..., 0] = -2.0  # mm towards the patient's left is negative in RAS: right on the screen
    scene = make_scene("RAS", displacement_mm=shift)
    moved = path_points(draw_pictures(scene).grid_svg)
    axial = scene.views[0]
    per_mm = axial.size_px[0] / float(scene.fixed.grid.extent_mm[axial.column_axis])
    np.testing.assert_allclose((moved[0] - still[0])[:, 0], 2.0 * per_mm, atol=0.15)
    np.testing.assert_allclose((moved[0] - still[0])[:, 1], 0, atol=0.01)


def test_an_inverted_contrast_is_matched_and_the_same_one_left_alone(rng):
    fixed = rng.uniform(size=50_000)
    inverted = 1 - fixed
    match = GreyMatch.learn(fixed, inverted)
    np.testing.assert_allclose(match.apply(np.array([0.2, 0.8])), [0.8, 0.2], atol=0.03)
    noisy = np.clip(fixed + rng.normal(scale=0.02, size=fixed.size), 0, 1)
    assert GreyMatch.learn(fixed, noisy).table is None


def test_unrelated_greys_are_not_matched(rng):
    assert GreyMatch.learn(rng.uniform(size=5000), rng.uniform(size=5000)).table is None


def test_scale_ends_hold_beyond_the_ends():
    scale = Scale(((0, 0, 0), (200, 100, 50)), -1.0, 1.0)
    values = np.array([[-9.0, -1.0, 0.0, 1.0, 9.0]])
    assert scale.paint(values)[0].tolist() == [
        [0, 0, 0],
        [0, 0, 0],
        [100, 50, 25],
        [200, 100, 50],
        [200, 100, 50],
    ]


def test_constant_and_non_finite_images_are_drawn(make_scene, make_grid):
    grid = make_grid("RAS")
    flat = np.full(grid.shape, 5.0, np.float32)
    holed = flat.copy()
    holed[3:6] = np.nan
    scene = make_scene("RAS", fixed=Volume(flat, grid), warped=holed, before=flat)
    assert len(draw_pictures(scene).png) == 11


def test_overlay_shows_before_and_after_side_by_side(make_scene):
    picture = pixels_of(overlay_picture(make_scene(), ("axial",)))
    middle = picture.shape[1] // 2
    left, right = (
        (np.ptp(half, axis=-1) > 90).mean() for half in (picture[:, :middle], picture[:, middle:])
    )
    assert left > 5 * max(right, 1e-3)
