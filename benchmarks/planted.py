"""Failures planted in what is sent, as a wrong file would bring them: the pipeline is not told."""

from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.verdict_pairs import Sample
from service.registration.grid import Grid
from service.registration.smoothing import smooth
from service.registration.volume import Volume


@dataclass(frozen=True)
class Planted:
    """A sample with a failure of one kind in it."""

    kind: str
    how: str
    sample: Sample


Fault = Callable[[Sample, np.random.Generator, list[Sample]], Sample | None]
AXES = {"left-right": 0, "front-back": 1, "head-foot": 2}


def planted(
    sample: Sample, seed: int, others: list[Sample], kinds: Container[str] | None = None
) -> Iterator[Planted]:
    """The sample with each failure that it can have; chosen at random where there is a choice.

    `kinds` names those that are wanted; without it all are.
    """
    for number, (name, fault) in enumerate(FAULTS.items()):
        kind, _, how = name.partition(": ")
        if kinds is not None and kind not in kinds:
            continue
        found = fault(sample, np.random.default_rng((seed, number)), others)
        if found is not None:
            yield Planted(kind, how, found)


def _with_moving(sample: Sample, moving: Volume, moving_labels: Volume | None = None) -> Sample:
    return replace(sample, pair=replace(sample.pair, moving=moving, moving_labels=moving_labels))


def _with_data(sample: Sample, change: Callable[[np.ndarray], np.ndarray]) -> Sample:
    """Image and labels changed alike under the same header's matrix."""
    pair = sample.pair

    def changed(volume: Volume | None) -> Volume | None:
        if volume is None:
            return None
        data = np.ascontiguousarray(change(volume.data))
        return Volume(data, Grid(data.shape, volume.grid.affine))

    moving = changed(pair.moving)
    assert moving is not None
    return _with_moving(sample, moving, changed(pair.moving_labels))


def _along(grid: Grid, world: int) -> int:
    """The voxel axis that is nearest to an axis of the world."""
    return int(np.abs(grid.directions[world]).argmax())


def _flip(world: int) -> Fault:
    def fault(sample: Sample, _rng: np.random.Generator, _others: list[Sample]) -> Sample:
        axis = _along(sample.pair.moving.grid, world)
        return _with_data(sample, lambda data: np.flip(data, axis))

    return fault


def _swap(first: int, second: int) -> Fault:
    def fault(sample: Sample, _rng: np.random.Generator, _others: list[Sample]) -> Sample:
        """The voxels in another order; spacings go with their axes."""
        order = [0, 1, 2]
        order[first], order[second] = order[second], order[first]
        changed = _with_data(sample, lambda data: data.transpose(order))
        affine = sample.pair.moving.grid.affine.copy()
        affine[:3, :3] = (
            sample.pair.moving.grid.directions * sample.pair.moving.grid.spacing_mm[order]
        )
        return _with_affine(changed, affine)

    return fault


def _with_affine(sample: Sample, affine: np.ndarray) -> Sample:
    pair = sample.pair

    def placed(volume: Volume | None) -> Volume | None:
        return None if volume is None else Volume(volume.data, Grid(volume.grid.shape, affine))

    moving = placed(pair.moving)
    assert moving is not None
    return _with_moving(sample, moving, placed(pair.moving_labels))


def _scale(factor: float, axis: int | None = None) -> Fault:
    def fault(sample: Sample, _rng: np.random.Generator, _others: list[Sample]) -> Sample:
        affine = sample.pair.moving.grid.affine.copy()
        columns = slice(0, 3) if axis is None else axis
        affine[:3, columns] *= factor
        return _with_affine(sample, affine)

    return fault


def _noise(blur_voxels: float) -> Fault:
    def fault(sample: Sample, rng: np.random.Generator, _others: list[Sample]) -> Sample:
        grid = sample.pair.moving.grid
        noise = Volume(rng.normal(size=grid.shape).astype(np.float32), grid)
        if blur_voxels:
            noise = smooth(noise, blur_voxels * float(grid.spacing_mm.mean()))
        return _with_moving(sample, noise, sample.pair.moving_labels)

    return fault


def _drowned(times: float) -> Fault:
    """The image under noise of so many times its own spread."""

    def fault(sample: Sample, rng: np.random.Generator, _others: list[Sample]) -> Sample:
        data = sample.pair.moving.data
        noise = rng.normal(0, times * data.std(), data.shape)
        drowned = Volume((data + noise).astype(np.float32), sample.pair.moving.grid)
        return _with_moving(sample, drowned, sample.pair.moving_labels)

    return fault


def _nearly_empty(sample: Sample, rng: np.random.Generator, _others: list[Sample]) -> Sample:
    data = np.zeros(sample.pair.moving.grid.shape, np.float32)
    for index in rng.integers(0, data.size, 5):
        data.flat[index] = 1.0
    return _with_moving(sample, Volume(data, sample.pair.moving.grid), sample.pair.moving_labels)


def _empty(sample: Sample, _rng: np.random.Generator, _others: list[Sample]) -> Sample:
    return _with_moving(
        sample, sample.pair.moving.with_data(np.zeros_like(sample.pair.moving.data))
    )


def _crop(share: float, *, is_blank: bool = False) -> Fault:
    """A slab of the moving image: the rest is cut away, or blank."""

    def fault(sample: Sample, rng: np.random.Generator, _others: list[Sample]) -> Sample:
        pair = sample.pair
        axis = int(rng.integers(3))
        count = pair.moving.grid.shape[axis]
        kept = max(4, round(share * count))
        first = int(rng.choice([0, count - kept]))
        part: list[slice] = [slice(None)] * 3
        part[axis] = slice(first, first + kept)
        if is_blank:
            data = np.full_like(pair.moving.data, pair.moving.data.min())
            data[tuple(part)] = pair.moving.data[tuple(part)]
            return _with_moving(sample, pair.moving.with_data(data), pair.moving_labels)
        affine = pair.moving.grid.affine.copy()
        affine[:3, 3] += affine[:3, axis] * first
        cut = _with_data(sample, lambda data: data[tuple(part)])
        return _with_affine(cut, affine)

    return fault


def _other_anatomy(sample: Sample, rng: np.random.Generator, others: list[Sample]) -> Sample:
    same = {"brain": {"head", "ct-mr"}, "head": {"brain", "ct-mr"}, "ct-mr": {"brain", "head"}}
    near = {sample.category} | same.get(sample.category, set())
    far = [other for other in others if other.category not in near]
    chosen = far[int(rng.integers(len(far)))]
    return _with_moving(sample, chosen.pair.fixed, chosen.pair.fixed_labels)


def _other_person(sample: Sample, rng: np.random.Generator, others: list[Sample]) -> Sample | None:
    """Another's image of the same part, where both images ought to be of one person."""
    if not sample.is_one_person or sample.category in ("heart", "lung", "breast", "ct-mr"):
        return None
    first = sample.name[:2]
    pool = [o for o in others if o.category == sample.category and o.name[:2] != first]
    if sample.category == "head":
        pool = [o for o in others if o.category == "brain"]
    chosen = pool[int(rng.integers(len(pool)))] if pool else None
    return (
        None
        if chosen is None
        else _with_moving(sample, chosen.pair.moving, chosen.pair.moving_labels)
    )


def _contrast(curve: Callable[[np.ndarray], np.ndarray]) -> Fault:
    def fault(sample: Sample, rng: np.random.Generator, _others: list[Sample]) -> Sample:
        data = sample.pair.moving.data
        low, high = np.percentile(data, (0.5, 99.5))
        shown = curve(np.clip((data - low) / max(high - low, 1e-6), 0, 1))
        shown = shown + rng.normal(0, 0.02, shown.shape)
        moving = Volume(shown.astype(np.float32), sample.pair.moving.grid)
        return _with_moving(sample, moving, sample.pair.moving_labels)

    return fault


def _labels_of(sample: Sample, rng: np.random.Generator, others: list[Sample]) -> Sample | None:
    """The labels of another image of the set, on this one's lattice."""
    pair = sample.pair
    if pair.moving_labels is None:
        return None
    own = sample.name.split("<-")
    pool = [
        o
        for o in others
        if o.category == sample.category
        and o.pair.fixed_labels is not None
        and not set(o.name.split("<-")) & set(own)
    ]
    if not pool:
        return None
    other = pool[int(rng.integers(len(pool)))].pair.fixed_labels
    assert other is not None
    here = pair.moving.grid
    index = np.minimum(
        np.floor(
            np.moveaxis(np.indices(here.shape), 0, -1) * np.array(other.grid.shape) / here.shape
        ),
        np.array(other.grid.shape) - 1,
    ).astype(int)
    data = np.ascontiguousarray(other.data[tuple(np.moveaxis(index, -1, 0))])
    return replace(sample, pair=replace(pair, moving_labels=Volume(data, here)))


def _labels_changed(change: Callable[[Volume], np.ndarray]) -> Fault:
    def fault(sample: Sample, _rng: np.random.Generator, _others: list[Sample]) -> Sample | None:
        own = sample.pair.moving_labels
        if own is None:
            return None
        changed = own.with_data(np.ascontiguousarray(change(own)))
        return replace(sample, pair=replace(sample.pair, moving_labels=changed))

    return fault


def _flipped_labels(own: Volume) -> np.ndarray:
    return np.flip(own.data, _along(own.grid, 2))


def _shifted_labels(own: Volume) -> np.ndarray:
    """By a seventh of the field of view along each axis."""
    return np.roll(own.data, [round(n / 7) for n in own.grid.shape], (0, 1, 2))


FAULTS: dict[str, Fault] = {
    "other anatomy: any": _other_anatomy,
    "other anatomy: any, again": _other_anatomy,
    "other person: same part": _other_person,
    "flipped: left-right": _flip(0),
    "flipped: front-back": _flip(1),
    "flipped: head-foot": _flip(2),
    "axis order: i and j": _swap(0, 1),
    "axis order: j and k": _swap(1, 2),
    "noise: white": _noise(0),
    "noise: smooth, 2 voxels": _noise(2),
    "noise: smooth, 5 voxels": _noise(5),
    "noise: drowned, 10 times": _drowned(10),
    "empty: constant": _empty,
    "empty: five voxels": _nearly_empty,
    "cropped: half": _crop(0.5),
    "cropped: a third": _crop(0.35),
    "cropped: a fifth": _crop(0.2),
    "cropped: half is blank": _crop(0.5, is_blank=True),
    "spacing: x 1.5": _scale(1.5),
    "spacing: x 0.6": _scale(0.6),
    "spacing: x 10": _scale(10.0),
    "spacing: x 0.1": _scale(0.1),
    "spacing: one axis x 1.5": _scale(1.5, 2),
    "spacing: one axis x 0.5": _scale(0.5, 2),
    "other contrast: inverted": _contrast(lambda x: 1 - x),
    "other contrast: bright in the middle": _contrast(lambda x: 4 * x * (1 - x)),
    "labels: of another image": _labels_of,
    "labels: head to foot": _labels_changed(_flipped_labels),
    "labels: shifted": _labels_changed(_shifted_labels),
}
