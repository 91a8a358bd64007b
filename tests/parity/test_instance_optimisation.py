"""The service's refinement beside the trainer's losses: one measure, one slope, one end."""

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch")

from service.registration.descent import LatticeField, Level, LevelPair  # noqa: E402
from service.registration.fields import Affine, DisplacementField  # noqa: E402
from service.registration.grid import Grid  # noqa: E402
from service.registration.kernels import descent as kernels  # noqa: E402
from service.registration.refine import refine  # noqa: E402
from service.registration.volume import Volume  # noqa: E402
from trainer.instance import optimise  # noqa: E402
from trainer.losses.correlation import lncc  # noqa: E402
from trainer.losses.field import bending  # noqa: E402
from trainer.spatial import integrate, warp  # noqa: E402

SHAPE = (30, 28, 26)
SPACING_MM = (2.0, 2.0, 2.0)
GRID = Grid(SHAPE, np.diag([*SPACING_MM, 1.0]))
# What the service's kernels compute: windows of five voxels over the mask, variances of images
# scaled to variance 1 and raised by EPSILON.
AS_THE_SERVICE = {"window": 5, "smooth": 0.0, "variance_floor": kernels.EPSILON}


def _texture(rng: np.random.Generator) -> np.ndarray:
    noise = ndimage.gaussian_filter(rng.standard_normal(SHAPE), 2.0)
    return np.asarray(noise / noise.std(), dtype=np.float32)


def _pair(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """fixed(x) = moving(x + u(x)) with waves of up to two voxels."""
    moving = _texture(rng)
    index = np.indices(SHAPE, dtype=np.float64)
    phase = [2 * np.pi * index[axis] / SHAPE[axis] for axis in range(3)]
    u = 2 * np.stack([np.sin(phase[1]), np.sin(phase[2] + 1), np.cos(phase[0])])
    fixed = ndimage.map_coordinates(moving, index + u, order=1, mode="nearest")
    return fixed.astype(np.float32), moving


def _batched(x: np.ndarray) -> "torch.Tensor":
    return torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)).reshape(1, -1, *SHAPE)


def _standard(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / x.std()


def test_a_level_of_the_service_measures_what_the_loss_does(rng: np.random.Generator) -> None:
    fixed, moving = _pair(rng)
    nothing = LatticeField.of(DisplacementField.zero(GRID), GRID)
    level = Level(LevelPair(Volume(fixed, GRID), Volume(moving, GRID), Affine.identity()), nothing)
    ours = lncc(_batched(_standard(fixed)), _batched(_standard(moving)), **AS_THE_SERVICE)
    assert level.similarity() == pytest.approx(-ours.item(), rel=1e-4)


def test_the_force_of_the_service_is_the_slope_of_the_loss(rng: np.random.Generator) -> None:
    """Also with a mask: dLNCC/du = dLNCC/dW times the central differences of W."""
    padded = [np.pad(x, kernels.MARGIN).astype(np.float32) for x in _pair(rng)]
    mask = np.pad(np.ones(SHAPE, np.float32), kernels.MARGIN)
    mask[10:14, 8:12, 15:20] = 0
    ours = _force_of_the_kernels(*padded, mask)

    shape = padded[0].shape
    fixed, moving, inside = (torch.from_numpy(x).reshape(1, 1, *shape) for x in (*padded, mask))
    warped = moving.clone().requires_grad_()
    value = -lncc(fixed, warped, inside, **AS_THE_SERVICE)
    (slope,) = torch.autograd.grad(value, warped)
    gradient = np.stack(np.gradient(padded[1]))
    theirs = slope[0].numpy() * gradient
    inner = (slice(None), *(slice(2, -2),) * 3)
    np.testing.assert_allclose(ours[inner], theirs[inner], atol=1e-4 * np.abs(theirs).max())


def _force_of_the_kernels(fixed: np.ndarray, moving: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """dLNCC/du in voxels, not smoothed."""
    # Numpy's numbers, as a level passes them: others would have the kernels compiled once more.
    nk, whole = fixed.shape[2], tuple(np.ones(3))
    planes = (fixed.shape[0], fixed.shape[1] * nk)
    stats, sums, integrands, out = (np.empty((3, *planes), np.float32) for _ in range(4))
    f, m, warped = fixed.reshape(planes), mask.reshape(planes), np.empty(planes, np.float32)
    kernels.fixed_statistics(f, m, nk, whole, stats, sums)
    place, nothing = (nk, (0, 0, 0), whole), np.zeros((3, *planes), np.float32)
    kernels.warp_and_sum(moving, nothing, place, (f * m, m), warped, sums)
    kernels.correlation(sums, stats, nk, whole, integrands, np.zeros(planes[0], np.float32))
    sharp = np.tile(np.array([1, 0, 0], np.float32), (3, 1))
    setting = (np.ones(3, np.float32), sharp, np.ones(3, np.float32))
    kernels.force((f, m, warped), integrands, nk, setting, out)
    return 2 * out.reshape(3, *fixed.shape) / m.sum()


@pytest.mark.parametrize("kind", ["displacement", "velocity"])
def test_both_reach_the_same_correlation(rng: np.random.Generator, kind: str) -> None:
    """Away from the border, where one knows nothing of the moving image and the other sees zeros.

    The service smooths its field after each step, the reference pays for bending: what both could
    improve is little beside what they did.
    """
    fixed, moving = (_standard(x) for x in _pair(rng))
    nothing = DisplacementField.zero(GRID)
    volumes = Volume(fixed, GRID), Volume(moving, GRID)
    refined = refine(*volumes, Affine.identity(), nothing, effort="best")
    of_service = _batched(np.moveaxis(refined.vectors_mm, -1, 0) / SPACING_MM[0])
    inner = torch.zeros(1, 1, *SHAPE)
    inner[:, :, 4:-4, 4:-4, 4:-4] = 1

    def similarity(u: "torch.Tensor") -> float:
        warped = warp(_batched(moving), u)
        return -lncc(_batched(fixed), warped, inner, **AS_THE_SERVICE).item()

    def cost(warped: "torch.Tensor", u: "torch.Tensor") -> "torch.Tensor":
        smooth = bending(u, spacing_mm=SPACING_MM)
        return lncc(_batched(fixed), warped, **AS_THE_SERVICE) + 2 * smooth

    start = torch.zeros(1, 3, *SHAPE)
    found = optimise(_batched(moving), start, cost, kind=kind, steps=50, learning_rate=0.15)
    before, theirs = similarity(start), similarity(of_service)
    ours = similarity(found if kind == "displacement" else integrate(found))
    assert before < 0.5
    assert min(ours, theirs) > 0.9
    assert ours == pytest.approx(theirs, abs=0.05)
