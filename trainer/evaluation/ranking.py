"""Which pairs went worst and best; only their results are kept on disk."""

import math
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

# The first of these that a pair has ranks it; large is good where True.
RANKED_BY = (("dice", True), ("tre_mm", False), ("centroid_mm", False), ("ncc", True))
LONGEST_NAME = 80


class Ranking:
    """Folders of results, of which the `shown` worst and best stay."""

    def __init__(self, folder: Path, shown: int) -> None:
        """Start with none; results of an earlier evaluation in the folder are deleted."""
        shutil.rmtree(folder, ignore_errors=True)
        self.folder, self.shown = folder, shown
        self._scores: dict[str, float] = {}
        self._folders: dict[str, Path] = {}

    def folder_of(self, name: str) -> Path:
        """Where a pair's result goes; numbered, since names may hold what folders may not."""
        if name not in self._folders:
            plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")[:LONGEST_NAME]
            self._folders[name] = self.folder / f"{len(self._folders) + 1:04d}-{plain}"
        return self._folders[name]

    def add(self, name: str, figures: Mapping[str, float]) -> None:
        """Rank a pair, and delete what is neither among the worst nor the best any more."""
        self._scores[name] = score_of(figures)
        kept = {*self.worst, *self.best}
        for other in self._scores:
            if other not in kept:
                self.drop(other)

    def drop(self, name: str) -> None:
        """Delete a pair's result."""
        shutil.rmtree(self.folder_of(name), ignore_errors=True)

    def settle(self) -> None:
        """Where nothing is shown, no folder stays."""
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    @property
    def worst(self) -> list[str]:
        """Names, worst first."""
        return self._order()[: self.shown]

    @property
    def best(self) -> list[str]:
        """Names, best first; none that is among the worst."""
        order = self._order()
        return order[self.shown :][::-1][: self.shown]

    def _order(self) -> list[str]:
        return sorted(self._scores, key=lambda name: self._scores[name])


def score_of(figures: Mapping[str, float]) -> float:
    """Large is good: Dice, or else TRE, the labels' centroids, correlation."""
    for metric, is_large_good in RANKED_BY:
        value = figures.get(metric, math.nan)
        if math.isfinite(value):
            return value if is_large_good else -value
    return -math.inf
