"""Images of label maps: what each option does, against scipy and by hand."""

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402, N812 - the usual name

from trainer.config.synth import SynthImageConfig  # noqa: E402
from trainer.synth.rendering import _blur, _slices, random_contrast, rendered  # noqa: E402

PLAIN = SynthImageConfig(
    spread=(0, 0),
    black_background=0,
    blur_voxels=0,
    bias=0,
    gamma=0,
    noise=0,
    crop_probability=0,
    slices_probability=0,
)
SIZE = (12, 10, 8)


def _labels() -> torch.Tensor:
    rng = np.random.default_rng(2)
    return torch.from_numpy(rng.integers(0, 5, SIZE).astype(np.int32))


def _image(seed: int = 0, **options) -> torch.Tensor:
    config = PLAIN.model_copy(update=options)
    draw = torch.Generator().manual_seed(seed)
    contrast = random_contrast(config, 5, draw)
    return rendered(_labels(), contrast, config, (2.0, 2.0, 3.0), draw)[0]


def test_each_label_has_one_grey_value_and_the_image_fills_its_range():
    image, labels = _image(), _labels()
    for label in range(5):
        assert image[labels == label].std() < 1e-6
    assert (image.min(), image.max()) == (0, 1)


def test_another_draw_has_another_contrast():
    order = [[float(_image(seed)[_labels() == n].mean()) for n in range(5)] for seed in (0, 1)]
    assert np.argsort(order[0]).tolist() != np.argsort(order[1]).tolist()


def test_the_background_can_be_black():
    assert _image(black_background=1)[_labels() == 0].max() == 0


@pytest.mark.parametrize(
    "options", [{"noise": 0.2}, {"spread": (0.1, 0.1)}, {"bias": 1}, {"blur_voxels": 2}]
)
def test_each_option_makes_a_label_uneven(options):
    image = _image(**options)
    assert image[_labels() == 1].std() > 0.01
    assert 0 <= image.min() <= image.max() <= 1


def test_gamma_is_a_power():
    plain, curved = _image(), _image(gamma=1)
    inner = (plain > 0.05) & (plain < 0.95)
    powers = curved[inner].log() / plain[inner].log()
    assert powers.std() < 1e-4
    assert abs(powers.mean() - 1) > 0.05


def test_a_smaller_field_of_view_is_a_box():
    whole, cropped = _image(noise=0), _image(crop_probability=1, crop=0.6)
    kept = torch.nonzero(cropped > 0)
    low, high = kept.amin(dim=0), kept.amax(dim=0) + 1
    box = tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))
    torch.testing.assert_close(cropped[box], whole[box])
    assert cropped[box].numel() < whole.numel()


def test_the_blur_is_scipys_away_from_the_border():
    line = np.random.default_rng(1).random(40)
    expected = ndimage.gaussian_filter1d(line, 1.5, truncate=8)
    found = _blur(40, 1.5).double().numpy() @ line
    np.testing.assert_allclose(found[10:30], expected[10:30], atol=1e-6)


@pytest.mark.parametrize("thickness", [2, 3, 4])
def test_thick_slices_are_means_with_lines_between_them(thickness):
    line = torch.rand(1, 1, 24, generator=torch.Generator().manual_seed(1))
    slabs = F.avg_pool1d(line, thickness)
    expected = F.interpolate(slabs, scale_factor=thickness, mode="linear")[0, 0]
    torch.testing.assert_close(_slices(24, thickness) @ line[0, 0], expected)
