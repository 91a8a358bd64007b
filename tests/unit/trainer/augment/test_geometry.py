"""Images, labels, masks and points move together."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

torch = pytest.importorskip("torch")

from trainer.augment import augmented  # noqa: E402
from trainer.augment.draws import smooth_field  # noqa: E402
from trainer.augment.geometry import random_affine, sampled  # noqa: E402
from trainer.config.augment import (  # noqa: E402
    AffineAugment,
    AugmentConfig,
    FieldAugment,
    FlipAugment,
)
from trainer.data.batch import Batch  # noqa: E402

CHANGES = {
    "affine": AugmentConfig(affine=AffineAugment(scale=0.2)),
    "field": AugmentConfig(field=FieldAugment(strength_mm=3.0, node_mm=30.0)),
    "flips": AugmentConfig(flips=FlipAugment(probability=0.7, axes=(0, 1, 2))),
    "all": AugmentConfig(
        affine=AffineAugment(), field=FieldAugment(node_mm=30.0), flips=FlipAugment(axes=(0, 1))
    ),
}
SIZES = {2: (34, 26), 3: (30, 26, 22)}


def places(size: tuple[int, ...]) -> torch.Tensor:
    """(1, d, *s): each voxel's index."""
    return torch.from_numpy(np.indices(size).astype(np.float32))[None]


def pairs(size: tuple[int, ...], count: int = 2) -> Batch:
    """Images that say their own position, so that what lies at a moved point can be read."""
    ndim = len(size)
    image = places(size).repeat(count, *[1] * (ndim + 1))
    middle = (torch.tensor(size, dtype=torch.float32) - 1) / 2
    points = middle + torch.tensor([[0.0] * ndim, [2.5] * ndim, [-3.25] * ndim])
    points = points[None].repeat(count, 1, 1)
    padded = torch.cat([points, torch.full((count, 1, ndim), torch.nan)], dim=1)
    blob = torch.exp(-((places(size) - middle.reshape(1, -1, *[1] * ndim)) ** 2).sum(1) / 40)
    labels = blob[:, None].repeat(count, 2, *[1] * ndim)
    labels[:, 1] = 0
    return Batch(
        image,
        image,
        labels,
        labels,
        torch.tensor([[True, False]] * count),
        padded,
        padded,
        (labels[:, :1] > 0.5).float(),
        (labels[:, :1] > 0.5).float(),
        spacing_mm=(1.0,) * ndim,
    )


def generator(seed: int = 4) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_point_lies_where_the_image_under_it_went(change: str, ndim: int) -> None:
    before = pairs(SIZES[ndim])
    after = augmented(before, CHANGES[change], generator())
    for role in ("fixed", "moving"):
        image, points = getattr(after, role), getattr(after, f"{role}_points")[:, :3]
        origin = getattr(before, f"{role}_points")[:, :3]
        assert (points - origin).abs().max() > 0.2
        for found, there, expected in zip(image, points, origin, strict=True):
            values = [ndimage.map_coordinates(c, there.numpy().T, order=1) for c in found]
            np.testing.assert_allclose(np.stack(values, axis=1), expected, atol=0.05)
        assert getattr(after, f"{role}_points")[:, 3].isnan().all()


@pytest.mark.parametrize("ndim", [2, 3])
@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_labels_centre_goes_where_its_point_goes(change: str, ndim: int) -> None:
    after = augmented(pairs(SIZES[ndim]), CHANGES[change], generator(8))
    index = places(SIZES[ndim])[0].flatten(1)
    assert after.fixed_labels is not None
    assert after.fixed_points is not None
    for labels, points in zip(after.fixed_labels, after.fixed_points, strict=True):
        weight = labels[0].flatten() ** 20  # narrow, so that bending does not shift its centre
        centre = (index * weight).sum(dim=1) / weight.sum()
        np.testing.assert_allclose(centre, points[0], atol=0.05)


def test_masks_stay_masks_and_absent_labels_absent() -> None:
    after = augmented(pairs(SIZES[3]), CHANGES["all"], generator())
    assert after.fixed_mask is not None
    assert after.moving_labels is not None
    assert after.label_present is not None
    assert set(after.fixed_mask.unique().tolist()) == {0.0, 1.0}
    assert after.label_present.tolist() == [[True, False]] * 2
    assert not after.moving_labels[:, 1].any()


def test_fixed_and_moving_move_apart_unless_shared() -> None:
    apart = augmented(pairs(SIZES[3]), CHANGES["affine"], generator())
    config = AugmentConfig(
        affine=AffineAugment(shared=True), field=FieldAugment(shared=True, node_mm=10.0)
    )
    together = augmented(pairs(SIZES[3]), config, generator())
    assert not torch.allclose(apart.fixed, apart.moving)
    assert torch.equal(together.fixed, together.moving)
    assert not torch.allclose(together.fixed[0], together.fixed[1])


def test_flips_mirror_exactly() -> None:
    before = pairs(SIZES[3])
    config = AugmentConfig(flips=FlipAugment(probability=1.0, axes=(1,)))
    after = augmented(before, config, generator())
    np.testing.assert_array_equal(after.moving, before.moving.numpy()[:, :, :, ::-1])
    assert after.moving_points is not None
    assert before.moving_points is not None
    moved, there = after.moving_points[:, :3, 1], before.moving_points[:, :3, 1]
    np.testing.assert_allclose(moved, SIZES[3][1] - 1 - there)


def test_the_same_generator_gives_the_same_and_another_does_not() -> None:
    batch = pairs(SIZES[3])
    first, again, other = (augmented(batch, CHANGES["all"], generator(n)) for n in (1, 1, 2))
    assert torch.equal(first.fixed, again.fixed)
    assert torch.equal(first.moving, again.moving)
    assert not torch.equal(first.fixed, other.fixed)
    assert augmented(batch, AugmentConfig(), generator()) == replace(batch)


@pytest.mark.parametrize("size", [(9, 5), (9, 5, 7), (8, 2, 4)])
def test_an_affine_moves_corners_inwards_by_up_to_the_scale(size: tuple[int, ...]) -> None:
    ndim, half = len(size), (np.array(size) - 1) / 2
    corners = -np.ones((ndim + 1, ndim))
    corners[1:] += 2 * np.eye(ndim)
    moved = []
    for seed in range(20):
        matrix = random_affine(AffineAugment(scale=0.3), size, generator(seed)).numpy()
        there = (corners * half) @ matrix[:, :ndim].T + matrix[:, ndim]
        moved.append(there / (corners * half))
    assert np.min(moved) > 0.7 - 1e-5
    assert np.max(moved) < 1 + 1e-5
    assert np.ptp(moved) > 0.2


def test_a_smooth_field_has_unit_spread_and_no_jumps() -> None:
    field = smooth_field(generator(), 40, (48, 40), (8.0, 5.0))
    assert field.shape == (40, 48, 40)
    assert 0.6 < float(field.std()) < 1.3
    assert float(field.diff(dim=1).abs().max()) < 1.0
    assert float(field.diff(dim=2).abs().max()) > float(field.diff(dim=1).abs().max())


def test_fields_are_sampled_as_scipy_samples() -> None:
    draw = np.random.default_rng(0)
    field = draw.random((1, 3, 7, 6, 5)).astype(np.float32)
    points = draw.uniform(-1, 7, (1, 9, 3)).astype(np.float32)
    ours = sampled(torch.from_numpy(field), torch.from_numpy(points))[0]
    theirs = [ndimage.map_coordinates(c, points[0].T, order=1, mode="nearest") for c in field[0]]
    np.testing.assert_allclose(ours, np.stack(theirs, axis=1), atol=1e-5)
