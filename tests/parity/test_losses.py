"""Losses beside MONAI's, where both are right, on 2-D and 3-D images; why not, where they differ.

What differs on purpose: our windows of local correlation leave out what lies beyond the border
(`border="inside"`), MONAI's see zeros there, an edge that always correlates; our gradient takes
forward differences by default; physical units, which MONAI's field losses do not know.
"""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from trainer.losses.correlation import lncc  # noqa: E402
from trainer.losses.field import bending, gradient  # noqa: E402
from trainer.losses.image import ssd  # noqa: E402
from trainer.losses.label import dice, jaccard, mean_square  # noqa: E402
from trainer.losses.multiscale import at_scales  # noqa: E402
from trainer.losses.mutual_information import mutual_information  # noqa: E402
from trainer.losses.windows import window_weights  # noqa: E402

SIZES = [(22, 17, 13), (25, 18)]


def monai() -> Any:
    """Imported when it is asked for: that takes seconds, and all processes collect this file."""
    return pytest.importorskip("monai.losses")


def _pair(*size: int, channels: int = 1) -> tuple["torch.Tensor", "torch.Tensor"]:
    rng = np.random.default_rng(8)
    fixed = rng.random((2, channels, *size))
    warped = 0.7 * fixed + 0.3 * rng.random(fixed.shape)
    return torch.from_numpy(fixed).float(), torch.from_numpy(warped).float().requires_grad_()


def _compare(ours: "torch.Tensor", theirs: "torch.Tensor", by: "torch.Tensor") -> None:
    """Values to 1e-5, derivatives to 1e-4 of the largest."""
    slopes = [torch.autograd.grad(value, by)[0] for value in (ours, theirs)]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    torch.testing.assert_close(*slopes, atol=1e-4 * float(slopes[1].abs().max()), rtol=0)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel", ["rectangular", "triangular", "gaussian"])
def test_local_correlation(size, kernel):
    """MONAI keeps variances above 1e-5 where we add to their product; without texture only."""
    fixed, warped = _pair(*size)
    theirs = monai().LocalNormalizedCrossCorrelationLoss(len(size), 9, kernel)(warped, fixed)
    _compare(lncc(fixed, warped, border="zeros", shape=kernel), theirs, warped)


@pytest.mark.parametrize("kernel", ["rectangular", "triangular", "gaussian"])
@pytest.mark.parametrize("size", [3, 7, 9, 11])
def test_windows(kernel, size):
    theirs = monai().image_dissimilarity.kernel_dict[kernel](size)
    torch.testing.assert_close(window_weights(size, kernel).float(), theirs)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel", ["gaussian", "b-spline"])
def test_mutual_information(size, kernel):
    """By the spline, MONAI's derivative also follows the two voxels that set the range."""
    fixed, warped = _pair(*size)
    fixed, theirs_by = fixed[:1], warped[:1]
    ours = mutual_information(fixed, theirs_by, kernel=kernel)
    theirs = monai().GlobalMutualInformationLoss(kernel)(theirs_by, fixed)
    if kernel == "gaussian":
        _compare(ours, theirs, warped)
    else:
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_mean_squared_differences(size):
    fixed, warped = _pair(*size, channels=2)
    theirs = torch.nn.MSELoss()
    _compare(ssd(fixed, warped), theirs(warped, fixed), warped)
    _compare(mean_square(fixed, warped), theirs(warped, fixed), warped)


@pytest.mark.parametrize("size", SIZES)
def test_overlaps(size):
    fixed, warped = _pair(*size, channels=3)
    theirs = monai().DiceLoss(smooth_nr=1e-5, smooth_dr=1e-5)(warped, fixed)
    _compare(dice(fixed, warped), theirs, warped)
    theirs = monai().DiceLoss(jaccard=True, smooth_nr=0, smooth_dr=0)
    # MONAI's Jaccard doubles the numerator and the union: the same, but for what is added.
    _compare(jaccard(fixed, warped, smooth=0), theirs(warped, fixed), warped)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("kernel", ["gaussian", "cauchy"])
def test_scales(size, kernel):
    """MONAI's Gaussian, cut at 3 sigma, sums up to .997; ours to 1, as DeepReg's: to 1e-3."""
    fixed, warped = _pair(*size)
    scales = [0, 1, 2]
    plain = monai().DiceLoss(smooth_nr=1e-5, smooth_dr=1e-5)
    theirs = monai().MultiScaleLoss(plain, scales, kernel)(fixed, warped)
    ours = at_scales(dice, [[s] * len(size) for s in scales], kernel)(fixed, warped, None)
    if kernel == "cauchy":
        _compare(ours, theirs, warped)
    else:
        torch.testing.assert_close(ours, theirs, atol=5e-3, rtol=0)


@pytest.mark.filterwarnings("ignore:Using a non-tuple sequence")
@pytest.mark.parametrize("size", SIZES)
def test_smoothness_in_voxels(size):
    u = torch.randn(2, len(size), *size, requires_grad=True)
    ones = (1.0,) * len(size)
    ours = gradient(u, spacing_mm=ones, difference="central")
    _compare(ours, monai().DiffusionLoss()(u), u)
    theirs = monai().BendingEnergyLoss()(u)
    torch.testing.assert_close(bending(u, spacing_mm=ones), theirs, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_smoothness_in_mm_is_monais_of_each_component_of_a_stretched_field(size):
    """Where a grid is anisotropic, numpy's own differences by position tell."""
    spacing = (0.7, 1.3, 4.0)[: len(size)]
    u = torch.randn(1, len(size), *size, dtype=torch.float64)
    inner = (slice(1, -1),) * len(size)
    first, second = 0.0, 0.0
    for component, mm in zip(u[0].numpy(), spacing, strict=True):
        slopes = np.gradient(component * mm, *spacing)
        first += sum((slope[inner] ** 2).mean() for slope in slopes)
        for axis, slope in enumerate(slopes):
            second += _second_squares(component * mm, slope, axis, spacing)
    ours = gradient(u, spacing_mm=spacing, difference="central")
    assert ours.item() == pytest.approx(first / len(size))
    assert bending(u, spacing_mm=spacing).item() == pytest.approx(second / len(size))


def _second_squares(u: np.ndarray, slope: np.ndarray, axis: int, spacing: tuple) -> float:
    """Squares of the second derivatives of which one is along `axis`, over the interior."""
    inner = (slice(1, -1),) * u.ndim
    total = 0.0
    for other, mm in enumerate(spacing):
        if other == axis:
            twice = np.diff(u, 2, axis) / mm**2
            cut = tuple(slice(None) if a == axis else slice(1, -1) for a in range(u.ndim))
            total += float((twice[cut] ** 2).mean())
        else:
            mixed = np.gradient(slope, mm, axis=other)
            total += float((mixed[inner] ** 2).mean())
    return total
