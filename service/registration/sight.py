"""How a climb sees its pair: as it is, or one image in the contrast of the other."""

import numpy as np

from service.registration.contrast import LOOKED_AT_VOXELS, Mapped, Samples, better_mapped
from service.registration.descent import LatticeField, Level, LevelPair, MakeLevel
from service.registration.levels import Levels

# Between contrasts a level is climbed in so many parts, of no fewer steps than these.
PARTS, LEAST_STEPS = 4, 5
BOTH: tuple[Mapped, Mapped] = ("fixed", "moving")


class Sight:
    """The pair on the level that is climbed.

    Where contrasts differ, each part of a level sees one image through a table that is learned
    where the part begins; which image, is told on the coarsest level, and where it does not tell,
    they take turns. Where contrasts are the same, nothing is changed.
    """

    def __init__(self, levels: Levels, evening: float, make_level: MakeLevel = Level) -> None:
        """Nothing is looked at yet; `evening` is for the levels."""
        self._make_level = make_level
        self._levels, self._number = levels, 0
        self._evening = evening
        self._mapped: Mapped | None = None
        self._turn = 0
        self.contrasts_differ = False

    def turn_to(self, number: int, reached: LatticeField) -> None:
        """Look at another level, from where the one before ended."""
        self._number = number
        some = Samples.of(self._pair, reached, most=LOOKED_AT_VOXELS)
        self.contrasts_differ = some.contrasts_differ
        if self.contrasts_differ:
            self._mapped = better_mapped(self._levels.pairs[0], reached)

    @property
    def _pair(self) -> LevelPair:
        return self._levels.pairs[self._number]

    def parts(self, steps: int) -> int:
        """How often the level is seen anew in so many steps."""
        return max(1, min(PARTS, steps // LEAST_STEPS)) if self.contrasts_differ else 1

    def level(self, reached: LatticeField) -> Level:
        """The level, to be climbed from there."""
        if not self.contrasts_differ:
            return self._make_level(self._pair, reached, self._evening)
        mapped = self._mapped or BOTH[self._turn % 2]
        self._turn += 1
        pair = self._levels.matched(self._number, reached, mapped)
        return self._make_level(pair, reached, self._evening)

    def alike(self, field: LatticeField, placed: LatticeField) -> tuple[float, float]:
        """LNCC under a field, over the voxels of `placed`, and what explains of the whole image.

        In the contrast learned under the field, so that each of two is given the table that suits
        it. Without a direction, the mean of both.
        """
        if not self.contrasts_differ:
            pairs = [self._pair]
        else:
            ways = BOTH if self._mapped is None else (self._mapped,)
            pairs = [self._levels.matched(self._number, field, mapped) for mapped in ways]
        likeness = [
            self._make_level(pair, placed, self._evening).similarity_of(field) for pair in pairs
        ]
        explained = [Samples.of(pair, field).squared_correlation for pair in pairs]
        return float(np.mean(likeness)), float(np.mean(explained))
