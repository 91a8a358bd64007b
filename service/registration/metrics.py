"""How alike two volumes or two lists of points are; see also `label_metrics`, `regularity`."""

import math

import numpy as np
from jaxtyping import Bool, Float64

from service.errors import BadPointsError
from service.registration.kernels import measures
from service.registration.points import WorldPoints
from service.registration.smoothing import box_mean
from service.registration.volume import Volume, require_same_grid

# A window of less variance than this share of the whole image's has no structure to compare.
_FLAT_WINDOW = 1e-4
_PARTS = 8


def _mask(image: Volume, mask: Volume | None) -> Bool[np.ndarray, "i j k"]:
    if mask is None:
        return np.ones(image.grid.shape, bool)
    require_same_grid(mask, image, "mask")
    return np.ascontiguousarray(mask.data != 0)


def ncc(fixed: Volume, warped: Volume, mask: Volume | None = None) -> float:
    """Normalised cross-correlation (Pearson's) over the mask; nan where one is constant there.

    Raises:
        GridMismatchError: If the volumes or the mask lie on different grids.
    """
    require_same_grid(warped, fixed, "warped")
    sums = np.zeros((fixed.grid.shape[0], 6))
    inside = _mask(fixed, mask)
    measures.correlation_sums(fixed.as_float32().data, warped.as_float32().data, inside, sums)
    n, a, b, aa, bb, ab = sums.sum(axis=0)
    if n == 0:
        return math.nan
    var_a, var_b = aa - a * a / n, bb - b * b / n
    if var_a <= 1e-12 * aa or var_b <= 1e-12 * bb:
        return math.nan
    return float((ab - a * b / n) / math.sqrt(var_a * var_b))


def lncc(fixed: Volume, warped: Volume, mask: Volume | None = None, radius: int = 2) -> float:
    """Mean squared correlation in windows of (2 radius + 1)^3 voxels, over the mask: 0 to 1.

    Windows where the fixed image is flat are left out; nan when all are. Where only the warped one
    is flat a window counts as 0. Squared, so an inverted contrast counts as well.

    Raises:
        GridMismatchError: If the volumes or the mask lie on different grids.

    Source: Avants et al., Symmetric diffeomorphic image registration, MedIA 2008, section 2.1.
    """
    return Windows(fixed, mask, radius).lncc(warped)


class Windows:
    """The fixed image's share of `lncc`, to compare many images with."""

    def __init__(self, fixed: Volume, mask: Volume | None = None, radius: int = 2) -> None:
        """See `lncc`."""
        self._fixed, self._radius = fixed, radius
        values = _standardised(fixed)
        self._values = np.zeros(fixed.grid.shape, np.float32) if values is None else values
        self._mean = box_mean(self._values, radius)
        self._variance = box_mean(self._values * self._values, radius) - self._mean * self._mean
        self._kept = _mask(fixed, mask) & (self._variance > _FLAT_WINDOW)
        self._count = int(self._kept.sum())

    def lncc(self, warped: Volume) -> float:
        """As the function of this name."""
        require_same_grid(warped, self._fixed, "warped")
        if not self._count:
            return math.nan
        b = _standardised(warped)
        if b is None:
            return 0.0
        mean = box_mean(b, self._radius)
        variance = box_mean(b * b, self._radius) - mean * mean
        cov = box_mean(self._values * b, self._radius) - self._mean * mean
        both = self._variance * np.maximum(variance, 1e-12)
        counted = self._kept & (variance > _FLAT_WINDOW)
        score = np.divide(cov * cov, both, out=np.zeros_like(cov), where=counted)
        return float(np.minimum(score, 1.0).sum(dtype=np.float64)) / self._count


def _standardised(volume: Volume) -> np.ndarray | None:
    """Zero mean and unit variance, which keeps sums of squares exact; None when constant."""
    data = volume.as_float32().data
    mean, std = data.mean(dtype=np.float64), data.std(dtype=np.float64)
    return None if std == 0 else np.asarray((data - np.float32(mean)) / np.float32(std))


def nmi(fixed: Volume, warped: Volume, mask: Volume | None = None, bins: int = 32) -> float:
    """Normalised mutual information (H(a) + H(b)) / H(a, b), 1 to 2; right across modalities.

    Bins divide the range of each image inside the mask, its extreme 0.1 % cut off. 1 when one image
    is constant; nan for an empty mask.

    Raises:
        GridMismatchError: If the volumes or the mask lie on different grids.

    Source: Studholme et al., An overlap invariant entropy measure, Pattern Recognition 1999.
    """
    require_same_grid(warped, fixed, "warped")
    inside = _mask(fixed, mask)
    if not inside.any():
        return math.nan
    a, b = fixed.as_float32().data, warped.as_float32().data
    scales = np.array([_binning(x, inside, bins) for x in (a, b)], np.float32)
    counts = np.zeros((_PARTS, bins, bins), np.int64)
    measures.joint_histogram(a, b, inside, scales, counts)
    joint = counts.sum(axis=0) / counts.sum()
    both = _entropy(joint)
    return float((_entropy(joint.sum(0)) + _entropy(joint.sum(1))) / both) if both > 0 else 1.0


def _binning(data: np.ndarray, inside: np.ndarray, bins: int) -> tuple[float, float]:
    """The first bin's start and bins for each unit; from a sample of the values."""
    values = data[inside]
    low, high = np.percentile(values[:: max(1, values.size // 100_000)], (0.1, 99.9))
    return float(low), float(bins / (high - low)) if high > low else 0.0


def _entropy(share: Float64[np.ndarray, "*bins"]) -> float:
    share = share[share > 0]
    return float(-(share * np.log(share)).sum())


def tre_mm(moved: WorldPoints, target: WorldPoints) -> Float64[np.ndarray, "n"]:
    """Target registration error: the distance of each point from its counterpart, mm.

    Raises:
        BadPointsError: If the two lists are not of one length.
    """
    if len(moved) != len(target):
        raise BadPointsError(
            f"Points are compared one by one: there are {len(moved)} and {len(target)}."
        )
    return np.asarray(np.linalg.norm(moved.positions_mm - target.positions_mm, axis=1))
