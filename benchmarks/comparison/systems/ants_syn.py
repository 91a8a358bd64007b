"""ANTs by antspyx, all by default but for the kind of transform.

`SyN` is an affine by Mattes' mutual information, then SyN by the same; `SyNCC` is SyN by local
correlation after three affine stages, up to 1200 steps on a level, which takes hours on a brain;
`by_correlation` is SyN with the steps of its default. SyNQuick[s] has the settings of ANTs' script
of that name.
The log tells each step, so that one which is stopped shows how far it came.

Source: Avants et al., Symmetric diffeomorphic image registration, 2008.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.comparison.systems.pair import Outcome, Pair, Run

ROOT = Path(__file__).resolve().parents[3]


def kind(name: str, **more: Any) -> Run:
    """`ants.registration` with this `type_of_transform`, and what else it is told."""
    import ants

    def run(pair: Pair, folder: Path) -> Outcome:
        fixed, moving = ants.image_read(str(pair.fixed)), ants.image_read(str(pair.moving))
        found = ants.registration(
            fixed, moving, name, outprefix=str(folder / "ants_"), verbose=True, **more
        )
        ants.image_write(found["warpedmovout"], str(folder / "warped.nii.gz"))
        transforms = found["fwdtransforms"]
        labels = None if pair.moving_labels is None else folder / "labels.nii.gz"
        if labels is not None:
            values = ants.image_read(str(pair.moving_labels))
            warped = ants.apply_transforms(
                fixed, values, transforms, interpolator="nearestNeighbor"
            )
            ants.image_write(warped, str(labels))
        return Outcome(labels, lambda points: _moved(points, transforms))

    return run


def by_correlation() -> Run:
    """SyN by the correlation of windows of nine voxels, as in the paper."""
    return kind("SyN", syn_metric="CC", syn_sampling=4)


def _moved(points: Any, transforms: list[str]) -> Any:
    """ANTs moves points by the transforms that resample images the other way round."""
    import ants
    import pandas

    frame = pandas.DataFrame(points, columns=["x", "y", "z"])
    return ants.apply_transforms_to_points(3, frame, transforms)[["x", "y", "z"]].to_numpy()


ALONE = """
import sys
from pathlib import Path
from benchmarks.comparison.systems.ants_syn import kind
from benchmarks.comparison.systems.pair import Pair
fixed, moving, labels, folder = map(Path, sys.argv[1:])
kind("SyN")(Pair(fixed, moving, labels), folder)
"""


def new_process() -> Run:
    """SyN from the start to the end of a Python of its own; for pairs with labels."""

    def run(pair: Pair, folder: Path) -> Outcome:
        assert pair.moving_labels is not None
        files = [pair.fixed, pair.moving, pair.moving_labels, folder]
        command = [sys.executable, "-c", ALONE, *(str(file.resolve()) for file in files)]
        subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
        return Outcome(folder / "labels.nii.gz", None)

    return run
