"""One resolution level of a descent: the pair on a lattice, and the steps of its field."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from service.registration.fields import Affine, DisplacementField
from service.registration.grid import Grid
from service.registration.kernels import ascent, lattice
from service.registration.kernels import descent as kernels
from service.registration.kernels.planes import MARGIN
from service.registration.pyramid import carried_over, have_same_axes
from service.registration.volume import Volume

FORCE_SIGMA_VOXELS = 1.2
FIELD_SIGMA_VOXELS = 0.4
# On a small level whose voxels are no coarser than the images' own: nothing has averaged their
# noise, and few voxels lie in each structure. A brain at 1 mm has more voxels, and loses by it.
OWN_FIELD_SIGMA_VOXELS, SMALL_VOXELS, NEARLY_OWN = 0.7, 1_000_000, 0.95
# Of the gradient of how much volumes grow, added to the field after each step where a level is told
# no other share; see `kernels.evenness`. Above 1 it overshoots.
EVENING = 0.7
# How far a level may move the border beyond where it starts, before it sees border values go on.
MOVING_MARGIN_VOXELS = 4
# An axis this much coarser than the finest one gets a window of three voxels instead of five.
COARSE_AXIS = 1.75

INNER = (slice(MARGIN, -MARGIN),) * 3


def grown(grid: Grid, before: np.ndarray, after: np.ndarray) -> Grid:
    """The grid with so many more voxels at the beginning and at the end of each axis."""
    affine = grid.affine.copy()
    affine[:3, 3] = grid.to_world(-np.asarray(before, dtype=np.float64))
    shape = np.array(grid.shape) + before + after
    return Grid((int(shape[0]), int(shape[1]), int(shape[2])), affine)


def pull(
    volume: Volume, grid: Grid, affine: Affine, *, shift: float = 0.0, scale: float = 1.0
) -> np.ndarray:
    """scale * (volume(affine x) - shift) on the grid, linear; beyond it, its border goes on."""
    out = np.empty(grid.shape, np.float32)
    matrix = volume.grid.inverse_affine @ affine.matrix @ grid.affine
    data = np.ascontiguousarray(volume.data, dtype=np.float32)
    lattice.pull_clamped(data, matrix, np.float32(shift), np.float32(scale), out)
    return out


@dataclass(frozen=True)
class LatticeField:
    """Displacements along the axes of a grid, mm, axes first: float32 (3, i, j, k)."""

    along_mm: np.ndarray
    grid: Grid

    @classmethod
    def of(cls, field: DisplacementField, axes: Grid) -> "LatticeField":
        """The field in terms of the axes of `axes`, on its own grid."""
        turned = field.vectors_mm @ axes.directions.astype(np.float32)
        return cls(np.ascontiguousarray(np.moveaxis(turned, -1, 0)), field.grid)

    def on(self, grid: Grid, scales: Sequence[float] = (1.0, 1.0, 1.0)) -> np.ndarray:
        """The displacements at the voxels of a grid, linear, clamped at the border, scaled."""
        if not self.along_mm.any():  # where no network made a start
            return np.zeros((3, *grid.shape), np.float32)
        out = np.empty((3, *grid.shape), np.float32)
        has_same_axes = have_same_axes(self.grid, grid)
        for part, scale, to in zip(self.along_mm, scales, out, strict=True):
            if has_same_axes:
                carried_over(part, self.grid, grid, scale=scale, out=to)
            else:
                to[:] = scale * pull(Volume(part, self.grid), grid, Affine.identity())
        return out

    def in_world(self) -> DisplacementField:
        """Back to RAS+; only for a field on a grid with the axes that it is told along."""
        turned = np.moveaxis(self.along_mm, 0, -1) @ self.grid.directions.T.astype(np.float32)
        return DisplacementField(np.ascontiguousarray(turned, dtype=np.float32), self.grid)


@dataclass(frozen=True)
class LevelPair:
    """What a level looks at, at its resolution; the affine takes fixed to moving."""

    fixed: Volume
    moving: Volume
    affine: Affine
    fixed_mask: Volume | None = None
    moving_mask: Volume | None = None


class Level:
    """The pair on the fixed volume's grid, the field, and every buffer that a step needs."""

    MOVING_MULTIPLE = 1  # of voxels, along each axis of the moving lattice

    def __init__(self, pair: LevelPair, field: LatticeField, evening: float = EVENING) -> None:
        """Bring the pair onto the grid of `pair.fixed`, and the field too."""
        self.grid = pair.fixed.grid
        margin = np.full(3, MARGIN)
        self._padded = grown(self.grid, margin, margin)
        self._spacing = self.grid.spacing_mm.astype(np.float32)
        self._nk = self._padded.shape[2]
        planes = (self._padded.shape[0], self._padded.shape[1] * self._nk)
        self._field = self._in_voxels(field).reshape(3, *planes)
        self._place_moving(pair)
        self._fixed = np.empty(self._padded.shape, np.float32)
        shift, scale = _standard(pair.fixed)
        kernel_scale = np.float32(shift), np.float32(scale)
        lattice.pad_clamped(pair.fixed.data, MARGIN, *kernel_scale, self._fixed)
        self._fixed = self._fixed.reshape(planes)
        self._mask = self._masked(pair).reshape(planes)
        self._prepare(evening, field_sigma_voxels(pair))

    def _in_voxels(self, field: LatticeField) -> np.ndarray:
        """A field on the padded lattice, (3, i, j, k)."""
        return field.on(self._padded, (1 / self._spacing).tolist())

    def _place_moving(self, pair: LevelPair) -> None:
        """Pull the moving volume through the affine onto a lattice that the field stays on."""
        ends = np.empty((2, self._field.shape[1], 3), np.float32)
        lattice.reach_of(self._field, self._nk, ends[0], ends[1])
        last = np.array(self._padded.shape) - 1
        before = np.maximum(0, np.ceil(-ends[0].min(axis=0))).astype(int) + MOVING_MARGIN_VOXELS
        after = np.maximum(0, np.ceil(ends[1].max(axis=0) - last)).astype(int)
        after += MOVING_MARGIN_VOXELS
        after += -(last + 1 + before + after) % self.MOVING_MULTIPLE
        self._lattice = grown(self._padded, before, after)
        self._offset = (int(before[0]), int(before[1]), int(before[2]))
        shift, scale = _standard(pair.moving)
        self._moving = pull(pair.moving, self._lattice, pair.affine, shift=shift, scale=scale)

    def _masked(self, pair: LevelPair) -> np.ndarray:
        """1 where both images are known: in the masks, and inside the moving field of view."""
        mask = np.zeros(self._padded.shape, np.float32)
        mask[INNER] = 1.0
        if pair.fixed_mask is not None:
            mask[INNER] *= pull(pair.fixed_mask, self.grid, Affine.identity()) >= 0.5
        planes = mask.reshape(self._fixed.shape)
        matrix = pair.moving.grid.inverse_affine @ pair.affine.matrix @ self._padded.affine
        shape = np.array(pair.moving.grid.shape)
        lattice.keep_inside(self._field, matrix, shape, self._nk, planes)
        if pair.moving_mask is not None:
            warped = np.empty_like(planes)
            on_lattice = pull(pair.moving_mask, self._lattice, pair.affine)
            kernels.warp_planes(on_lattice, self._field, self._nk, self._offset, warped)
            planes *= warped >= 0.5
        return mask

    def _prepare(self, evening: float, field_sigma: float) -> None:
        """What stays the same in all steps, and the buffers."""
        relative = self.grid.spacing_mm / self.grid.spacing_mm.min()
        self._force_taps = tap_weights(FORCE_SIGMA_VOXELS / relative)
        self._field_taps = tap_weights(field_sigma / relative)
        self._even_shares = (evening / relative**2).astype(np.float32)
        wide = (relative < COARSE_AXIS).astype(np.float64)
        self._outer = (wide[0], wide[1], wide[2])
        self._stats = np.empty((3, *self._fixed.shape), np.float32)
        self._first = np.empty_like(self._stats)
        self._second = np.empty_like(self._stats)
        kernels.fixed_statistics(
            self._fixed, self._mask, self._nk, self._outer, self._stats, self._first
        )
        self._masked_fixed = self._fixed * self._mask
        self._counted = max(1.0, float(self._mask.sum(dtype=np.float64)))
        self._warped = np.empty_like(self._fixed)
        self._similarity: float | None = None
        self._other: tuple[LatticeField, float] | None = None  # compared with last

    @property
    def field(self) -> LatticeField:
        """The field as it stands, on the level's grid."""
        inner = self._field.reshape(3, *self._padded.shape)[(slice(None), *INNER)]
        return LatticeField(inner * self._spacing[:, None, None, None], self.grid)

    @property
    def _images(self) -> tuple[np.ndarray, ...]:
        """As `kernels.ascent` takes them."""
        return self._fixed, self._masked_fixed, self._mask, self._warped

    def similarity(self) -> float:
        """LNCC of the pair under the field as it stands, in [0, 1]; 0 where nothing overlaps."""
        if self._similarity is None:
            self._similarity = self._measured()
        return self._similarity

    def _measured(self) -> float:
        """The similarity; what a step needs of it stays in the buffers."""
        totals = np.zeros(self._fixed.shape[0], np.float32)
        place, buffers = (self._nk, self._offset, self._outer), (self._first, self._second)
        pair = self._moving, self._field
        ascent.compare(pair, place, self._images, self._stats, buffers, totals)
        return float(totals.sum(dtype=np.float64)) / self._counted

    def similarity_of(self, field: LatticeField) -> float:
        """The same measure, over the same voxels, of another field."""
        if self._other is not None and self._other[0] is field:
            return self._other[1]
        own = self._field
        self._field = self._in_voxels(field).reshape(own.shape)
        self._other = field, self._measured()
        self._field, self._similarity = own, None  # the buffers are of the other field
        return self._other[1]

    def step(self, step_mm: float) -> float:
        """One step uphill, its largest displacement `step_mm`; gives the similarity before it.

        The field is smoothed afterwards, and the growth of volumes evened out.
        """
        similarity = self.similarity()
        window = np.array([1.0, 1.0, self._outer[0]], np.float32)
        scale = (self._spacing.min() / self._spacing) ** 2
        uphill = window, self._force_taps, scale, self._spacing, step_mm
        keep, buffers = (self._field_taps, self._even_shares), (self._first, self._second)
        ascent.ascend(self._field, self._nk, self._images, buffers, uphill, keep)
        self._similarity = None
        return similarity


# What makes a level of a pair, from a field, with a share of evening; `Level` is one.
MakeLevel = Callable[[LevelPair, LatticeField, float], Level]


def field_sigma_voxels(pair: LevelPair) -> float:
    """By how much the field is smoothed after each step, in voxels of the finest axis."""
    spacing_mm = pair.fixed.grid.spacing_mm.min()
    is_own = bool(pair.moving.grid.spacing_mm.min() >= NEARLY_OWN * spacing_mm)
    is_small = pair.fixed.grid.voxel_count < SMALL_VOXELS
    return OWN_FIELD_SIGMA_VOXELS if is_own and is_small else FIELD_SIGMA_VOXELS


def _standard(volume: Volume) -> tuple[float, float]:
    """Shift and scale to mean 0 and variance 1, to which the kernels' EPSILON refers."""
    sample = volume.data[:: max(1, volume.data.shape[0] // 32)]
    spread = float(sample.std(dtype=np.float64))
    return float(sample.mean(dtype=np.float64)), 1 / spread if spread > 0 else 1.0


def tap_weights(sigma_voxels: np.ndarray) -> np.ndarray:
    """Five-tap smoothing weights (3 axes, (middle, next, outermost)) of given standard deviations.

    A sampled Gaussian whose width is tuned so that the taps' own variance is sigma^2; up to sigma
    1.3, above which five taps are too few and 1.3 is used.
    """
    rows = [_tuned(float(sigma)) for sigma in np.minimum(sigma_voxels, 1.3)]
    return np.array(rows, dtype=np.float32)


@lru_cache(maxsize=32)
def _tuned(sigma: float) -> tuple[float, float, float]:
    """The weights of one axis."""
    low, high = 1e-3, 10.0
    for _ in range(60):  # bisection on the sampled Gaussian's width
        width = (low + high) / 2
        taps = np.exp(-0.5 * (np.arange(3) / width) ** 2)
        taps /= taps[0] + 2 * taps[1] + 2 * taps[2]
        low, high = (width, high) if 2 * taps[1] + 8 * taps[2] < sigma**2 else (low, width)
    return float(taps[0]), float(taps[1]), float(taps[2])
