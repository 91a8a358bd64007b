"""A level whose steps onnxruntime makes, on a GPU: up once, steps there, down once."""

import os
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from service.cores import usable_cores
from service.errors import MissingExtraError
from service.registration.card import Provider
from service.registration.descent import EVENING, LatticeField, Level, LevelPair, MakeLevel
from service.registration.engine import Engine
from service.registration.kernels.descent import EPSILON
from service.registration.kernels.planes import MARGIN
from service.registration.providers import onnxruntime, require_provider, start_session

# One step, from `python -m trainer.refinement_step`, which says what goes in and comes out.
GRAPH: Final = Path(__file__).with_name("refinement_step.onnx")


def level_for(engine: Engine) -> MakeLevel:
    """What makes the levels of a refinement: on a GPU where the network runs on one.

    Raises:
        ProviderUnavailableError: If the engine's provider is not to be had.
    """
    try:
        provider = engine.provider
    except MissingExtraError:  # a network that is spared needs no onnxruntime, nor do the kernels
        return Level
    return partial(DeviceLevel, provider=provider) if provider == "cuda" else Level


class DeviceLevel(Level):
    """As `Level`, which makes it ready; the pair and the field then stay on the device.

    A step gives back one number. The field has two places there, which take turns: a step reads one
    and writes the other.
    """

    def __init__(
        self,
        pair: LevelPair,
        field: LatticeField,
        evening: float = EVENING,
        *,
        provider: Provider = "cuda",
    ) -> None:
        """Bring everything onto the device.

        Raises:
            ProviderUnavailableError: If the device does not start, or lacks a part of a step.
            MissingExtraError: If onnxruntime is not installed.
        """
        super().__init__(pair, field, evening)
        self._session = _session(provider, os.getpid())
        self._where = provider if provider == "cuda" else "cpu"
        self._binding = self._session.io_binding()
        self._pair_there = {name: self._up(x) for name, x in self._inputs().items()}
        for name, value in self._pair_there.items():
            self._binding.bind_ortvalue_input(name, value)
        self._here = self._up(self._as_batch(self._field))
        self._there = onnxruntime().OrtValue.ortvalue_from_shape_and_type(
            self._here.shape(), np.float32, self._where, 0
        )
        del self._fixed, self._masked_fixed, self._mask, self._stats, self._moving
        del self._first, self._second, self._warped

    @property
    def field(self) -> LatticeField:
        """The field as it stands, on the level's grid; brought down from the device."""
        self._field = self._here.numpy().reshape(self._field.shape)
        return super().field

    def similarity_of(self, field: LatticeField) -> float:
        """The same measure, over the same voxels, of another field."""
        return self._run(self._up(self._as_batch(self._in_voxels(field))), 0.0)

    def step(self, step_mm: float) -> float:
        """As `Level.step`."""
        similarity = self._run(self._here, step_mm)
        self._here, self._there = self._there, self._here
        self._similarity = None
        return similarity

    def _measured(self) -> float:
        return self._run(self._here, 0.0)

    def _run(self, field: Any, step_mm: float) -> float:
        """The step from a field, into `_there`; gives the similarity under the field."""
        step = self._up(np.array(step_mm, np.float32))
        self._binding.bind_ortvalue_input("field", field)
        self._binding.bind_ortvalue_input("step_mm", step)
        self._binding.bind_ortvalue_output("next", self._there)
        self._binding.bind_output("similarity", "cpu")
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()
        return float(self._binding.get_outputs()[1].numpy())

    def _up(self, array: np.ndarray) -> Any:
        value = onnxruntime().OrtValue
        return value.ortvalue_from_numpy(np.asarray(array, order="C"), self._where, 0)

    def _as_batch(self, volumes: np.ndarray) -> np.ndarray:
        """(n, 1, i, j, k) on the padded lattice, as the graph takes volumes."""
        return volumes.reshape(-1, 1, *self._padded.shape)

    def _inputs(self) -> dict[str, np.ndarray]:
        """What stays the same in all steps, by the graph's names."""
        volumes = {"fixed": self._fixed, "mask": self._mask, "statistics": self._stats}
        window = np.array([[outer, 1, 1, 1, outer] for outer in self._outer], np.float32)
        return {
            **{name: self._as_batch(volume) for name, volume in volumes.items()},
            "moving": self._moving[None, None],
            **self._places(),
            "acts": self._acts(),
            "force_scale": (self._spacing.min() / self._spacing) ** 2,
            "window": window,
            "force_taps": _both_sides(self._force_taps),
            "field_taps": _both_sides(self._field_taps),
            "spacing_mm": self._spacing,
            "evening": self._even_shares,
            "epsilon": np.array(EPSILON, np.float32),
            "counted": np.array(self._counted, np.float32),
        }

    def _acts(self) -> np.ndarray:
        """0 in the margin along i and j, where the kernels have no force; along k it fades out."""
        acts = np.zeros((1, 1, *self._padded.shape[:2], 1), np.float32)
        acts[:, :, MARGIN:-MARGIN, MARGIN:-MARGIN] = 1
        return acts

    def _places(self) -> dict[str, np.ndarray]:
        """Where voxels lie on the moving lattice, whose first and last centres are -1 and 1."""
        per_voxel = 2 / (np.array(self._lattice.shape) - 1)
        places = {"per_voxel": per_voxel.astype(np.float32)}
        for axis, name in enumerate("ijk"):
            index = self._offset[axis] + np.arange(self._padded.shape[axis])
            places[f"at_{name}"] = (per_voxel[axis] * index - 1).astype(np.float32)
        return places


def _both_sides(taps: np.ndarray) -> np.ndarray:
    """From (middle, next, outermost) five in a row, by axis."""
    return taps[:, [2, 1, 0, 1, 2]]


@cache
def _session(provider: Provider, process: int) -> Any:  # noqa: ARG001  (none outlives a fork)
    """One for all levels of a process, with every node where it was asked for."""
    session = start_session(GRAPH, provider, usable_cores())
    require_provider(session, provider, whole=True)
    return session
