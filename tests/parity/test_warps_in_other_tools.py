"""Warping and integration as SimpleITK, scipy and torch do them, on awkward grids."""

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.testing import assert_allclose
from scipy.ndimage import gaussian_filter, map_coordinates

from service.registration.fields import DisplacementField, VelocityField
from service.registration.grid import Grid
from service.registration.resample import integrate, warp
from service.registration.volume import Volume

LPS = np.diag([-1.0, -1.0, 1.0])
ITK = {
    "nearest": sitk.sitkNearestNeighbor,
    "linear": sitk.sitkLinear,
    "cubic": sitk.sitkBSpline3,
}


def itk_image(data: np.ndarray, grid: Grid) -> sitk.Image:
    is_vector = data.ndim == 4
    image = sitk.GetImageFromArray(
        np.ascontiguousarray(data.transpose((2, 1, 0, 3)[: data.ndim])), isVector=is_vector
    )
    image.SetSpacing(grid.spacing_mm.tolist())
    image.SetDirection((LPS @ grid.directions).ravel().tolist())
    image.SetOrigin((LPS @ grid.affine[:3, 3]).tolist())
    return image


@pytest.fixture
def pair(make_grid, orientation, rng):
    """A fixed grid with a field of up to 6 mm, and a moving volume on another grid."""
    grid, moving = make_grid(orientation), make_grid(orientation, (33, 20, 22), (0.8, 1.5, 3.0))
    noise = np.stack([gaussian_filter(rng.standard_normal(grid.shape), 3) for _ in range(3)], -1)
    field = DisplacementField(6 * noise / np.abs(noise).max(), grid)
    return Volume(rng.random(moving.shape, dtype=np.float32), moving), field


@pytest.mark.parametrize("interpolation", ["nearest", "linear", "cubic"])
def test_a_warp_is_what_itk_resamples(pair, interpolation):
    moving, field = pair
    vectors = itk_image((field.vectors_mm @ LPS).astype(np.float64), field.grid)
    reference = itk_image(np.zeros(field.grid.shape, np.float32), field.grid)
    theirs = sitk.Resample(
        itk_image(moving.data, moving.grid),
        reference,
        sitk.DisplacementFieldTransform(vectors),
        ITK[interpolation],
        -1.0,
    )
    expected = sitk.GetArrayFromImage(theirs).transpose(2, 1, 0)
    ours = warp(moving, field, interpolation=interpolation, fill=-1).data
    apart = np.abs(ours - expected)
    if interpolation == "nearest":  # a tie may fall either way
        assert (apart > 0).mean() < 1e-3
    elif interpolation == "linear":
        assert apart.max() < 1e-5
    else:  # ITK reflects in the outer half voxel where we clamp
        index = moving.grid.to_voxel(field.move(centres(field.grid)))
        inner = ((index >= 0) & (index <= np.array(moving.grid.shape) - 1)).all(-1)
        assert inner.mean() > 0.3
        assert apart[inner].max() < 1e-4
    assert 0.05 < (expected == -1).mean() < 0.6


def centres(grid: Grid) -> np.ndarray:
    return grid.to_world(
        np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1)
    )


def test_a_cubic_warp_is_scipys_spline(pair):
    moving, field = pair
    index = moving.grid.to_voxel(field.move(centres(field.grid)))
    inside = ((index >= -0.5) & (index <= np.array(moving.grid.shape) - 0.5)).all(-1)
    clamped = np.clip(index, 0, np.array(moving.grid.shape) - 1)
    expected = map_coordinates(moving.data, np.moveaxis(clamped, -1, 0), order=3, mode="mirror")
    ours = warp(moving, field, interpolation="cubic").data
    assert_allclose(ours[inside], expected[inside], atol=1e-4)


def test_a_cubic_warp_by_zero_passes_through_the_voxels(pair):
    moving, _ = pair
    warped = warp(moving, DisplacementField.zero(moving.grid), interpolation="cubic")
    assert_allclose(warped.data, moving.data, atol=1e-5)


def test_a_cubic_warp_of_one_slice_is_the_spline_in_its_plane(make_grid, rng):
    grid = make_grid(shape=(20, 18, 1), spacing_mm=(1, 1, 1))
    volume = Volume(rng.random(grid.shape, dtype=np.float32), grid)
    vectors = np.broadcast_to(np.float32([0.3, -0.4, 0]), (*grid.shape, 3))
    ours = warp(volume, DisplacementField(vectors, grid), interpolation="cubic").data[..., 0]
    index = np.stack(np.meshgrid(np.arange(20) + 0.3, np.arange(18) - 0.4, indexing="ij"))
    clamped = np.clip(index, 0, np.array([19, 17])[:, None, None])
    expected = map_coordinates(volume.data[..., 0], clamped, order=3, mode="mirror")
    assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 7])
def test_integration_is_what_torch_composes(make_grid, orientation, rng, steps):
    torch = pytest.importorskip("torch")
    grid = make_grid(orientation)
    noise = np.stack([gaussian_filter(rng.standard_normal(grid.shape), 3) for _ in range(3)], -1)
    # Still near the border, where torch and ITK differ.
    window = np.prod(
        np.meshgrid(*[np.sin(np.linspace(0, np.pi, n)) ** 2 for n in grid.shape], indexing="ij"), 0
    )
    velocity_voxels = (noise / np.abs(noise).max() * 4 * window[..., None]).astype(np.float32)
    field = integrate(VelocityField(velocity_voxels @ grid.affine[:3, :3].T, grid), steps)
    u = torch.from_numpy(velocity_voxels.transpose(3, 0, 1, 2)[None] / 2**steps)
    index = torch.stack(
        torch.meshgrid(*[torch.arange(float(n)) for n in grid.shape], indexing="ij")
    )
    size = torch.tensor(grid.shape).reshape(3, 1, 1, 1) - 1.0
    for _ in range(steps):
        at = (2 * (index + u[0]) / size - 1).flip(0).permute(1, 2, 3, 0)[None]
        u = u + torch.nn.functional.grid_sample(u, at, align_corners=True)
    expected = u[0].numpy().transpose(1, 2, 3, 0)
    ours = field.vectors_mm @ grid.inverse_affine[:3, :3].T
    assert np.abs(expected).max() > 0.5
    assert_allclose(ours, expected, atol=1e-4)
