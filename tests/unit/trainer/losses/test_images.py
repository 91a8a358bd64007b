"""Image losses: masks, worked cases, derivatives; parity with others is in tests/parity."""

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from trainer.losses.image import ncc, ssd, tukey  # noqa: E402
from trainer.losses.mind import descriptor, mind  # noqa: E402
from trainer.losses.mutual_information import (  # noqa: E402
    local_mutual_information,
    mutual_information,
)

LOSSES = [ssd, ncc, tukey, mind, mutual_information, local_mutual_information]


def _pair(*shape: int) -> tuple["torch.Tensor", "torch.Tensor"]:
    rng = np.random.default_rng(5)
    fixed = rng.random(shape)
    return torch.from_numpy(fixed), torch.from_numpy(0.6 * fixed + 0.4 * rng.random(shape))


@pytest.mark.parametrize("loss", [ssd, ncc, tukey, mutual_information])
@pytest.mark.parametrize("size", [(5, 6, 7), (8, 9)])
def test_a_mask_leaves_voxels_out(loss, size):
    fixed, warped = _pair(1, 1, *size)
    mask = torch.ones(1, 1, *size, dtype=torch.float64)
    mask[:, :, 3:] = 0
    cut = loss(fixed[:, :, :3].contiguous(), warped[:, :, :3].contiguous())
    assert loss(fixed, warped, mask).item() == pytest.approx(cut.item(), abs=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_constant_images_and_empty_masks_stay_finite(loss, level):
    fixed, warped = (x.float() for x in _pair(1, 1, 8, 8, 8))
    for one, mask in [(torch.full_like(fixed, level), None), (fixed, torch.zeros_like(fixed))]:
        other = torch.full_like(warped, level).requires_grad_()
        value = loss(one, other, mask)
        value.backward()
        assert torch.isfinite(value)
        assert torch.isfinite(other.grad).all()


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_are_float32_under_autocast(loss):
    fixed, warped = (x.float() for x in _pair(1, 1, 8, 8, 8))
    plain = loss(fixed, warped)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = loss(fixed, warped)
    torch.testing.assert_close(mixed, plain)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_derivative_is_that_of_the_value(loss):
    fixed, warped = _pair(1, 2, 4, 5, 4)
    mask = torch.ones(1, 1, 4, 5, 4, dtype=torch.float64)
    mask[..., 0] = 0.5
    warped.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(fixed, x, mask), (warped,), fast_mode=True)


def test_the_spline_derivative_is_that_of_the_value():
    fixed, warped = _pair(1, 1, 5, 5, 5)
    with torch.no_grad():
        warped[0, 0, 0, 0, 0], warped[0, 0, 0, 0, 1] = 0, 1  # the range, which is taken as given
    inner = warped[:, :, 1:].clone().requires_grad_()

    def loss(x):
        whole = torch.cat([warped[:, :, :1], x], dim=2)
        return mutual_information(fixed, whole, kernel="b-spline")

    assert torch.autograd.gradcheck(loss, (inner,), fast_mode=True)


def test_mutual_information_of_itself_is_the_entropy_whatever_the_contrast():
    fixed = torch.linspace(0, 1, 4096).reshape(1, 1, 16, 16, 16)
    sharp = {"bins": 16, "sigma_ratio": 0.01}
    same = mutual_information(fixed, fixed, **sharp)
    # 16 centres divide [0, 1]: the outermost bins are half as wide as the 14 others.
    shares = np.array([0.5] + [1.0] * 14 + [0.5]) / 15
    assert same.item() == pytest.approx((shares * np.log(shares)).sum(), abs=0.02)
    turned = mutual_information(fixed, 1 - fixed, **sharp)
    assert turned.item() == pytest.approx(same.item(), abs=1e-4)


def test_one_patch_is_the_whole_image_and_patches_average():
    fixed, warped = _pair(1, 1, 8, 8, 12)
    whole = mutual_information(fixed, warped)
    assert local_mutual_information(fixed, warped, patch=12).item() == pytest.approx(whole.item())
    parts = [
        mutual_information(fixed[..., cut], warped[..., cut]).item()
        for cut in (slice(8), slice(8, 12))
    ]
    expected = (2 * parts[0] + parts[1]) / 3
    assert local_mutual_information(fixed, warped, patch=8).item() == pytest.approx(expected)


def test_tukey_is_constant_beyond_its_threshold():
    fixed = torch.zeros(1, 1, 2, 2)
    found = [tukey(fixed, fixed + e).item() for e in (0.25, 0.5, 3.0)]
    assert found == pytest.approx([0.125 * (1 - 0.75**3), 0.125, 0.125])


def test_ncc_is_pearsons_correlation():
    fixed, warped = _pair(1, 1, 6, 5, 4)
    r = np.corrcoef(fixed.numpy().ravel(), warped.numpy().ravel())[0, 1]
    assert ncc(fixed, warped).item() == pytest.approx(-(r**2), abs=1e-5)
    assert ncc(fixed, warped, squared=False).item() == pytest.approx(-r, abs=1e-5)


def _mind_by_hand(image: np.ndarray, radius: int, dilation: int) -> np.ndarray:
    ndim, shape = image.ndim, image.shape

    def value(place: tuple[int, ...]) -> float:
        return float(image[tuple(min(max(p, 0), n - 1) for p, n in zip(place, shape, strict=True))])

    steps = [
        tuple(s * dilation * (a == n) for n in range(ndim)) for a in range(ndim) for s in (-1, 1)
    ]
    pairs = [(a, b) for a, b in itertools.combinations(steps, 2) if np.dot(a, b) == 0]
    patch = list(itertools.product(range(-radius, radius + 1), repeat=ndim))
    distances = np.zeros((len(pairs), *shape))
    for n, (a, b) in enumerate(pairs):
        for x in np.ndindex(*shape):
            ends = [[tuple(np.add(np.add(x, s), p)) for p in patch] for s in (a, b)]
            squares = [(value(p) - value(q)) ** 2 for p, q in zip(*ends, strict=True)]
            distances[(n, *x)] = np.mean(squares)
    spread = distances - distances.min(axis=0)
    return np.exp(-spread / spread.mean(axis=0))


@pytest.mark.parametrize("shape", [(4, 5, 3), (6, 5)])
@pytest.mark.parametrize(("radius", "dilation"), [(1, 2), (0, 1)])
def test_the_descriptor_is_the_papers(shape, radius, dilation):
    image = np.random.default_rng(3).random(shape)
    ours = descriptor(torch.from_numpy(image)[None, None], radius, dilation)[0].numpy()
    np.testing.assert_allclose(ours, _mind_by_hand(image, radius, dilation), atol=1e-9)
