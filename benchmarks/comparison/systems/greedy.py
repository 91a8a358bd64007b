"""greedy: affine by mutual information from image centres, then correlation 2x2x2, 100x50x10.

Source: Yushkevich et al., Fast automatic segmentation of hippocampal subfields, 2016; the settings
are those of its documentation's quick start. On images of 40 voxels a side the coarser levels have
too little left and the affine flies off: for these there is one level alone.
"""

from pathlib import Path
from typing import Any

from benchmarks.comparison.systems.fields import affine as as_itk
from benchmarks.comparison.systems.fields import delivered, displacement, moved_by
from benchmarks.comparison.systems.pair import Outcome, Pair, Run

THREADS = 2
LEVELS = "100x50x10"


def deformable(levels: str = LEVELS) -> Run:
    from picsl_greedy import Greedy3D

    def run(pair: Pair, folder: Path) -> Outcome:
        greedy = Greedy3D()
        affine, field = find_affine(greedy, pair, folder, levels), folder / "warp.nii.gz"
        greedy.execute(f"{_images(pair)} -m NCC 2x2x2 -n {levels} -it {affine} -o {field}")
        line = f"-rf {pair.fixed} -rm {pair.moving} {folder / 'warped.nii.gz'}"
        labels = None if pair.moving_labels is None else folder / "labels.nii.gz"
        if labels is not None:
            line += f" -ri NN -rm {pair.moving_labels} {labels}"
        greedy.execute(f"{line} -r {field} {affine}")

        def move(points: Any) -> Any:
            whole = folder / "composite.nii.gz"
            greedy.execute(f"-rf {pair.fixed} -rc {whole} -r {field} {affine}")
            return moved_by(displacement(whole))(points)

        return Outcome(labels, move)

    return run


def affine_alone() -> Run:
    from picsl_greedy import Greedy3D

    def run(pair: Pair, folder: Path) -> Outcome:
        found = find_affine(Greedy3D(), pair, folder)
        return delivered(pair, folder, as_itk(read_matrix(found)))

    return run


def find_affine(greedy: Any, pair: Pair, folder: Path, levels: str = LEVELS) -> Path:
    """The affine stage, also of others that have none."""
    found = folder / "affine.mat"
    greedy.execute(f"{_images(pair)} -a -dof 12 -m NMI -ia-image-centers -n {levels} -o {found}")
    return found


def read_matrix(path: Path) -> Any:
    """RAS mm, from fixed to moving points."""
    return [[float(x) for x in line.split()] for line in path.read_text().splitlines() if line]


def _images(pair: Pair) -> str:
    return f"-i {pair.fixed} {pair.moving} -threads {THREADS}"
