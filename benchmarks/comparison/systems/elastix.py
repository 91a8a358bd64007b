"""elastix by itk-elastix: its default maps of parameters, translation, affine, B-spline.

Source: Klein et al., elastix: a toolbox for intensity-based medical image registration, 2010; the
maps are those of ITKElastix's examples. Threads are set by ITK's variable of the environment: with
the argument `number_of_threads` a map of several metrics crashes (ITKElastix, issue 160).
"""

from pathlib import Path
from typing import Any

from benchmarks.comparison.systems.pair import Outcome, Pair, Run

STAGES = ("translation", "affine", "bspline")


def defaults() -> Run:
    import itk

    def run(pair: Pair, folder: Path) -> Outcome:
        maps = itk.ParameterObject.New()
        for stage in STAGES:
            maps.AddParameterMap(maps.GetDefaultParameterMap(stage))
        fixed, moving = (itk.imread(str(file), itk.F) for file in (pair.fixed, pair.moving))
        warped, found = itk.elastix_registration_method(
            fixed, moving, parameter_object=maps, log_to_console=False
        )
        itk.imwrite(warped, str(folder / "warped.nii.gz"))
        labels = None if pair.moving_labels is None else _labels(pair.moving_labels, found, folder)
        return Outcome(labels, lambda points: _moved(points, moving, found, folder))

    return run


def _labels(moving_labels: Path, found: Any, folder: Path) -> Path:
    import itk

    nearest = itk.ParameterObject.New()
    for index in range(found.GetNumberOfParameterMaps()):
        stage = found.GetParameterMap(index)
        stage["FinalBSplineInterpolationOrder"] = ("0",)
        nearest.AddParameterMap(stage)
    values = itk.imread(str(moving_labels), itk.F)
    warped = itk.transformix_filter(values, nearest, log_to_console=False)
    itk.imwrite(warped, str(folder / "labels.nii.gz"))
    return folder / "labels.nii.gz"


def _moved(points: Any, moving: Any, found: Any, folder: Path) -> Any:
    """Points by files, as transformix has it."""
    import itk

    listed = folder / "points.txt"
    lines = [" ".join(str(float(x)) for x in point) for point in points]
    listed.write_text("\n".join(["point", str(len(lines)), *lines]) + "\n")
    itk.transformix_pointset(
        moving,
        found,
        fixed_point_set_file_name=str(listed),
        output_directory=str(folder),
        log_to_console=False,
    )
    text = (folder / "outputpoints.txt").read_text().splitlines()
    places = [line.split("OutputPoint = [")[1].split("]")[0] for line in text if line]
    return [[float(x) for x in place.split()] for place in places]
