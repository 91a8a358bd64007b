"""Warpline, warm as in a worker, or as a command of its own."""

import subprocess
import sys
from pathlib import Path

from benchmarks.comparison.systems.fields import affine as as_itk
from benchmarks.comparison.systems.fields import delivered, displacement, moved_by
from benchmarks.comparison.systems.pair import Outcome, Pair, Run

THREADS = 2


def pipeline(refine: str) -> Run:
    """The whole of what a worker does: fields, report and pictures, too."""
    from service.registration.models_folder import ModelFolder, default_models_dir
    from service.registration.options import RegisterOptions
    from service.registration.pipeline import register_files

    models = ModelFolder(default_models_dir(), threads=THREADS)
    options = RegisterOptions.model_validate({"refine": refine})

    def run(pair: Pair, folder: Path) -> Outcome:
        files = {"fixed": pair.fixed, "moving": pair.moving}
        if pair.moving_labels is not None:
            files["moving_labels"] = pair.moving_labels
        register_files(files, options, folder, models)
        return _outcome(pair, folder)

    return run


def command() -> Run:
    """`warpline register`, from its start to its end."""

    def run(pair: Pair, folder: Path) -> Outcome:
        line = [sys.executable, "-m", "service.cli.main", "register", str(pair.fixed)]
        line += [str(pair.moving), "--out", str(folder), "--json"]
        if pair.moving_labels is not None:
            line += ["--moving-labels", str(pair.moving_labels)]
        subprocess.run(line, check=True, capture_output=True)
        return _outcome(pair, folder)

    return run


def affine() -> Run:
    """The affine stage alone."""
    from service.registration.files.limits import Limits
    from service.registration.files.volume_file import read_volume
    from service.registration.initialise import initialise

    def run(pair: Pair, folder: Path) -> Outcome:
        limits = Limits()
        fixed = read_volume(pair.fixed, limits, "fixed")
        moving = read_volume(pair.moving, limits, "moving")
        return delivered(pair, folder, as_itk(initialise(fixed, moving, "affine").matrix))

    return run


def _outcome(pair: Pair, folder: Path) -> Outcome:
    """Labels and field as delivered; points go through ITK, as another's would."""

    def move(points: object) -> object:
        return moved_by(displacement(folder / "ddf.nii.gz"))(points)

    labels = None if pair.moving_labels is None else folder / "warped_labels.nii.gz"
    return Outcome(labels, move)
