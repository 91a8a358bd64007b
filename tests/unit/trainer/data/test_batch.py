"""Samples of different sizes become one batch, by the stated padding."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from trainer.data.batch import Batch, collate  # noqa: E402


def sample(size: tuple[int, ...], labels: int = 0, points: int = 0, mask: bool = False) -> Batch:
    draw = np.random.default_rng(sum(size))
    image = torch.from_numpy(draw.random((1, 1, *size)).astype(np.float32))
    shares = torch.ones((1, labels, *size)) if labels else None
    places = torch.zeros((1, points, len(size))) if points else None
    return Batch(
        image,
        image + 1,
        shares,
        shares,
        torch.ones((1, labels), dtype=torch.bool) if labels else None,
        places,
        places,
        torch.ones((1, 1, *size)) if mask else None,
        None,
        names=("pair",),
        spacing_mm=(1.0,) * len(size),
        label_values=(tuple(range(1, labels + 1)),),
    )


def test_one_sample_is_its_own_batch() -> None:
    only = sample((4, 3, 2))
    assert collate([only]) is only


@pytest.mark.parametrize("ndim", [2, 3])
def test_smaller_images_are_padded_at_the_far_end(ndim: int) -> None:
    one, other = sample((4, 8, 4)[:ndim], labels=1, mask=True), sample((8, 4, 4)[:ndim], labels=1)
    batch = collate([one, other])
    assert batch.size == (8, 8, 4)[:ndim]
    widths = [(0, 0), (0, 0), (0, 4), (0, 0), (0, 0)][: ndim + 2]
    np.testing.assert_array_equal(batch.fixed[:1], np.pad(one.fixed, widths, mode="edge"))
    assert batch.fixed_labels is not None
    assert one.fixed_labels is not None
    np.testing.assert_array_equal(batch.fixed_labels[:1], np.pad(one.fixed_labels, widths))
    assert batch.fixed_mask is not None
    assert float(batch.fixed_mask[0].sum()) == float(one.fixed.numel())
    assert float(batch.fixed_mask[1].sum()) == float(other.fixed.numel())
    zero = collate([one, other], "zero")
    np.testing.assert_array_equal(zero.fixed[:1], np.pad(one.fixed, widths))


def test_labels_and_points_that_some_lack_are_absent_and_nan() -> None:
    batch = collate([sample((4, 4), labels=2, points=3), sample((4, 4)), sample((4, 4), 1, 1)])
    assert batch.label_present is not None
    assert batch.label_present.tolist() == [[True, True], [False, False], [True, False]]
    assert batch.label_values == ((1, 2), (0, 0), (1, 0))
    assert batch.fixed_labels is not None
    assert batch.fixed_labels.sum(dim=(2, 3)).tolist() == [[16, 16], [0, 0], [16, 0]]
    assert batch.moving_points is not None
    assert batch.moving_points.isnan().any(dim=-1).sum(dim=1).tolist() == [0, 3, 2]
    assert len(batch) == 3
    assert len(batch.names) == 3


def test_a_batch_has_one_spacing_and_is_not_empty() -> None:
    with pytest.raises(ValueError, match="nothing"):
        collate([])
    with pytest.raises(ValueError, match="spacing"):
        collate([sample((4, 4)), sample((4, 4, 4))])


def test_a_batch_moves_to_another_device_whole() -> None:
    batch = sample((4, 4), labels=1, points=1).to("meta")
    assert batch.fixed.device.type == "meta"
    assert batch.moving_points is not None
    assert batch.moving_points.device.type == "meta"
    assert batch.moving_mask is None
