"""How much of what the fixed image shows is there in the moving one, by the affine alone."""

from dataclasses import dataclass

import numpy as np

from service.registration.fields import Affine
from service.registration.scouted import Scouted
from service.registration.smoothing import box_mean
from service.registration.volume import Volume

# A window with more than this share of the whole image's variance shows something; one with less
# than the second is blank.
STRUCTURE, BLANK = 1e-2, 1e-5


@dataclass(frozen=True)
class Coverage:
    """Shares of the places where the fixed image shows something.

    `in_view` lies in the moving field of view; `met` lies where the moving image is not blank.
    """

    in_view: float
    met: float


def coverage(fixed: Scouted, moving: Scouted, affine: Affine) -> Coverage | None:
    """Where the affine takes what the fixed image shows; None where either shows nothing.

    A deformation is left out: it would stretch what is left of an image over what is missing.
    Windows of three voxels, at about 28 voxels along each image's longest side.
    """
    if not (fixed.has_contrast and moving.has_contrast):
        return None
    here, there = fixed.levels[0], moving.levels[0]
    index = np.argwhere(_variance(here) > STRUCTURE)
    if not len(index):
        return None
    moved = affine.move(here.grid.to_world(index))
    in_view = moving.grid.contains(moved)
    nearest = np.rint(there.grid.to_voxel(moved)).astype(int)
    nearest = np.clip(nearest, 0, np.array(there.grid.shape) - 1)
    met = in_view & (_variance(there)[tuple(nearest.T)] > BLANK)
    return Coverage(float(in_view.mean()), float(met.mean()))


def _variance(volume: Volume) -> np.ndarray:
    """Of each window, as a share of the whole image's."""
    data = volume.data - volume.data.mean(dtype=np.float64)
    spread = float(data.std())
    values = np.asarray(data / (spread if spread > 0 else 1.0), np.float32)
    mean = box_mean(values, 1)
    return np.asarray(box_mean(values * values, 1) - mean * mean)
