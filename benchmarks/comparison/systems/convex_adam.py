"""ConvexAdam with its defaults (MIND), after greedy's affine: it has none of its own.

The moving image is resampled onto the fixed grid by the affine first, as ConvexAdam needs it.

Source: Siebert et al., Fast 3D registration with accurate optimisation and little learning, 2021.
"""

from pathlib import Path
from typing import Any

from benchmarks.comparison.systems.fields import affine as as_itk
from benchmarks.comparison.systems.fields import delivered, resampled
from benchmarks.comparison.systems.greedy import find_affine, read_matrix
from benchmarks.comparison.systems.pair import Outcome, Pair, Run


def after_affine() -> Run:
    import SimpleITK
    from convexAdam.convex_adam_MIND import convex_adam_pt
    from picsl_greedy import Greedy3D

    def run(pair: Pair, folder: Path) -> Outcome:
        found = as_itk(read_matrix(find_affine(Greedy3D(), pair, folder)))
        fixed, moving = (
            SimpleITK.ReadImage(str(file), SimpleITK.sitkFloat32)
            for file in (pair.fixed, pair.moving)
        )
        near = resampled(fixed, moving, found, SimpleITK.sitkLinear)
        voxels = convex_adam_pt(fixed, near)
        whole = SimpleITK.CompositeTransform([found, _transform(voxels, fixed)])
        return delivered(pair, folder, whole)

    return run


def _transform(voxels: Any, fixed: Any) -> Any:
    """Displacement in voxels (k, j, i, 3), axes in this order, as ITK's in mm."""
    import numpy as np
    import SimpleITK

    along = np.array(fixed.GetDirection()).reshape(3, 3) * np.array(fixed.GetSpacing())
    millimetres = np.asarray(voxels, dtype=np.float64)[..., ::-1] @ along.T
    field = SimpleITK.GetImageFromArray(millimetres, isVector=True)
    field.CopyInformation(fixed)
    return SimpleITK.DisplacementFieldTransform(field)
