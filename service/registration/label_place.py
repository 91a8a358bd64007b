"""Do labels lie where their image has something? Told from the image alone."""

from dataclasses import dataclass
from itertools import product

import numpy as np

from service.registration.resample import resample
from service.registration.scouted import Scouted
from service.registration.volume import Volume

STEP_SHARE = 0.12  # of the labels' own extent: how far they are moved to look elsewhere
AROUND_SHARE = 0.25  # of it: how much of the image around them is looked at
LEVEL, STRIDE = 1, 2  # every second voxel of the image at about 56 along its longest side


@dataclass(frozen=True)
class LabelPlace:
    """Shares of the image's variance that the labels account for, background as one of them.

    `here` where they lie, `moved` at the best of the places around.
    """

    here: float
    moved: float


def label_place(image: Scouted, labels: Volume) -> LabelPlace | None:
    """How well labels fit their image where they are, and moved; None without labels.

    The share is one minus the variance within labels over the variance of all, in the labels' box
    and some room around it. They are moved by one and two steps along every axis.

    Source: the correlation ratio of Roche et al., MICCAI 1998.
    """
    seen = image.levels[LEVEL]
    there = resample(labels, seen.grid, interpolation="nearest").data.astype(np.int64)
    index = np.argwhere(there > 0)
    if not len(index):
        return None
    low, high = index.min(axis=0), index.max(axis=0) + 1
    step = np.maximum(1, np.rint(STEP_SHARE * (high - low)).astype(int))
    room = np.maximum(1, np.rint(AROUND_SHARE * (high - low)).astype(int))
    start, stop = np.maximum(low - room, 0), np.minimum(high + room, there.shape)
    names, inside = np.unique(there[_box(start, stop)], return_inverse=True)
    wide = np.pad(seen.data, [(int(2 * n),) * 2 for n in step], mode="edge")
    label = inside.ravel()
    voxels = np.bincount(label, minlength=len(names))
    shares = {}
    for steps in product(range(-2, 3), repeat=3):
        moved = start + (2 + np.array(steps)) * step
        values = wide[_box(moved, moved + stop - start)].ravel()
        shares[steps] = _explained(label, voxels, values)
    here = shares.pop((0, 0, 0))
    return LabelPlace(here, max(shares.values()))


def _box(start: np.ndarray, stop: np.ndarray) -> tuple[slice, ...]:
    return tuple(slice(int(a), int(b), STRIDE) for a, b in zip(start, stop, strict=True))


def _explained(label: np.ndarray, voxels: np.ndarray, values: np.ndarray) -> float:
    """Variance between labels over the variance of all; 0 where nothing varies."""
    apart = values - values.mean()
    whole = float((apart**2).sum())
    if whole <= 0:
        return 0.0
    sums = np.bincount(label, apart, minlength=len(voxels))
    return float((sums**2 / voxels).sum() / whole)
