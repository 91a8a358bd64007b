"""A level whose steps onnxruntime makes, on a GPU: up once, steps there, down once.

Everything lies at fixed places there, bound once for each level: a step writes its length to its
place, runs, and reads one number. That is also what a CUDA graph asks for, which plays a whole step
again as one launch. A graph knows addresses alone, so each has a number of its own in the life of a
process: another level's places get another graph. onnxruntime captures one when a step first runs
under its number, after running it twice to warm up; no output is an input, so that does no harm.
"""

import os
from functools import lru_cache, partial
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

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
# A larger lattice's kernels outlast their launches, and its few steps do not repay a capture. By
# the numbers of data sheets (5 us a launch, 2 TB/s); not measured.
CAPTURED_VOXELS = 500_000
# A session keeps its graphs as long as it lives; after so many levels a new one takes over.
LEVELS_A_SESSION = 100
NOT_CAPTURED = -1

_levels, _graphs = count(), count()


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


class Turn(NamedTuple):
    """A step bound from one place of the field to the other, and how it is told to run."""

    start: Any
    binding: Any
    options: Any


class DeviceLevel(Level):
    """As `Level`, which makes it ready; the pair and the field then stay on the device.

    The field has two places there, which take turns: a step reads one and writes the other.
    """

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
        number = next(_levels) // LEVELS_A_SESSION if is_captured else 0
        self._session = _session(provider, os.getpid(), is_captured=is_captured, number=number)
        self._where = provider if provider == "cuda" else "cpu"
        self._pair_there = {name: self._up(x) for name, x in self._inputs().items()}
        self._step_mm, self._measure = (self._up(np.zeros((), np.float32)) for _ in range(2))
        places = [self._up(self._as_batch(self._field)) for _ in range(2)]
        self._here, self._there = (
            self._turn(start, end, next(_graphs) if is_captured else NOT_CAPTURED)
            for start, end in (places, places[::-1])
        )
        self._once = _told(NOT_CAPTURED)
        del self._fixed, self._masked_fixed, self._mask, self._stats, self._moving
        del self._first, self._second, self._warped

    @property
    def field(self) -> LatticeField:
        """The field as it stands, on the level's grid; brought down from the device."""
        self._field = self._here.start.numpy().reshape(self._field.shape)
        return super().field

    def similarity_of(self, field: LatticeField) -> float:
        """The same measure, over the same voxels, of another field."""
        other = self._up(self._as_batch(self._in_voxels(field)))
        return self._run(self._turn(other, self._there.start, NOT_CAPTURED))

    def step(self, step_mm: float) -> float:
        """As `Level.step`."""
        self._step_mm.update_inplace(np.array(step_mm, np.float32))
        similarity = self._run(self._here)
        self._here, self._there = self._there, self._here
        self._similarity = None
        return similarity

    def _measured(self) -> float:
        return self._run(self._here._replace(options=self._once))

    def _turn(self, start: Any, end: Any, graph: int) -> Turn:
        """A step from a place to another, bound, under the number of a CUDA graph."""
        binding = self._session.io_binding()
        there = {**self._pair_there, "field": start, "step_mm": self._step_mm}
        for name, value in there.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_ortvalue_output("next", end)
        binding.bind_ortvalue_output("similarity", self._measure)
        return Turn(start, binding, _told(graph))

    def _run(self, turn: Turn) -> float:
        """A step; gives the similarity before it."""
        self._session.run_with_iobinding(turn.binding, turn.options)
        turn.binding.synchronize_outputs()
        return float(self._measure.numpy())

    def _up(self, array: np.ndarray) -> Any:
        """A place on the device with the array in it."""
        there = onnxruntime().OrtValue.ortvalue_from_shape_and_type(
            array.shape, np.float32, self._where, 0
        )
        there.update_inplace(np.asarray(array, order="C"))
        return there

    def _as_batch(self, volumes: np.ndarray) -> np.ndarray:
        """(n, 1, i, j, k) on the padded lattice, as the graph takes volumes."""
        return volumes.reshape(-1, 1, *self._padded.shape)

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
        by_axis = {
            "force_scale": (self._spacing.min() / self._spacing) ** 2,
            "spacing_mm": self._spacing,
            "evening": self._even_shares,
        }
        window = np.array([[outer, 1, 1, 1, outer] for outer in self._outer], np.float32)
        return {
            **{name: self._as_batch(volume) for name, volume in volumes.items()},
            "moving": self._moving[None, None],
            **self._places(),
            "acts": self._acts(),
            **{name: _by_axis(values) for name, values in by_axis.items()},
            **_along("window", window),
            **_along("force_taps", _both_sides(self._force_taps)),
            **_along("field_taps", _both_sides(self._field_taps)),
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
        places = {"per_voxel": _by_axis(per_voxel.astype(np.float32))}
        for axis, name in enumerate("ijk"):
            index = self._offset[axis] + np.arange(self._padded.shape[axis])
            at = (per_voxel[axis] * index - 1).astype(np.float32)
            places[f"at_{name}"] = at.reshape(1, *_only_along(axis, at.size))
        return places


def _by_axis(values: np.ndarray) -> np.ndarray:
    """A number for each component of a field."""
    return values.reshape(3, 1, 1, 1, 1)


def _along(name: str, taps: np.ndarray) -> dict[str, np.ndarray]:
    """Five in a row for each axis, as filters along it."""
    return {
        f"{name}_{axis}": taps[n].reshape(1, 1, *_only_along(n, 5)) for n, axis in enumerate("ijk")
    }


def _only_along(axis: int, size: int) -> tuple[int, ...]:
    return tuple(size if a == axis else 1 for a in range(3))


def _both_sides(taps: np.ndarray) -> np.ndarray:
    """From (middle, next, outermost) five in a row, by axis."""
    return taps[:, [2, 1, 0, 1, 2]]


def _told(graph: int) -> Any:
    """Run options that name a CUDA graph; a provider without them takes no notice."""
    options = onnxruntime().RunOptions()
    options.add_run_config_entry("gpu_graph_id", str(graph))
    return options


@lru_cache(maxsize=2)
def _session(provider: Provider, process: int, *, is_captured: bool, number: int) -> Any:  # noqa: ARG001
    """One for many levels, with every node where it was asked for; none outlives a fork."""
    session = start_session(GRAPH, provider, usable_cores(), cuda_graphs=is_captured)
    require_provider(session, provider, whole=True)
    return session
