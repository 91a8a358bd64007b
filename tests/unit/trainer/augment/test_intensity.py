"""Grey values change within their range; blur and thick slices are what scipy says."""

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch")

from trainer.augment import augmented  # noqa: E402
from trainer.augment.intensity import blurred, recoloured, thickened  # noqa: E402
from trainer.config.augment import (  # noqa: E402
    AugmentConfig,
    IntensityAugment,
    LowResolutionAugment,
)
from trainer.data.batch import Batch  # noqa: E402

OFF = {"gamma": 0.0, "contrast": 0.0, "bias": 0.0, "noise": 0.0, "blur_voxels": 0.0}
SPACING = (1.0, 1.0, 1.0)


@pytest.fixture
def images(rng: np.random.Generator) -> torch.Tensor:
    return torch.from_numpy(rng.random((2, 1, 15, 12, 9)).astype(np.float32)) * 7 - 3


def generator(seed: int = 4) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_nothing_configured_changes_nothing(images: torch.Tensor) -> None:
    config = IntensityAugment(probability=1.0, **OFF)
    after = recoloured(images, config, SPACING, generator())
    np.testing.assert_allclose(after, images, atol=1e-5)


@pytest.mark.parametrize("only", sorted(OFF))
def test_each_change_keeps_the_range_and_differs_by_image(images: torch.Tensor, only: str) -> None:
    config = IntensityAugment(probability=1.0, **(OFF | {only: 0.9}))
    after = recoloured(images, config, SPACING, generator())
    assert float(after.min()) >= float(images.min()) - 1e-5
    assert float(after.max()) <= float(images.max()) + 1e-5
    change = (after - images).abs().amax(dim=(1, 2, 3, 4))
    assert (change > 0.01).all()
    assert change[0] != change[1]


def test_gamma_is_a_power_of_the_range(images: torch.Tensor) -> None:
    config = IntensityAugment(probability=1.0, **(OFF | {"gamma": 0.5}))
    after = recoloured(images, config, SPACING, generator())[0]
    low, high = images[0].min(), images[0].max()
    unit = (images[0] - low) / (high - low)
    changed = (after - low) / (high - low)
    inner = (unit > 0.1) & (unit < 0.9)
    powers = torch.log(changed[inner]) / torch.log(unit[inner])
    np.testing.assert_allclose(powers, powers.mean(), rtol=1e-3)


@pytest.mark.parametrize("sigma", [0.6, 1.3])
def test_a_blur_is_scipys(images: torch.Tensor, sigma: float) -> None:
    theirs = ndimage.gaussian_filter(
        images[0, 0].numpy(), sigma, mode="nearest", radius=int(np.ceil(3 * sigma))
    )
    np.testing.assert_allclose(blurred(images[0], sigma)[0], theirs, atol=1e-4)


def test_thick_slices_keep_a_ramp_in_place() -> None:
    """Means of slabs put back by position: a ramp stays, but for half a slab at its ends."""
    ramp = torch.arange(24.0).reshape(1, 1, 24, 1, 1).expand(1, 1, 24, 4, 4)
    config = LowResolutionAugment(probability=1.0, factor=4)
    for seed in range(8):
        after = thickened(ramp, config, generator(seed))
        np.testing.assert_allclose(after[0, 0, 4:-4], ramp[0, 0, 4:-4], atol=1e-5)


def test_thick_slices_are_means_along_one_axis(images: torch.Tensor) -> None:
    config = LowResolutionAugment(probability=1.0, factor=2)
    found = set()
    before = images[0, 0].numpy()
    for seed in range(12):
        after = thickened(images[:1], config, generator(seed))[0, 0].numpy()
        rough = [np.abs(np.diff(after, axis=axis)).mean() for axis in range(3)]
        axis = int(np.argmin(rough))
        first = before.take([0, 1], axis=axis).mean(axis=axis)
        np.testing.assert_allclose(after.take(0, axis=axis), first, atol=1e-5)
        found.add(axis)
    assert found == {0, 1, 2}


def test_the_whole_is_deterministic_and_changes_both_images(images: torch.Tensor) -> None:
    config = AugmentConfig(
        intensity=IntensityAugment(probability=1.0), low_resolution=LowResolutionAugment()
    )
    batch = Batch(images, images, spacing_mm=SPACING)
    first, again = (augmented(batch, config, generator(3)) for _ in range(2))
    assert torch.equal(first.fixed, again.fixed)
    assert not torch.equal(first.fixed, first.moving)
