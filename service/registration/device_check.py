"""Whether a GPU gives what the CPU gives: one small pair, by the network and by refinement."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.registration.descent import Level, MakeLevel
from service.registration.device_level import level_for
from service.registration.engine import Engine
from service.registration.fields import Affine, DisplacementField
from service.registration.grid import Grid
from service.registration.refine import refine
from service.registration.resample import warp
from service.registration.sized_session import SizedSessions
from service.registration.smoothing import smooth
from service.registration.volume import Volume

SEED = 20_261_127
SIZE = (80, 96, 80)  # voxels of 1 mm
SIGMA_VOXELS = 2.0  # of the blobs
BENT_VOXELS = 2.0  # of the waves by which they are moved
# What two fields of one pair may differ by, voxels.
ALIKE = 0.01


@dataclass(frozen=True)
class Apart:
    """The largest difference between the fields of two devices, in voxels."""

    network: float
    refinement: float

    @property
    def are_alike(self) -> bool:
        """Whether both are within 0.01 voxel; a difference that is no number is not."""
        return self.network <= ALIKE and self.refinement <= ALIKE


def apart(
    engine: Engine,
    reference: Engine,
    make_level: MakeLevel | None = None,
    size: Sequence[int] = SIZE,
) -> Apart:
    """Register a pair whose truth is a few waves, with an engine and with one on the CPU.

    Refinement begins from nothing both times, so that a difference between networks is told once.

    Args:
        engine: Where it is; the steps of refinement are there too.
        reference: The same model on the CPU, beside which steps are compiled kernels.
        make_level: Where else steps are made.
        size: Of both images, voxels of 1 mm.

    Raises:
        ProviderUnavailableError: If the device does not do what it is asked to.
        ModelInvalidError: If the model gives no displacement.
    """
    fixed, moving = bent(size)
    still = Affine.identity()
    expected = reference.predict(fixed, moving, still)
    # On a GPU the last time is as what comes often.
    times = 1 + SizedSessions.OFTEN if engine.provider == "cuda" else 1
    found = [engine.predict(fixed, moving, still) for _ in range(times)]
    network = max(_largest(expected, found[0]), _largest(expected, found[-1]))
    start = DisplacementField.zero(fixed.grid)
    refined = [
        refine(fixed, moving, still, start, effort="fast", make_level=way)
        for way in (make_level or level_for(engine), Level)
    ]
    return Apart(network, _largest(*refined))


def bent(size: Sequence[int]) -> tuple[Volume, Volume]:
    """Blobs moved by waves, and the blobs, which are the same each time: voxels of 1 mm."""
    grid = Grid((size[0], size[1], size[2]), np.eye(4))
    noise = np.random.default_rng(SEED).standard_normal(grid.shape)
    moving = smooth(Volume(noise.astype(np.float32), grid), SIGMA_VOXELS)
    phase = [2 * np.pi * at / n for at, n in zip(np.indices(grid.shape), grid.shape, strict=True)]
    waves = BENT_VOXELS * np.stack([np.sin(phase[1]), np.sin(phase[2]), np.sin(phase[0])], axis=-1)
    return warp(moving, DisplacementField(waves.astype(np.float32), grid), grid), moving


def _largest(one: DisplacementField, other: DisplacementField) -> float:
    """The largest component between two fields on one grid, in its voxels' finest spacing."""
    difference = np.abs(one.vectors_mm - other.vectors_mm).max()
    return float(difference / one.grid.spacing_mm.min())
