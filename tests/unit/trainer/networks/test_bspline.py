"""Control points give the field that SimpleITK's B-spline transform gives."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from trainer.networks.bspline import MARGIN, cubic, expand  # noqa: E402

CASES = pytest.mark.parametrize(
    ("counts", "spacing", "stride"),
    [((4, 3, 2), 4, 1), ((3, 5, 4), 8, 2), ((2, 3, 1), 6, 4), ((5, 4), 5, 1), ((3, 6), 8, 4)],
)


def _transform(points: np.ndarray, spacing: int) -> object:
    """Of one field (d, *counts) that goes on beyond its border, on voxel indices."""
    sitk = pytest.importorskip("SimpleITK")
    ndim = len(points)
    padded = np.pad(points, [(0, 0), *[(MARGIN, MARGIN)] * ndim], mode="edge")
    images = []
    for part in padded:
        image = sitk.GetImageFromArray(np.ascontiguousarray(part.T))
        image.SetSpacing([float(spacing)] * ndim)
        image.SetOrigin([(spacing - 1) / 2 - MARGIN * spacing] * ndim)
        images.append(image)
    return sitk.BSplineTransform(images, 3)


@CASES
def test_the_field_is_simpleitks(counts: tuple[int, ...], spacing: int, stride: int) -> None:
    ndim = len(counts)
    points = np.random.default_rng(2).normal(size=(ndim, *counts))
    theirs = _transform(points, spacing)
    found = expand(torch.from_numpy(points)[None], spacing, stride)[0].numpy()
    assert found.shape == (ndim, *(n * spacing // stride for n in counts))
    rng = np.random.default_rng(3)
    for _ in range(60):
        cell = tuple(int(rng.integers(n)) for n in found.shape[1:])
        place = [stride * c + (stride - 1) / 2 for c in cell]
        expected = np.array(theirs.TransformPoint(place)) - place  # type: ignore[attr-defined]
        np.testing.assert_allclose(found[(slice(None), *cell)], expected, atol=1e-6)


def test_the_basis_is_scipys() -> None:
    interpolate = pytest.importorskip("scipy.interpolate")
    basis = interpolate.BSpline.basis_element(np.arange(-2.0, 3.0), extrapolate=False)
    distance = np.linspace(-2.5, 2.5, 101)
    expected = np.nan_to_num(basis(distance))
    np.testing.assert_allclose(cubic(torch.from_numpy(distance)), expected, atol=1e-12)


@CASES
def test_points_that_are_the_same_move_everything_alike(
    counts: tuple[int, ...], spacing: int, stride: int
) -> None:
    field = expand(torch.full((1, 2, *counts), 1.5), spacing, stride)
    torch.testing.assert_close(field, torch.full_like(field, 1.5))
