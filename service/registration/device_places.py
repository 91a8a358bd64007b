"""Where the steps of refinement find and leave things on a device: bound once, and used again.

A step reads one place of the field and writes the other, in turns; no output is an input. A CUDA
graph, which plays a whole step again as one launch, asks for that, for it knows addresses alone.
onnxruntime captures one when a step first runs under its number, after running it twice to warm up,
which takes as long as ten steps. So places whose steps are captured outlive their level and serve
the next one of these shapes.
"""

import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from service.cores import usable_cores
from service.registration.card import Provider
from service.registration.providers import onnxruntime, require_provider, start_session

# One step, from `python -m trainer.refinement_step`, which says what goes in and comes out.
GRAPH: Final = Path(__file__).with_name("refinement_step.onnx")
# A session keeps its graphs as long as it lives; after so many places a new one takes over.
PLACES_A_SESSION = 100
# Free places that are kept for the next pair: a dozen lattices' worth of volumes each.
KEPT = 8
NOT_CAPTURED = -1

Shapes = dict[str, tuple[int, ...]]

_captured, _graphs = count(), count()
_free: OrderedDict[object, "Places"] = OrderedDict()


class Turn(NamedTuple):
    """A step bound from one place of the field to the other, and how it is told to run."""

    start: Any
    binding: Any
    options: Any


class Places:
    """Of one lattice: what a step is given, two fields, and what it gives."""

    def __init__(self, shapes: Shapes, provider: Provider, *, is_captured: bool) -> None:
        """Room for inputs of these shapes, of which `field` is one.

        Raises:
            ProviderUnavailableError: If the device does not start, or lacks a part of a step.
            MissingExtraError: If onnxruntime is not installed.
        """
        number = next(_captured) // PLACES_A_SESSION if is_captured else 0
        self._session = _session(provider, os.getpid(), is_captured=is_captured, number=number)
        self._where = provider if provider == "cuda" else "cpu"
        self._given = {name: self._room(shape) for name, shape in shapes.items()}
        self._step_mm, self._measure = self._room(()), self._room(())
        fields = self._given.pop("field"), self._room(shapes["field"])
        self._here, self._there = (
            self._turn(start, end, next(_graphs) if is_captured else NOT_CAPTURED)
            for start, end in (fields, fields[::-1])
        )
        self._once = told(NOT_CAPTURED)
        self.is_sound = True

    def fill(self, inputs: Mapping[str, np.ndarray]) -> None:
        """Put a level there: all inputs but the length of a step."""
        for name, array in inputs.items():
            place = self._here.start if name == "field" else self._given[name]
            place.update_inplace(np.asarray(array, dtype=np.float32, order="C"))

    @property
    def field(self) -> np.ndarray:
        """The field as it stands, brought down; on the CPU a view of its place."""
        found: np.ndarray = self._here.start.numpy()
        return found

    def step(self, step_mm: float) -> float:
        """One step; gives the similarity before it."""
        similarity = self._run(self._here, step_mm)
        self._here, self._there = self._there, self._here
        return similarity

    def similarity(self) -> float:
        """Of the field as it stands."""
        return self._run(self._here._replace(options=self._once))

    def similarity_of(self, field: np.ndarray) -> float:
        """Of another."""
        other = self._room(field.shape)
        other.update_inplace(field)
        return self._run(self._turn(other, self._there.start, NOT_CAPTURED))

    def _run(self, turn: Turn, step_mm: float = 0.0) -> float:
        self._step_mm.update_inplace(np.array(step_mm, np.float32))
        self.is_sound = False  # what fails is not used again
        self._session.run_with_iobinding(turn.binding, turn.options)
        turn.binding.synchronize_outputs()
        self.is_sound = True
        return float(self._measure.numpy())

    def _turn(self, start: Any, end: Any, graph: int) -> Turn:
        """A step from a place to another, bound, under the number of a CUDA graph."""
        binding = self._session.io_binding()
        there = {**self._given, "field": start, "step_mm": self._step_mm}
        for name, value in there.items():
            binding.bind_ortvalue_input(name, value)
        binding.bind_ortvalue_output("next", end)
        binding.bind_ortvalue_output("similarity", self._measure)
        return Turn(start, binding, told(graph))

    def _room(self, shape: Sequence[int]) -> Any:
        return onnxruntime().OrtValue.ortvalue_from_shape_and_type(
            shape, np.float32, self._where, 0
        )


class Taken:
    """Places that are one level's until it lets go of them."""

    def __init__(
        self, inputs: Mapping[str, np.ndarray], provider: Provider, *, is_captured: bool
    ) -> None:
        """Free places of these shapes, or else new ones, with a level in them.

        Raises:
            ProviderUnavailableError, MissingExtraError: As `Places`.
        """
        shapes = {name: array.shape for name, array in inputs.items()}
        self._key = (provider, os.getpid(), tuple(shapes.items())) if is_captured else None
        kept = _free.pop(self._key, None)
        self.places = kept or Places(shapes, provider, is_captured=is_captured)
        self.places.fill(inputs)

    def __del__(self) -> None:
        """For the next level, if their steps are captured."""
        if self._key is not None and hasattr(self, "places") and self.places.is_sound:
            _free[self._key] = self.places
            while len(_free) > KEPT:
                _free.popitem(last=False)


def told(graph: int) -> Any:
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
