"""Images, labels and points through a transform of SimpleITK."""

from pathlib import Path
from typing import Any

from benchmarks.comparison.systems.pair import Move, Outcome, Pair


def displacement(path: Path) -> Any:
    """A field that was written for ITK: mm, LPS, on the fixed grid."""
    import SimpleITK

    image = SimpleITK.ReadImage(str(path), SimpleITK.sitkVectorFloat64)
    return SimpleITK.DisplacementFieldTransform(image)


def affine(matrix: Any) -> Any:
    """A 4x4 matrix of RAS millimetres as ITK's transform."""
    import numpy as np
    import SimpleITK

    flip = np.diag([-1.0, -1.0, 1.0, 1.0])
    lps = flip @ np.asarray(matrix, dtype=np.float64) @ flip
    found = SimpleITK.AffineTransform(3)
    found.SetMatrix(lps[:3, :3].ravel().tolist())
    found.SetTranslation(lps[:3, 3].tolist())
    return found


def resampled(fixed: Any, moving: Any, transform: Any, interpolator: Any) -> Any:
    import SimpleITK

    return SimpleITK.Resample(moving, fixed, transform, interpolator, 0.0, moving.GetPixelID())


def delivered(pair: Pair, folder: Path, transform: Any) -> Outcome:
    """Write the warped image and labels of a transform from fixed to moving points."""
    import SimpleITK

    fixed = SimpleITK.ReadImage(str(pair.fixed))
    moving = SimpleITK.ReadImage(str(pair.moving), SimpleITK.sitkFloat32)
    warped = resampled(fixed, moving, transform, SimpleITK.sitkLinear)
    SimpleITK.WriteImage(warped, str(folder / "warped.nii.gz"))
    labels = None
    if pair.moving_labels is not None:
        values = SimpleITK.ReadImage(str(pair.moving_labels), SimpleITK.sitkInt32)
        labels = folder / "labels.nii.gz"
        nearest = resampled(fixed, values, transform, SimpleITK.sitkNearestNeighbor)
        SimpleITK.WriteImage(nearest, str(labels))
    return Outcome(labels, moved_by(transform))


def moved_by(transform: Any) -> Move:
    """Points through a transform, one by one."""

    def move(points: Any) -> Any:
        return [transform.TransformPoint([float(x) for x in point]) for point in points]

    return move
