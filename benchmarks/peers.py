"""Warpline beside ANTs and greedy, on the same pairs, from files to files, in one run.

    python -m benchmarks.peers --data ../shared/data --systems warpline,ants-syn

Every system gets two threads, raw native-space images and the moving labels, and writes the
warped image and labels to disk; what is timed is everything between the files. One metric code
scores all: mean Dice over the fixed labels. A system runs warm, as in a worker, or (`-cli`) as a
new process for each pair, from its start to its end. Needs the extra `peers`.

ANTs: `ants.registration(..., "SyN")`, which is affine (Mattes MI) and SyN (MI), all by default;
Avants et al., Symmetric diffeomorphic image registration, 2008. greedy: affine NMI from moments,
then NCC 2x2x2, 100x50x10; Yushkevich et al., 2016.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

THREADS = "2"
for variable in ("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(variable, THREADS)


@dataclass(frozen=True)
class Case:
    """One pair with labels on both sides."""

    name: str
    fixed: Path
    moving: Path
    fixed_labels: Path
    moving_labels: Path


@dataclass(frozen=True)
class Score:
    """What one system reached on one pair."""

    system: str
    case: str
    seconds: float
    mean_dice: float


def cases(data: Path, category: str) -> list[Case]:
    """The pairs of `pairs.csv` of one category that have label maps."""
    with (data / "pairs.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["category"] == category]
    return [
        Case(
            f"{Path(row['fixed']).name.split('.')[0]}<-{Path(row['moving']).name.split('.')[0]}",
            *(data / row[column] for column in ("fixed", "moving", "fixed_ref", "moving_ref")),
        )
        for row in rows
        if row["moving_ref"].endswith(".nii.gz")
    ]


def run_warpline(refine: str) -> Callable[[Case, Path], Path]:
    from service.registration.models_folder import ModelFolder, default_models_dir
    from service.registration.options import RegisterOptions
    from service.registration.pipeline import register_files

    models = ModelFolder(default_models_dir())
    options = RegisterOptions.model_validate({"refine": refine})

    def run(case: Case, folder: Path) -> Path:
        files = {"fixed": case.fixed, "moving": case.moving, "moving_labels": case.moving_labels}
        register_files(files, options, folder, models)
        return folder / "warped_labels.nii.gz"

    return run


def run_warpline_cli(case: Case, folder: Path) -> Path:
    command = [sys.executable, "-m", "service.cli.main", "register", str(case.fixed)]
    command += [str(case.moving), "--moving-labels", str(case.moving_labels)]
    subprocess.run([*command, "--out", str(folder), "--json"], check=True, capture_output=True)
    return folder / "warped_labels.nii.gz"


def run_ants(kind: str) -> Callable[[Case, Path], Path]:
    import ants

    def run(case: Case, folder: Path) -> Path:
        fixed, moving = ants.image_read(str(case.fixed)), ants.image_read(str(case.moving))
        found = ants.registration(fixed, moving, kind)
        ants.image_write(found["warpedmovout"], str(folder / "warped.nii.gz"))
        labels = ants.apply_transforms(
            fixed,
            ants.image_read(str(case.moving_labels)),
            found["fwdtransforms"],
            interpolator="nearestNeighbor",
        )
        ants.image_write(labels, str(folder / "labels.nii.gz"))
        return folder / "labels.nii.gz"

    return run


ANTS_ALONE = """
import sys
from pathlib import Path
from benchmarks.peers import Case, run_ants
fixed, moving, moving_labels, folder = map(Path, sys.argv[1:])
run_ants("SyN")(Case("pair", fixed, moving, fixed, moving_labels), folder)
"""


def run_ants_cli(case: Case, folder: Path) -> Path:
    files = (case.fixed, case.moving, case.moving_labels, folder)
    command = [sys.executable, "-c", ANTS_ALONE, *map(str, files)]
    subprocess.run(command, check=True, capture_output=True)
    return folder / "labels.nii.gz"


@contextmanager
def silent() -> Iterator[None]:
    """greedy reports each iteration on the process's own standard output."""
    kept = os.dup(1)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def run_greedy(case: Case, folder: Path) -> Path:
    from picsl_greedy import Greedy3D

    greedy = Greedy3D()
    pair = f"-i {case.fixed} {case.moving} -threads {THREADS}"
    affine, field = folder / "affine.mat", folder / "warp.nii.gz"
    with silent():
        greedy.execute(f"{pair} -a -dof 12 -m NMI -ia-image-centers -n 100x50x10 -o {affine}")
        greedy.execute(f"{pair} -m NCC 2x2x2 -n 100x50x10 -it {affine} -o {field}")
        greedy.execute(
            f"-rf {case.fixed} -rm {case.moving} {folder / 'warped.nii.gz'} -ri NN "
            f"-rm {case.moving_labels} {folder / 'labels.nii.gz'} -r {field} {affine}"
        )
    return folder / "labels.nii.gz"


SYSTEMS: dict[str, Callable[[], Callable[[Case, Path], Path]]] = {
    "warpline": lambda: run_warpline("fast"),
    "warpline-none": lambda: run_warpline("none"),
    "warpline-best": lambda: run_warpline("best"),
    "warpline-cli": lambda: run_warpline_cli,
    "ants-syn": lambda: run_ants("SyN"),
    "ants-syn-cli": lambda: run_ants_cli,
    "ants-synquick": lambda: run_ants("antsRegistrationSyNQuick[s]"),
    "greedy": lambda: run_greedy,
}


def mean_dice(fixed_labels: Path, warped_labels: Path) -> float:
    """Mean over the fixed image's labels; nibabel and numpy only, the same code for all."""
    import nibabel
    import numpy as np

    fixed = np.asanyarray(nibabel.load(fixed_labels).dataobj).astype(np.int64).ravel()
    warped = np.rint(nibabel.load(warped_labels).get_fdata()).astype(np.int64).ravel()
    size = int(max(fixed.max(), warped.max())) + 1
    both = np.bincount(fixed[fixed == warped], minlength=size)
    sizes = np.bincount(fixed, minlength=size), np.bincount(warped, minlength=size)
    labels = [label for label in np.unique(fixed) if label != 0]
    return float(np.mean([2 * both[n] / (sizes[0][n] + sizes[1][n]) for n in labels]))


def score(system: str, run: Callable[[Case, Path], Path], case: Case) -> Score:
    """Run one system on one pair."""
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        warped_labels = run(case, Path(folder))
        seconds = time.perf_counter() - started
        return Score(system, case.name, seconds, mean_dice(case.fixed_labels, warped_labels))


def table(scores: list[Score]) -> str:
    """Rows of pairs, then medians and how often faster than the slowest-named peer."""
    lines = ["| system | pair | seconds | mean Dice |", "|---|---|---:|---:|"]
    lines += [f"| {s.system} | {s.case} | {s.seconds:.2f} | {s.mean_dice:.4f} |" for s in scores]
    lines += ["", "| system | median seconds | median Dice |", "|---|---:|---:|"]
    for system in dict.fromkeys(s.system for s in scores):
        own = [s for s in scores if s.system == system]
        seconds = statistics.median(s.seconds for s in own)
        dice = statistics.median(s.mean_dice for s in own)
        lines.append(f"| {system} | {seconds:.2f} | {dice:.4f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with pairs.csv")
    parser.add_argument("--category", default="brain_malf35")
    parser.add_argument("--systems", default="warpline,warpline-cli,ants-syn,greedy")
    parser.add_argument("--json", type=Path, help="write the scores here, too")
    chosen = parser.parse_args()
    pairs = cases(chosen.data, chosen.category)
    scores = []
    for name in chosen.systems.split(","):
        run = SYSTEMS[name]()
        score(name, run, pairs[0])  # warm up: compilers, caches, thread pools
        for case in pairs:
            scores.append(score(name, run, case))
            print(scores[-1], file=sys.stderr, flush=True)
    print(table(scores))
    if chosen.json:
        chosen.json.write_text(json.dumps([vars(s) for s in scores], indent=1))


if __name__ == "__main__":
    main()
