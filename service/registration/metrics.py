"""How alike two volumes or point sets are. Measures of labels and fields are gathered here too."""

import math

import numpy as np
from jaxtyping import Bool, Float64

from service.errors import BadPointsError
from service.registration.kernels import measures
from service.registration.label_metrics import dice, hd95_mm, label_volume_change
from service.registration.points import WorldPoints
from service.registration.regularity import (
    Regularity,
    displacement_percentile_mm,
    folding_fraction,
    inverse_consistency_mm,
    jacobian_determinant,
    max_displacement_mm,
    non_diffeomorphic_volume,
    overlap_fraction,
    regularity,
    sdlogj,
)
from service.registration.smoothing import box_mean
from service.registration.volume import Volume, require_same_grid

__all__ = [
    "Regularity",
    "dice",
    "displacement_percentile_mm",
    "folding_fraction",
    "hd95_mm",
    "inverse_consistency_mm",
    "jacobian_determinant",
    "label_volume_change",
    "lncc",
    "max_displacement_mm",
    "ncc",
    "nmi",
    "non_diffeomorphic_volume",
    "overlap_fraction",
    "regularity",
    "sdlogj",
    "tre_mm",
]

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
    require_same_grid(warped, fixed, "warped")
    a, b = _standardised(fixed), _standardised(warped)
    if a is None:
        return math.nan
    if b is None:
        return 0.0
    mean_a, mean_b = box_mean(a, radius), box_mean(b, radius)
    var_a = box_mean(a * a, radius) - mean_a * mean_a
    var_b = box_mean(b * b, radius) - mean_b * mean_b
    cov = box_mean(a * b, radius) - mean_a * mean_b
    kept = _mask(fixed, mask) & (var_a > _FLAT_WINDOW)
    if not kept.any():
        return math.nan
    cov, var_a, var_b = cov[kept], var_a[kept], var_b[kept]
    score = np.where(var_b > _FLAT_WINDOW, cov * cov / (var_a * np.maximum(var_b, 1e-12)), 0.0)
    return float(np.clip(score, 0.0, 1.0).mean(dtype=np.float64))


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
