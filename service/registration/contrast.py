"""Two images of different contrast, made alike: one through the grey values that lie on its own.

Local correlation climbs well where one image's grey values are a linear function of the other's,
rising or falling, and is misled where they are another one. Once a pair is roughly aligned, its
joint histogram tells which: the mean of the moving values that lie on each fixed value, and the
other way about. Through that table, either image has the contrast of the other.

Source: Roche et al., The correlation ratio as a new similarity measure for multimodal image
registration, MICCAI 1998.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32

from service.registration.descent import LatticeField, LevelPair
from service.registration.grid import Grid
from service.registration.kernels.contrast import look_up
from service.registration.resample import resample, warp
from service.registration.smoothing import box_mean
from service.registration.volume import Volume

Mapped = Literal["fixed", "moving"]

BINS = 128
SIGMA_BINS = 1.5
# Values beyond these percentiles take the end of the table.
RANGE_PERCENT = (0.1, 99.9)
# A bin whose neighbourhood holds less than this share of the voxels is filled from the next ones.
LEAST_SHARE = 1e-5
SAMPLED_VOXELS, LOOKED_AT_VOXELS = 100_000, 20_000
# By so much a curve must explain more of the variance than a line does. Between images of one
# contrast it is .04 at most, even badly aligned; between contrasts .15 and more.
CLEARLY_MORE = 0.1
# A direction is chosen where it explains this share of the local variance, and so many times as
# much as the other.
LEAST_EXPLAINED, CLEARLY_BETTER = 0.15, 1.25
RADIUS = 2  # voxels; of the windows of that variance
# A table is learned where the fixed image is even: at edges what lies on each other belongs
# together only once the pair is aligned. A voxel counts half where the square of the gradient is
# this share of its mean.
HALF_AT = 0.05

Flat = Float[np.ndarray, "n"]


@dataclass(frozen=True, eq=False)
class Lookup:
    """A table of grey values: its first entry's value, entries for each unit, entries."""

    low: float
    scale: float
    table: Float32[np.ndarray, "bins"]

    @classmethod
    def learn(cls, values: Flat, targets: Flat, weights: Flat | None = None) -> "Lookup":
        """The mean target of each value: E[target | value], smooth.

        Sums and counts of `BINS` bins are smoothed by a Gaussian and divided, so a bin counts by
        what it holds; bins with next to nothing around them are interpolated.
        """
        low, high = _range(values)
        bin_of = _bins(values, low, high)
        weights = np.ones_like(targets) if weights is None else weights
        counts = _smoothed(np.bincount(bin_of, weights=weights, minlength=BINS))
        sums = _smoothed(np.bincount(bin_of, weights=weights * targets, minlength=BINS))
        seen = counts > LEAST_SHARE * counts.sum()
        entries = np.arange(BINS)
        means = np.interp(entries, entries[seen], sums[seen] / counts[seen])
        width = (high - low) / BINS if high > low else 1.0
        return cls(low + width / 2, 1 / width, means.astype(np.float32))

    def apply(self, volume: Volume) -> Volume:
        """Each value's entry, linear between entries."""
        data = np.ascontiguousarray(volume.data, dtype=np.float32)
        planes = data.reshape(data.shape[0], -1)
        out = np.empty_like(planes)
        look_up(planes, np.float32(self.low), np.float32(self.scale), self.table, out)
        return Volume(out.reshape(data.shape), volume.grid)


@dataclass(frozen=True, eq=False)
class Samples:
    """Values that lie on each other: fixed, and moving as it is carried over.

    `weights` are what each counts in a table and in what a curve explains, if they were asked for.
    """

    fixed: Flat
    moving: Flat
    weights: Flat | None = None

    @classmethod
    def of(
        cls,
        pair: LevelPair,
        field: LatticeField,
        *,
        weighed: bool = False,
        most: int = SAMPLED_VOXELS,
    ) -> "Samples":
        """On every few voxels of the fixed grid, inside both fields of view and masks."""
        step = max(1, int(np.ceil((pair.fixed.grid.voxel_count / most) ** (1 / 3))))
        fixed = _strided(pair.fixed, step)
        warped, kept = _carried(pair, field, fixed.grid)
        weights = _evenness(_steepness(pair.fixed, step)[kept]) if weighed else None
        return cls(fixed.data[kept].astype(np.float64), warped[kept].astype(np.float64), weights)

    @property
    def squared_correlation(self) -> float:
        """What a line explains of either's variance; 0 where one is constant."""
        if self.is_flat:
            return 0.0
        return float(np.corrcoef(self.fixed, self.moving)[0, 1] ** 2)

    @property
    def correlation_ratio(self) -> float:
        """The larger share of one's variance that a curve of the other explains; eta squared."""
        if self.is_flat:
            return 0.0
        weights = np.ones_like(self.fixed) if self.weights is None else self.weights
        ways = (self.fixed, self.moving), (self.moving, self.fixed)
        return max(_explained(*way, weights) for way in ways)

    @property
    def contrasts_differ(self) -> bool:
        """Whether a curve says clearly more than a line, rising or falling; a few of them tell."""
        every = max(1, len(self.fixed) // LOOKED_AT_VOXELS)
        some = Samples(self.fixed[::every], self.moving[::every])
        return some.correlation_ratio - some.squared_correlation > CLEARLY_MORE

    @property
    def is_flat(self) -> bool:
        """Whether there is nothing to learn: fewer voxels than bins, or a constant image."""
        return len(self.fixed) < BINS or not (self.fixed.std() > 0 and self.moving.std() > 0)


def matched(pair: LevelPair, field: LatticeField, mapped: Mapped) -> LevelPair:
    """The pair with one image in the other's contrast, as it is learned under a field.

    As it is, where next to nothing lies on each other or one image is constant there.
    """
    samples = Samples.of(pair, field, weighed=True)
    if samples.is_flat:
        return pair
    if mapped == "fixed":
        table = Lookup.learn(samples.fixed, samples.moving, samples.weights)
        return replace(pair, fixed=table.apply(pair.fixed))
    table = Lookup.learn(samples.moving, samples.fixed, samples.weights)
    return replace(pair, moving=table.apply(pair.moving))


def better_mapped(pair: LevelPair, field: LatticeField) -> Mapped | None:
    """The image to map: as it explains more of the other in small windows; None where unclear.

    Where the moving values are a function of the fixed ones, of many to one, the fixed image has
    all that the moving one shows, and not the other way about. Over the whole image background and
    foreground decide; what is left when each window's mean is taken away tells structures apart.
    """
    warped, kept = _carried(pair, field, pair.fixed.grid)
    moving = Volume(np.where(kept, warped, np.float32(0)), pair.fixed.grid)
    samples = Samples.of(pair, field)
    if samples.is_flat:
        return None
    of_moving = Lookup.learn(samples.fixed, samples.moving).apply(pair.fixed)
    of_fixed = Lookup.learn(samples.moving, samples.fixed).apply(moving)
    by_fixed = _locally_explained(of_moving, moving, kept)
    by_moving = _locally_explained(of_fixed, pair.fixed, kept)
    if max(by_fixed, by_moving) < LEAST_EXPLAINED:
        return None
    if by_fixed > CLEARLY_BETTER * by_moving:
        return "fixed"
    return "moving" if by_moving > CLEARLY_BETTER * by_fixed else None


def _locally_explained(first: Volume, second: Volume, kept: np.ndarray) -> float:
    """Squared correlation of what differs from the mean of each window."""
    a, b = (
        (volume.data - box_mean(volume.as_float32().data, RADIUS))[kept].astype(np.float64)
        for volume in (first, second)
    )
    both = _dot(a, a) * _dot(b, b)
    return _dot(a, b) ** 2 / both if both > 0 else 0.0


def _explained(values: Flat, targets: Flat, weights: Flat) -> float:
    """Share of the targets' variance that the mean of each bin of values explains.

    Less what as many means would explain of noise; not below 0. Samples of unequal weights count as
    fewer of equal ones.
    """
    bin_of = _bins(values, *_range(values))
    held, total = np.bincount(bin_of, weights=weights, minlength=BINS), weights.sum()
    apart = targets - _dot(weights, targets) / total
    sums = np.bincount(bin_of, weights=weights * apart, minlength=BINS)
    between = float((sums[held > 0] ** 2 / held[held > 0]).sum())
    share = between / _dot(weights, apart**2)
    count = float(total**2 / _dot(weights, weights))
    spare = count - np.count_nonzero(held)
    return max(0.0, 1 - (1 - share) * (count - 1) / spare) if spare > 0 else 0.0


def _dot(a: Flat, b: Flat) -> float:
    """The sum of products: for `@` numpy wakes the threads of its BLAS, which then spin."""
    return float((a * b).sum())


def _range(values: Flat) -> tuple[float, float]:
    low, high = np.percentile(values, RANGE_PERCENT)
    if not high > low:
        low, high = values.min(), values.max()
    return float(low), float(high)


def _bins(values: Flat, low: float, high: float) -> np.ndarray:
    places = (values - low) * (BINS / (high - low) if high > low else 0.0)
    return np.clip(places, 0, BINS - 1).astype(np.intp)


def _smoothed(counts: np.ndarray) -> Flat:
    reach = int(4 * SIGMA_BINS)
    bell = np.exp(-0.5 * (np.arange(-reach, reach + 1) / SIGMA_BINS) ** 2)
    smooth: Flat = np.convolve(counts, bell / bell.sum(), mode="same")
    return smooth


def _strided(volume: Volume, step: int) -> Volume:
    """Every few voxels of each axis, as they are."""
    affine = volume.grid.affine.copy()
    affine[:3, :3] *= step
    data = np.ascontiguousarray(volume.data[::step, ::step, ::step])
    return Volume(data, Grid((data.shape[0], data.shape[1], data.shape[2]), affine))


def _steepness(volume: Volume, step: int) -> np.ndarray:
    """The square of the gradient at every few voxels of each axis, per mm; flat at the border."""
    places = [np.arange(0, count, step) for count in volume.grid.shape]
    square = np.zeros([len(place) for place in places])
    for axis, spacing_mm in enumerate(volume.grid.spacing_mm):
        last = volume.grid.shape[axis] - 1
        ends = [np.clip(places[axis] + side, 0, last) for side in (1, -1)]
        after, before = (
            volume.data[np.ix_(*places[:axis], end, *places[axis + 1 :])].astype(np.float64)
            for end in ends
        )
        square += ((after - before) / (2 * spacing_mm)) ** 2
    return square


def _evenness(steepness: Flat) -> Flat:
    """1 where nothing is steep, 1/2 at `HALF_AT` of the mean."""
    half = HALF_AT * float(steepness.mean()) if len(steepness) else 0.0
    return half / (half + steepness) if half > 0 else np.ones_like(steepness)


def _carried(pair: LevelPair, field: LatticeField, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The moving values on a grid, and where both images are known and in their masks."""
    path = LatticeField(field.on(grid), grid).in_world()
    warped = warp(pair.moving, path, grid, affine=pair.affine, fill=np.nan).data
    kept = np.isfinite(warped)
    if pair.fixed_mask is not None:
        kept &= resample(pair.fixed_mask, grid, interpolation="nearest").data != 0
    if pair.moving_mask is not None:
        mask = warp(pair.moving_mask, path, grid, affine=pair.affine, interpolation="nearest")
        kept &= mask.data != 0
    return warped, kept
