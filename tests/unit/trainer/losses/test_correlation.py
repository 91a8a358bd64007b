"""Local correlation against loops, its derivative against finite differences."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from trainer.losses import correlation  # noqa: E402
from trainer.losses.correlation import lncc  # noqa: E402


def _images(*shape: int, seed: int = 0) -> tuple["torch.Tensor", "torch.Tensor"]:
    rng = np.random.default_rng(seed)
    fixed = rng.random(shape)
    return torch.from_numpy(fixed), torch.from_numpy(fixed + 0.5 * rng.random(shape))


def _by_hand(fixed: np.ndarray, warped: np.ndarray, mask: np.ndarray, window: int) -> float:
    """Voxel by voxel: numpy's own correlation of what the window holds of the mask."""
    r, total = window // 2, 0.0
    for place in np.ndindex(*fixed.shape):
        cut = tuple(slice(max(p - r, 0), p + r + 1) for p in place)
        inside = mask[cut] > 0
        if mask[place] and inside.sum() > 1:
            total += np.corrcoef(fixed[cut][inside], warped[cut][inside])[0, 1] ** 2
    return -total / mask.sum()


@pytest.mark.parametrize("shape", [(6, 5, 7), (9, 8)])
@pytest.mark.parametrize("masked", [False, True])
def test_value_is_the_mean_squared_correlation_of_windows(shape, masked):
    fixed, warped = _images(1, 1, *shape)
    mask = np.ones(shape)
    if masked:
        mask[:2] = 0
        mask[..., -1] = 0
    given = torch.from_numpy(mask)[None, None] if masked else None
    ours = lncc(fixed.float(), warped.float(), given, window=3, smooth=0.0)
    assert ours.item() == pytest.approx(
        _by_hand(fixed[0, 0].numpy(), warped[0, 0].numpy(), mask, 3), abs=1e-5
    )


CASES = list(itertools.product([True, False], ["inside", "zeros"], [False, True]))


@pytest.mark.parametrize(("squared", "border", "masked"), CASES)
@pytest.mark.parametrize("path", ["kernels", "torch"])
def test_derivative_is_that_of_the_value(monkeypatch, path, squared, border, masked):
    if path == "torch":
        monkeypatch.setattr(correlation, "_by_kernels", correlation._by_torch)
    fixed, warped = (x.requires_grad_() for x in _images(2, 1, 4, 3, 4))
    mask = torch.rand(2, 1, 4, 3, 4, dtype=torch.float64) if masked else None

    def loss(a, b):
        return lncc(a, b, mask, window=3, squared=squared, border=border, variance_floor=1e-3)

    assert torch.autograd.gradcheck(loss, (fixed, warped), fast_mode=True)


@pytest.mark.parametrize("size", [(11, 9, 13), (17, 12)])
@pytest.mark.parametrize("shape", ["rectangular", "triangular", "gaussian"])
@pytest.mark.parametrize("border", ["inside", "zeros"])
def test_kernels_equal_torch(monkeypatch, size, shape, border):
    fixed, warped = (x.float() for x in _images(2, 2, *size))
    warped.requires_grad_()

    def run():
        value = lncc(fixed, warped, window=5, shape=shape, border=border)
        return value.detach(), torch.autograd.grad(value, warped)[0]

    ours = run()
    monkeypatch.setattr(correlation, "_by_kernels", correlation._by_torch)
    theirs = run()
    torch.testing.assert_close(ours[0], theirs[0], atol=2e-6, rtol=0)
    torch.testing.assert_close(ours[1], theirs[1], atol=1e-5 * theirs[1].abs().max(), rtol=0)


@pytest.mark.parametrize("level", [0.0, 1.0, 1000.0])
def test_constant_images_give_a_finite_derivative(level):
    fixed = torch.rand(1, 1, 8, 8, 8)
    for one, other in [
        (fixed, torch.full_like(fixed, level)),
        (torch.full_like(fixed, level), fixed),
    ]:
        warped = other.clone().requires_grad_()
        value = lncc(one, warped)
        value.backward()
        assert abs(value.item()) < 1e-3
        assert torch.isfinite(warped.grad).all()


def test_an_empty_mask_gives_nothing():
    fixed, warped = (x.float() for x in _images(1, 1, 5, 5, 5))
    warped.requires_grad_()
    value = lncc(fixed, warped, torch.zeros_like(fixed))
    value.backward()
    assert value.item() == 0
    assert not warped.grad.any()


def test_an_inverted_contrast_counts_only_squared():
    fixed, _ = (x.float() for x in _images(1, 1, 9, 9, 9))
    assert lncc(fixed, 2 - fixed).item() == pytest.approx(-1, abs=1e-4)
    assert lncc(fixed, 2 - fixed, squared=False).item() == pytest.approx(1, abs=1e-4)


def test_it_is_the_same_under_autocast():
    fixed, warped = (x.float() for x in _images(1, 1, 9, 9, 9))
    plain = lncc(fixed, warped)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = lncc(fixed, warped)
    assert mixed.dtype == torch.float32
    assert mixed == plain
    assert lncc(fixed.bfloat16(), warped.bfloat16()).item() == pytest.approx(plain.item(), abs=0.01)


def test_a_constant_added_to_an_image_changes_nothing():
    fixed, warped = (x.float() for x in _images(1, 1, 12, 9, 9))
    shifted = lncc(fixed + 100, warped - 50)
    assert shifted.item() == pytest.approx(lncc(fixed, warped).item(), abs=1e-3)
