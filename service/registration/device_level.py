"""A level whose steps onnxruntime makes, on a GPU: up once, steps there, down once.

A step writes its length to its place, runs, and reads one number; see `device_places`.
"""

from functools import partial
from typing import Final

import numpy as np

from service.errors import MissingExtraError
from service.registration.axis_matrices import band, blurring, extended, slope
from service.registration.card import Provider
from service.registration.descent import EVENING, LatticeField, Level, LevelPair, MakeLevel
from service.registration.device_places import Taken
from service.registration.engine import Engine
from service.registration.kernels.descent import EPSILON
from service.registration.kernels.planes import MARGIN

# Its linear operations along an axis, and to how many components each is applied.
MATRICES: Final = {
    "window": 3,
    "uphill": 1,
    "force": 3,
    "keep": 3,
    "slope": 3,
    "blur": 1,
    "even": 1,
}
# A larger lattice's kernels outlast their launches. On an H200 a captured step of 600,000 voxels
# takes four fifths of the time, one of 20,000 a quarter.
CAPTURED_VOXELS = 1_000_000


def level_for(engine: Engine) -> MakeLevel:
    """What makes the levels of a refinement: on a GPU where the network runs on one.

    Raises:
        ProviderUnavailableError: If the engine's provider is not to be had.
    """
    try:
        provider = engine.provider
    except MissingExtraError:  # a network that is spared needs no onnxruntime, nor do the kernels
        return Level
    if provider != "cuda":
        return Level
    captured = CAPTURED_VOXELS if engine.cuda_graphs else 0
    return partial(DeviceLevel, provider=provider, captured_voxels=captured)


class DeviceLevel(Level):
    """As `Level`, which makes it ready; the pair and the field then stay on the device."""

    # So that the lattices of two pairs, which reach more or less far, have one shape more often.
    MOVING_MULTIPLE = 16

    def __init__(
        self,
        pair: LevelPair,
        field: LatticeField,
        evening: float = EVENING,
        *,
        provider: Provider = "cuda",
        captured_voxels: int = 0,
    ) -> None:
        """Bring everything onto the device.

        Args:
            pair: See `Level`.
            field: See `Level`.
            evening: See `Level`.
            provider: Where the steps run.
            captured_voxels: The largest lattice whose steps become CUDA graphs. Only where nothing
                else of the process uses the GPU meanwhile: a capture fails by it.

        Raises:
            ProviderUnavailableError: If the device does not start, or lacks a part of a step.
            MissingExtraError: If onnxruntime is not installed.
        """
        super().__init__(pair, field, evening)
        is_captured = self._padded.voxel_count <= captured_voxels
        self._taken = Taken(self._inputs(), provider, is_captured=is_captured)
        del self._fixed, self._masked_fixed, self._mask, self._stats, self._moving
        del self._first, self._second, self._warped

    @property
    def field(self) -> LatticeField:
        """The field as it stands, on the level's grid; brought down from the device."""
        self._field = self._taken.places.field.reshape(self._field.shape)
        return super().field

    def similarity_of(self, field: LatticeField) -> float:
        """The same measure, over the same voxels, of another field."""
        return self._taken.places.similarity_of(self._as_components(self._in_voxels(field)))

    def step(self, step_mm: float) -> float:
        """As `Level.step`."""
        self._similarity = None
        return self._taken.places.step(step_mm)

    def _measured(self) -> float:
        return self._taken.places.similarity()

    def _as_components(self, field: np.ndarray) -> np.ndarray:
        """(3, i, j, k) on the padded lattice."""
        return field.reshape(3, *self._padded.shape)

    def _inputs(self) -> dict[str, np.ndarray]:
        """What stays the same in all steps, by the graph's names."""
        inverse, mean, variance = self._stats
        volumes = {
            "fixed": self._fixed,
            "mask": self._mask,
            "inverse": inverse,
            "mean": mean,
            "variance": np.maximum(variance, np.float32(EPSILON)),  # in parts of the margin it is 0
        }
        return {
            **{name: x.reshape(1, *self._padded.shape) for name, x in volumes.items()},
            "field": self._as_components(self._field),
            "moving": self._moving[None, None],
            **self._places(),
            **self._matrices(),
            "spacing_mm": self._spacing.reshape(3, 1, 1, 1),
            "epsilon": np.array(EPSILON, np.float32),
            "counted": np.array(self._counted, np.float32),
        }

    def _places(self) -> dict[str, np.ndarray]:
        """Where voxels lie on the moving lattice, whose first and last centres are -1 and 1.

        As GridSample has it, from the last axis to the first.
        """
        per_voxel = 2 / (np.array(self._lattice.shape) - 1)
        at_i, at_j, at_k = (
            per_voxel[axis] * (self._offset[axis] + np.arange(n)) - 1
            for axis, n in enumerate(self._padded.shape)
        )
        plane = np.stack(np.broadcast_arrays(0, at_j, at_i[:, None]), axis=-1)
        row = np.stack(np.broadcast_arrays(at_k, 0, 0), axis=-1)
        return {
            "at_plane": plane[None, :, :, None].astype(np.float32),
            "at_row": row[None, None, None].astype(np.float32),
            "per_voxel": np.diag(per_voxel)[:, ::-1].astype(np.float32),
        }

    def _matrices(self) -> dict[str, np.ndarray]:
        """The linear operations of a step along each axis; see `trainer.refinement_step.Along`."""
        force_scale = (self._spacing.min() / self._spacing) ** 2
        found: dict[str, np.ndarray] = {}
        for axis, n in enumerate(self._padded.shape):
            outer = np.float32(self._outer[axis])
            blur = blurring(n)
            force = band(n, self._force_taps[axis])
            if axis < 2:  # in the margin along i and j the kernels have none; along k it fades out
                force[:MARGIN] = force[-MARGIN:] = 0
            along = {
                "window": band(n, (np.float32(1), np.float32(1), outer)),
                "uphill": force_scale[axis] * slope(n),
                "force": force,
                "keep": extended(band(n, self._field_taps[axis])),
                "slope": slope(n),
                "blur": extended(blur),
                "even": self._even_shares[axis] * extended(slope(n) @ blur),
            }
            for name, matrix in along.items():
                count = MATRICES[name]
                found[f"{name}_{'ijk'[axis]}"] = matrix.T if axis else np.stack([matrix] * count)
        return found
