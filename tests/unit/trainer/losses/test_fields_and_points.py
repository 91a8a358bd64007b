"""Field and point losses against cases worked by hand, in mm, on anisotropic grids."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from trainer.losses.field import (  # noqa: E402
    bending,
    folding,
    gradient,
    inverse_consistency,
    known_displacement,
)
from trainer.losses.points import distance, sample  # noqa: E402

SPACING = (0.7, 1.3, 4.0)


def _places_mm(shape: tuple[int, ...]) -> np.ndarray:
    index = np.meshgrid(*[np.arange(n) for n in shape], indexing="ij")
    return np.stack([i * s for i, s in zip(index, SPACING, strict=False)])


def _in_voxels(field_mm: np.ndarray) -> "torch.Tensor":
    ndim = field_mm.shape[0]
    spacing = np.array(SPACING[:ndim]).reshape(-1, *[1] * ndim)
    return torch.from_numpy(field_mm / spacing)[None]


@pytest.mark.parametrize("shape", [(6, 7, 5), (6, 7)])
@pytest.mark.parametrize("difference", ["forward", "central"])
def test_gradient_of_a_linear_field_is_its_matrix(shape, difference):
    ndim = len(shape)
    matrix = np.random.default_rng(1).standard_normal((ndim, ndim))
    u = _in_voxels(np.einsum("ab,b...->a...", matrix, _places_mm(shape)))
    options = {"spacing_mm": SPACING[:ndim], "difference": difference}
    assert gradient(u, **options).item() == pytest.approx((matrix**2).sum() / ndim)
    l1 = gradient(u, norm="l1", **options).item()
    assert l1 == pytest.approx(np.abs(matrix).sum() / ndim)
    assert bending(u, spacing_mm=SPACING[:ndim]).item() == pytest.approx(0, abs=1e-20)


def test_bending_of_a_quadratic_field_is_its_second_derivatives():
    x, y, z = _places_mm((6, 7, 5))
    u = _in_voxels(np.stack([x * x, 3 * x * y, 0.5 * z * z - y * z]))
    expected = (2**2 + 2 * 3**2 + 1**2 + 2 * 1**2) / 3
    assert bending(u, spacing_mm=SPACING).item() == pytest.approx(expected)


def test_a_field_on_a_grid_of_cells_has_the_same_derivatives():
    x, y, z = _places_mm((12, 12, 12))
    u = _in_voxels(np.stack([x * x + y, 3 * x * y, z - y * z]))
    cells, cells_mm = u[..., ::2, ::2, ::2] / 2, [2 * s for s in SPACING]
    assert bending(cells, spacing_mm=cells_mm).item() == pytest.approx(
        bending(u, spacing_mm=SPACING).item()
    )
    u = _in_voxels(np.stack([2 * y, x, z]))
    cells = u[..., ::2, ::2, ::2] / 2
    assert gradient(cells, spacing_mm=cells_mm).item() == pytest.approx(2)


@pytest.mark.parametrize("shape", [(4, 5, 3), (4, 5)])
def test_derivatives_of_field_losses_are_those_of_their_values(shape):
    u = torch.randn(2, len(shape), *shape, dtype=torch.float64, requires_grad=True)
    spacing = SPACING[: len(shape)]
    for loss in (
        lambda u: gradient(u, spacing_mm=spacing),
        lambda u: gradient(u, spacing_mm=spacing, norm="l1", difference="central"),
        lambda u: gradient(u, spacing_mm=spacing, difference="central"),
        lambda u: bending(u, spacing_mm=spacing),
        lambda u: folding(u, squared=True, margin=0.5),
    ):
        assert torch.autograd.gradcheck(loss, (u,), fast_mode=True)


def test_an_alternating_field_is_steep_only_to_forward_differences():
    u = torch.zeros(1, 2, 8, 8)
    u[:, 0, ::2] = 1
    assert gradient(u, spacing_mm=(1, 1)).item() == pytest.approx(0.5)
    assert gradient(u, spacing_mm=(1, 1), difference="central").item() == 0


def test_folding_counts_what_is_turned_over():
    u = torch.zeros(1, 3, 9, 5, 5)
    assert folding(u).item() == 0
    u[:, 0] = -3 * torch.arange(9.0).reshape(-1, 1, 1)  # x - 3 x: determinant -2 everywhere
    assert folding(u).item() == pytest.approx(2)
    assert folding(u, squared=True, margin=0.5).item() == pytest.approx(2.5**2)


def test_there_and_back_is_told_in_mm_where_it_stays_inside():
    u, v = torch.zeros(1, 3, 8, 6, 5), torch.zeros(1, 3, 8, 6, 5)
    u[:, 1], v[:, 1] = 2, -1.5
    found = inverse_consistency(u, v, spacing_mm=SPACING)
    assert found.item() == pytest.approx(0.5 * 1.3, abs=1e-6)
    assert inverse_consistency(u, -u, spacing_mm=SPACING).item() == pytest.approx(0, abs=1e-6)


def test_points_are_compared_in_mm_and_padding_is_left_out():
    u = torch.zeros(1, 3, 8, 6, 5)
    u[:, 2] = 0.5
    nan = float("nan")
    fixed = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 1.5, 0.25], [nan] * 3]])
    moving = torch.tensor([[[1.0, 2.0, 3.5], [5.0, 1.5, 1.75], [nan] * 3]])
    found = {n: distance(u, fixed, moving, spacing_mm=SPACING, norm=n).item() for n in ("l1", "l2")}
    assert found["l2"] == pytest.approx(np.hypot(0.7, 4.0) / 2)
    assert found["l1"] == pytest.approx((0.7 + 4.0) / 2)


def test_the_distance_of_points_has_finite_derivatives_at_zero():
    u = torch.zeros(1, 2, 6, 6, requires_grad=True)
    fixed = torch.tensor([[[2.0, 2.0], [float("nan")] * 2]])
    distance(u, fixed, fixed, spacing_mm=(1, 1)).backward()
    assert torch.isfinite(u.grad).all()


def test_no_points_at_all_give_nothing():
    u = torch.zeros(1, 2, 6, 6, requires_grad=True)
    none = torch.full((1, 3, 2), float("nan"))
    assert distance(u, none, none, spacing_mm=(1, 1)).item() == 0
    assert distance(u, none[:, :0], none[:, :0], spacing_mm=(1, 1)).item() == 0


@pytest.mark.parametrize("shape", [(6, 7, 5), (6, 7)])
def test_sampling_at_points_is_linear_and_clamped(shape):
    ndimage = pytest.importorskip("scipy.ndimage")
    rng = np.random.default_rng(2)
    u, at = rng.random((1, 2, *shape)), rng.uniform(-2, 8, (1, 20, len(shape)))
    ours = sample(torch.from_numpy(u), torch.from_numpy(at))[0].numpy()
    theirs = [ndimage.map_coordinates(x, at[0].T, order=1, mode="nearest") for x in u[0]]
    np.testing.assert_allclose(ours, np.stack(theirs, -1), atol=1e-12)


@pytest.mark.parametrize("norm", ["l1", "l2", "squared"])
def test_the_distance_from_the_truth_is_in_mm_where_there_are_labels(norm):
    truth = torch.randn(1, 3, 4, 5, 3, dtype=torch.float64)
    error_mm = np.array([3.0, -4.0, 12.0])
    u = truth + torch.from_numpy(error_mm / SPACING).reshape(1, 3, 1, 1, 1)
    u[:, :, 0] += 7  # no label there
    truth[:, :, 1] = float("nan")
    labels = torch.ones(1, 2, 4, 5, 3)
    labels[:, :, 0] = 0
    expected = {"l1": 19.0, "l2": 13.0, "squared": 169.0}[norm]
    found = known_displacement(u, truth, labels, spacing_mm=SPACING, norm=norm)
    assert found.item() == pytest.approx(expected)
    everywhere = known_displacement(
        u, truth, labels, spacing_mm=SPACING, norm=norm, where="everywhere"
    )
    assert everywhere.item() > expected


def test_an_unknown_truth_counts_nothing_and_pulls_nowhere():
    u = torch.ones(2, 2, 3, 3, requires_grad=True)
    found = known_displacement(
        u, torch.full_like(u, torch.nan), torch.ones(2, 1, 3, 3), spacing_mm=(1, 1)
    )
    found.backward()
    assert found == 0
    assert not u.grad.any()
