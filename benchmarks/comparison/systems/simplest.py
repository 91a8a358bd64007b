"""No registration at all: what the headers say."""

from pathlib import Path

from benchmarks.comparison.systems.fields import delivered
from benchmarks.comparison.systems.pair import Outcome, Pair, Run


def identity() -> Run:
    import SimpleITK

    def run(pair: Pair, folder: Path) -> Outcome:
        return delivered(pair, folder, SimpleITK.Transform(3, SimpleITK.sitkIdentity))

    return run
