"""Synthetic pairs: the same whenever they are drawn, and the truth about them is true."""

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import ndimage

from trainer.config.synth import ShapesConfig, SynthConfig

torch = pytest.importorskip("torch")

from service.errors import GridMismatchError  # noqa: E402
from trainer.augment.draws import smooth_field  # noqa: E402
from trainer.spatial import warp  # noqa: E402
from trainer.synth import SyntheticPairs  # noqa: E402
from trainer.synth.shapes import random_shapes  # noqa: E402

GRIDS = [((24, 30, 20), (2.0, 2.0, 3.0)), ((40, 36), (1.0, 1.5))]
SMALL = SynthConfig(shapes=ShapesConfig(labels=5, node_mm=(20, 30)))


@pytest.mark.parametrize("grid", GRIDS)
def test_a_pair_depends_on_seed_and_index_only(grid):
    first, again = SyntheticPairs(SMALL, *grid, 3), SyntheticPairs(SMALL, *grid, 3)
    again.draw(7)
    one, same, other = first.draw(2), again.draw(2), first.draw(3)
    for name in ("fixed", "moving", "fixed_labels", "moving_labels", "displacement"):
        assert torch.equal(getattr(one, name), getattr(same, name))
        assert not torch.equal(getattr(one, name), getattr(other, name))
    assert not torch.equal(SyntheticPairs(SMALL, *grid, 4).draw(2).fixed, one.fixed)


@pytest.mark.parametrize("grid", GRIDS)
def test_shapes_and_ranges(grid):
    pair, size = SyntheticPairs(SMALL, *grid).draw(0), grid[0]
    assert pair.fixed.shape == pair.moving.shape == (1, *size)
    assert pair.fixed_labels.shape == pair.moving_labels.shape == size
    assert pair.displacement.shape == (len(size), *size)
    for image in (pair.fixed, pair.moving):
        assert 0 <= image.min() < image.max() <= 1
    assert set(pair.fixed_labels.unique().tolist()) <= set(range(6))


@pytest.mark.parametrize("grid", GRIDS)
def test_the_displacement_brings_moving_labels_onto_the_fixed_ones(grid):
    for index in range(3):
        pair = SyntheticPairs(SMALL, *grid).draw(index)
        labels = pair.moving_labels[None, None].float()
        warped = warp(labels, pair.displacement[None], mode="nearest")[0, 0].numpy()
        fixed = pair.fixed_labels.numpy()
        inner = ndimage.minimum_filter(fixed, 3) == ndimage.maximum_filter(fixed, 3)
        inner &= (warped > 0) & (fixed > 0)  # 0: from outside the map
        assert inner.mean() > 0.15
        assert (warped == fixed)[inner].mean() > 0.995


def test_two_maps_have_no_known_displacement():
    maps = [np.full((8, 9, 10), n, np.int16) for n in (1, 2)]
    source = SyntheticPairs(SynthConfig(same_map=0), (8, 9, 10), (1.0, 1.0, 1.0), label_maps=maps)
    for index in range(4):
        pair = source.draw(index)
        assert pair.displacement is None
        assert {int(pair.fixed_labels.max()), int(pair.moving_labels.max())} == {1, 2}
    known = SyntheticPairs(SynthConfig(), (8, 9, 10), (1.0, 1.0, 1.0), label_maps=maps)
    assert known.draw(0).displacement is not None


def test_a_map_of_another_shape_is_refused():
    source = SyntheticPairs(SMALL, (8, 9), (1.0, 1.0), label_maps=[np.zeros((9, 8), np.int32)])
    with pytest.raises(GridMismatchError, match=r"\(9, 8\)"):
        source.draw(0)


def test_shapes_are_the_largest_of_the_fields():
    config = ShapesConfig(labels=4, node_mm=(6, 6))
    found = random_shapes(config, (9, 8, 7), (1.0, 1.0, 1.0), torch.Generator().manual_seed(2))
    draw = torch.Generator().manual_seed(2)
    torch.rand((), generator=draw)
    fields = smooth_field(draw, 4, (9, 8, 7), [6.0, 6.0, 6.0])
    assert torch.equal(found, fields.argmax(dim=0).int() + 1)


def test_spans_rise():
    with pytest.raises(ValidationError, match="must not be above"):
        ShapesConfig(node_mm=(30, 20))


def _ball(size: tuple[int, ...]) -> np.ndarray:
    places = np.stack(np.meshgrid(*[np.arange(n) - n / 2 for n in size], indexing="ij"))
    return (np.sqrt((places**2).sum(0)) < min(size) / 4).astype(np.int32)


def test_what_has_no_label_is_divided_into_shapes_that_are_no_labels():
    size = (16, 18, 14)
    flat = {"spread": (0, 0), "noise": 0, "bias": 0, "blur_voxels": 0, "same_contrast": 1}
    flat |= {"slices_probability": 0, "crop_probability": 0, "black_background": 0}
    still = {"affine": {"rotation_degrees": 0, "scale": 0, "shear": 0, "translation_mm": 0}}
    still |= {"field": {"strength_mm": 0}, "image": flat}
    for shapes, values in ((0, 2), (6, 6)):
        config = SynthConfig.model_validate(still | {"background_shapes": shapes})
        source = SyntheticPairs(config, size, (4.0, 4.0, 4.0), label_maps=[_ball(size)])
        pair = source.draw(0)
        assert np.array_equal(pair.fixed_labels.numpy(), _ball(size))
        assert len(pair.fixed[0][pair.fixed_labels == 1].unique()) == 1
        assert len(pair.fixed.unique()) >= values
