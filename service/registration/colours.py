"""Numbers to colours: grey windows, matched contrasts, colour scales."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, UInt8

Plane = Float[np.ndarray, "h w"]
Rgb = UInt8[np.ndarray, "h w 3"]

FOLD_RGB = (235, 20, 30)
DIFFERENCE = ((120, 190, 255), (30, 84, 170), (8, 8, 10), (176, 72, 20), (255, 190, 110))
JACOBIAN = ((96, 32, 128), (184, 152, 208), (246, 246, 246), (150, 205, 150), (16, 104, 56))
MAGNITUDE = ((12, 16, 48), (40, 58, 140), (28, 128, 150), (90, 190, 110), (250, 230, 70))

SHADES = 1024  # of a scale: more than a channel can tell apart


@dataclass(frozen=True)
class Scale:
    """A colour scale: evenly spaced colours from `low` to `high`."""

    colours: tuple[tuple[int, int, int], ...]
    low: float
    high: float

    def paint(self, values: Plane) -> Rgb:
        """Each value's colour; values outside the scale take its ends."""
        per_shade = (SHADES - 1) / (self.high - self.low)
        nearest = np.rint((values - self.low) * per_shade).astype(np.intp)
        painted: Rgb = self._table.take(nearest, axis=0, mode="clip")
        return painted

    @cached_property
    def _table(self) -> UInt8[np.ndarray, "shades 3"]:
        """The colours of SHADES evenly spaced values."""
        place = np.linspace(0, SHADES - 1, len(self.colours))
        table = np.array(self.colours, dtype=np.float64)
        channels = [np.interp(np.arange(SHADES), place, table[:, n]) for n in range(3)]
        return np.stack(channels, axis=-1).astype(np.uint8)


def window(sample: np.ndarray) -> tuple[float, float]:
    """The grey values shown as black and white: the 0.5th and 99.5th percentile."""
    low, high = (float(value) for value in np.percentile(sample, (0.5, 99.5)))
    if high <= low:
        low, high = float(sample.min()), float(sample.max())
    return (low, high) if high > low else (low, low + 1.0)


def grey(values: np.ndarray, shown: tuple[float, float]) -> np.ndarray:
    """Values as 0 (black) to 1 (white) float32."""
    low, high = shown
    greys: np.ndarray = np.clip((values.astype(np.float32) - low) / (high - low), 0, 1)
    return greys


@dataclass(frozen=True)
class GreyMatch:
    """Grey values of the moving image as the fixed image would show the same tissue.

    Two contrasts cannot be subtracted or blended as they are. Where the aligned pair says that
    grey values correspond in some other way than one to one, each moving value is replaced by the
    mean of the fixed values that lie on it; else nothing is changed.
    """

    table: np.ndarray | None = None  # the fixed grey of evenly spaced moving greys in [0, 1]

    @classmethod
    def learn(cls, fixed: np.ndarray, warped: np.ndarray, bins: int = 48) -> "GreyMatch":
        """Learn from greys of an aligned pair, both in [0, 1] and flat."""
        bin_of = np.minimum((warped * bins).astype(np.intp), bins - 1)
        counts = np.bincount(bin_of, minlength=bins)
        sums = np.bincount(bin_of, weights=fixed, minlength=bins)
        seen = counts >= max(8, len(fixed) // 20_000)
        if seen.sum() < 2:
            return cls()
        middles = (np.arange(bins) + 0.5) / bins
        table = np.interp(middles, middles[seen], sums[seen] / counts[seen])
        return cls(table) if _says_more_than_a_line(fixed, warped, table[bin_of]) else cls()

    def apply(self, greys: np.ndarray) -> np.ndarray:
        """Moving greys in [0, 1] as fixed greys."""
        if self.table is None:
            return greys
        bins = len(self.table)
        middles = (np.arange(bins) + 0.5) / bins
        matched: np.ndarray = np.interp(greys, middles, self.table).astype(np.float32)
        return matched


def _says_more_than_a_line(fixed: np.ndarray, warped: np.ndarray, mapped: np.ndarray) -> bool:
    """Whether a curve explains clearly more of the fixed greys than the moving greys themselves."""
    spread = float(fixed.var())
    if spread == 0:
        return False
    left_by_curve = float(((fixed - mapped) ** 2).mean()) / spread
    left_by_values = float(((fixed - warped) ** 2).mean()) / spread
    return left_by_curve < 0.6 and left_by_curve < 0.8 * left_by_values
