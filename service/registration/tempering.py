"""An image's values as measures and kernels can take them, whatever was sent.

A few voxels that are thousands of times brighter than all others (spikes in k-space, a burnt-in
marker) would be the whole contrast of an image whose values are brought to variance 1; values near
the ends of what a number holds overflow when they are squared. What is delivered is made from the
values that were sent.
"""

from dataclasses import dataclass
from math import gcd

import numpy as np

from service.registration.volume import Volume

# Percentiles that all but a few voxels lie between, and how far beyond them, in what lies between,
# a voxel is still believed. Images of bodies stay below 3, metal and contrast agents included.
ORDINARY_PERCENTILES, BELIEVED_BEYOND = (0.1, 99.9), 10.0
SAMPLE_VOXELS = 20_000
FEW = 1e-3  # of the voxels; more than these are not outliers
# Values of another extent than this, or further from 0 than so many of it, are brought to 0 to 1.
LEAST_EXTENT, MOST_EXTENT, MOST_OFFSET = 1e-6, 1e9, 1e4


@dataclass(frozen=True)
class Tempering:
    """(v - shift) * scale of values cut off at `low` and `high`; nothing of it where v is ordinary.

    `cuts` says whether voxels of the image lie beyond, `is_flat` whether all have one value.
    """

    low: float
    high: float
    shift: float
    scale: float
    cuts: bool
    is_flat: bool = False

    @classmethod
    def of(cls, volume: Volume) -> "Tempering":
        """What a volume of any real type and finite values needs."""
        least, most = float(volume.data.min()), float(volume.data.max())
        low, high = _believed(volume.data)
        cuts = least < low or most > high
        if cuts and not _are_few(volume.data, low, high):
            low, high, cuts = least, most, False
        bottom, top = max(least, low), min(most, high)
        extent, reach = top - bottom, max(abs(bottom), abs(top))
        if extent <= 0 or (LEAST_EXTENT <= extent <= MOST_EXTENT and reach <= MOST_OFFSET * extent):
            return cls(low, high, 0.0, 1.0, cuts, is_flat=least == most)
        return cls(bottom, top, bottom, 1 / extent, cuts)

    def apply_to_own(self, volume: Volume, fill: float | None = None) -> Volume:
        """As `apply`, of the image that this was told of, or one linear between its values.

        That is as ordinary as the image, so nobody looks. `fill` is what lies beyond it, if any.
        """
        is_ordinary = not self.cuts and (self.shift, self.scale) == (0.0, 1.0)
        if is_ordinary and (fill is None or self.low <= fill <= self.high):
            return volume.as_float32()
        return self.apply(volume)

    def apply(self, volume: Volume) -> Volume:
        """The volume, or one made from it, float32; the same values where they are ordinary."""
        data, is_mapped = volume.data, (self.shift, self.scale) != (0.0, 1.0)
        if not is_mapped and data.min() >= self.low and data.max() <= self.high:
            return volume.as_float32()
        values = np.clip(data.astype(np.float64), self.low, self.high)
        return volume.with_data(((values - self.shift) * self.scale).astype(np.float32))


def tempered(volume: Volume) -> Volume:
    """A volume of any real type as kernels can take it, float32."""
    return Tempering.of(volume).apply_to_own(volume)


def _believed(data: np.ndarray) -> tuple[float, float]:
    """Between which values a voxel is believed, from an even sample."""
    flat = data.ravel(order="K")
    step = max(1, flat.size // SAMPLE_VOXELS)
    while gcd(step, flat.size) > 1:  # or it might see one plane alone
        step += 1
    sample = flat[::step].astype(np.float64)
    low, high = (float(value) for value in np.percentile(sample, ORDINARY_PERCENTILES))
    beyond = BELIEVED_BEYOND * (high - low)
    return low - beyond, high + beyond


def _are_few(data: np.ndarray, low: float, high: float) -> bool:
    """Whether what lies beyond is an exception; where all else is one value, it is the image."""
    return low < high and int(((data < low) | (data > high)).sum()) <= FEW * data.size
