"""Label losses against their formulas in numpy, worked voxel sums."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from trainer.losses.label import cross_entropy, dice, jaccard, mean_square  # noqa: E402
from trainer.losses.multiscale import at_scales, thresholded  # noqa: E402
from trainer.losses.windows import blur_weights, blurred  # noqa: E402

LOSSES = [dice, jaccard, cross_entropy, mean_square]
WEIGHTS = [0.0, 0.3, 1.0]


def _labels(*shape: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    return rng.random(shape), rng.random(shape)


def _formula(name: str, t: np.ndarray, p: np.ndarray, g: float) -> float:
    """One label; f and g weigh foreground and background, and what is added is 1e-5."""
    f, s = 1 - g, 1e-5
    if name == "dice":
        top = 2 * (f * (t * p).sum() + g * ((1 - t) * (1 - p)).sum())
        return 1 - (top + s) / (f * (t + p).sum() + g * (2 - t - p).sum() + s)
    if name == "jaccard":
        top = f * (t * p).sum() + g * ((1 - t) * (1 - p)).sum()
        return 1 - (top + s) / (f * (t + p - t * p).sum() + g * (1 - t * p).sum() + s)
    if name == "cross_entropy":
        return -(f * t * np.log(p + s) + g * (1 - t) * np.log(1 - p + s)).mean()
    share = np.ones_like(t) if g == 0 else f * t + g * (1 - t)
    return (share * (t - p) ** 2).sum() / share.sum()


@pytest.mark.parametrize("shape", [(6, 5, 4), (7, 9)])
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("weight", WEIGHTS)
def test_loss_is_its_formula_over_the_labels_that_are_there(shape, loss, weight):
    t, p = _labels(2, 3, *shape)
    present = torch.tensor([[True, False, True], [False, True, True]])
    ours = loss(torch.from_numpy(t), torch.from_numpy(p), present, background_weight=weight)
    theirs = [_formula(loss.__name__, t[b, n], p[b, n], weight) for b, n in present.nonzero()]
    assert ours.item() == pytest.approx(np.mean(theirs), abs=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
def test_absent_labels_have_no_derivative(loss):
    t, p = (torch.from_numpy(x) for x in _labels(1, 2, 4, 4, 4))
    p.requires_grad_()
    loss(t, p, torch.tensor([[True, False]])).backward()
    assert p.grad[0, 0].any()
    assert not p.grad[0, 1].any()


@pytest.mark.parametrize("loss", LOSSES)
def test_a_batch_without_labels_gives_nothing(loss):
    t, p = (torch.zeros(1, 2, 4, 4, 4) for _ in range(2))
    p.requires_grad_()
    value = loss(t, p, torch.zeros(1, 2, dtype=torch.bool))
    value.backward()
    assert value.item() == 0
    assert torch.isfinite(p.grad).all()


@pytest.mark.parametrize("loss", [dice, jaccard, cross_entropy, mean_square])
@pytest.mark.parametrize("weight", WEIGHTS)
def test_empty_and_full_labels_stay_finite(loss, weight):
    for t, p in [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)]:
        warped = torch.full((1, 1, 4, 4), p, requires_grad=True)
        value = loss(torch.full((1, 1, 4, 4), t), warped, background_weight=weight)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(warped.grad).all()


def test_dice_of_half_overlapping_bars_is_one_half():
    t, p = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    t[..., 2:6], p[..., 4:8] = 1, 1
    assert dice(t, p).item() == pytest.approx(0.5, abs=1e-6)
    assert jaccard(t, p).item() == pytest.approx(2 / 3, abs=1e-6)


def test_binary_cuts_both_at_one_half():
    t, p = torch.full((1, 1, 4, 4), 0.5), torch.full((1, 1, 4, 4), 0.7)
    assert thresholded(dice)(t, p, None).item() == pytest.approx(0, abs=1e-6)
    assert thresholded(dice)(t, p - 0.3, None).item() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("kernel", ["gaussian", "cauchy"])
@pytest.mark.parametrize("shape", [(9, 12, 7), (9, 12)])
def test_a_blur_is_a_convolution_along_each_axis(kernel, shape):
    ndimage = pytest.importorskip("scipy.ndimage")
    x = np.random.default_rng(0).random((1, 1, *shape))
    sigmas = (1.0, 2.5, 0.0)[: len(shape)]
    ours = blurred(torch.from_numpy(x), sigmas, kernel)
    theirs = x
    for axis, sigma in enumerate(sigmas):
        if sigma > 0:
            weights = blur_weights(sigma, kernel).numpy()
            theirs = ndimage.convolve1d(theirs, weights, axis + 2, mode="constant")
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-12)


def test_scales_bring_a_derivative_where_sharp_labels_do_not_meet():
    t, p = torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)
    t[..., 4:8, 4:8], p[..., 20:24, 20:24] = 1, 1
    sharp, wide = (
        torch.autograd.grad(loss(t, x, None), x)[0]
        for loss, x in [
            (at_scales(dice, [(0, 0)]), p.clone().requires_grad_()),
            (at_scales(dice, [(0, 0), (8, 8)]), p.clone().requires_grad_()),
        ]
    )
    between = (0, 0, 12, 12)
    assert abs(wide[between]) > 10 * abs(sharp[between])
