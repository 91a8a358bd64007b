"""The images of a climb at its spacings, and from once finer than its finest one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from service.registration.contrast import Mapped, matched
from service.registration.descent import LatticeField, LevelPair
from service.registration.pyramid import coarser, even
from service.registration.volume import Volume

# The moving image is brought to this share of the level's spacing before it is interpolated, which
# blurs it by the rest.
MOVING_SHARE = 0.7


def fixed_levels(fixed: Volume, spacings: Sequence[float]) -> list[Volume]:
    """The fixed volume at each spacing, evenly along its axes, coarse to fine."""
    return _coarsened(even(fixed, spacings[-1]), spacings[:-1])


def moving_levels(moving: Volume, spacings: Sequence[float]) -> list[Volume]:
    """The moving volume, blurred as far as a fixed one at each spacing needs it to be."""
    shares = [MOVING_SHARE * spacing for spacing in spacings]
    return _coarsened(coarser(moving, shares[-1]), shares[:-1])


def _coarsened(finest: Volume, spacings: Sequence[float]) -> list[Volume]:
    """The volume at coarser spacings, coarse to fine, each from the next finer one; then itself."""
    levels = [finest]
    for spacing in spacings[::-1]:
        levels.append(coarser(levels[-1], spacing))
    return levels[::-1]


@dataclass(frozen=True, eq=False)
class Levels:
    """Pairs from coarse to fine with their spacings in mm, and the pair that they are made of.

    What is put through a curve of grey values must be fine: the mean of what a coarse voxel holds
    comes out as another value than the mean of what comes out.
    """

    pairs: Sequence[LevelPair]
    spacings: Sequence[float]
    whole: LevelPair

    @cached_property
    def _finer(self) -> LevelPair:
        """The pair at half of the finest spacing, at most."""
        spacing = self.spacings[-1] / 2
        fixed = coarser(self.whole.fixed, spacing)
        moving = coarser(self.whole.moving, MOVING_SHARE * spacing)
        return replace(self.whole, fixed=fixed, moving=moving)

    def matched(self, number: int, field: LatticeField, mapped: Mapped) -> LevelPair:
        """A level with one image in the contrast of the other, see `contrast.matched`."""
        pair, seen, spacings = self.pairs[number], self._finer, self.spacings[number:]
        found = matched(seen, field, mapped)
        if found is seen:
            return pair
        if mapped == "fixed":
            return replace(pair, fixed=fixed_levels(found.fixed, spacings)[0])
        return replace(pair, moving=moving_levels(found.moving, spacings)[0])
