"""Run a model: the only place that knows network units.

A network works in voxels of its model grid, channels first; what leaves here is in the world: a
displacement in millimetres, RAS+, on the exact grid of the network's output cells, an affine, or
labels on the fixed image's own grid.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
from jaxtyping import Float32

from service.cores import usable_cores
from service.errors import ModelInvalidError, ProviderUnavailableError
from service.registration.card import Card, OutputKind, Provider, Role
from service.registration.fields import Affine, DisplacementField, VelocityField
from service.registration.grid import Grid
from service.registration.intensity import normalise
from service.registration.model_grid import (
    laid_on,
    model_grid,
    no_finer,
    on_grid,
    output_grid,
    through,
    world_affine,
)
from service.registration.models_folder import ProviderChoice
from service.registration.progress import Watch, unwatched
from service.registration.promises import require_promised
from service.registration.providers import (
    PROVIDER_NAMES,
    onnxruntime,
    require_provider,
    start_session,
)
from service.registration.resample import integrate, resample
from service.registration.sized_session import SizedSession, SizedSessions, sizes_by_name
from service.registration.volume import Volume, as_label_map

# A matrix that shrinks volumes below this, or mirrors, aligns nothing.
LEAST_DETERMINANT = 1e-3
# A voxel belongs to a label from this probability on.
LABEL_PROBABILITY = 0.5


@dataclass(frozen=True, eq=False)
class Seen:
    """A pair as the network is shown it: what can be made ready of each image alone.

    `fixed` has the card's intensities and padding; `moving` is still in space, no finer than the
    model grid.
    """

    grid: Grid
    fixed: Float32[np.ndarray, "1 1 *ij"]
    moving: Volume


class Engine:
    """A model, checked against its card, in a session of this process."""

    def __init__(
        self,
        card: Card,
        graph: Path,
        *,
        provider: ProviderChoice = "auto",
        threads: int | None = None,
        is_late: bool = False,
        cuda_graphs: bool = False,
    ) -> None:
        """Start a session.

        Args:
            card: What the graph promises.
            graph: `model.onnx`; its checksum is `ModelFolder.load`'s business.
            provider: `auto` takes the first of the card's providers that is installed.
            threads: By default all cores.
            is_late: Start at the first run only, which then raises what else this does.
            cuda_graphs: Whether CUDA captures a network told its sizes (`sized_session`), and the
                steps of refinement beside it (`device_level`).

        Raises:
            ModelInvalidError: If the graph does not load or differs from the card.
            ProviderUnavailableError: If the provider is not installed, does not start, or the
                card does not list it.
            MissingExtraError: If onnxruntime is not installed.
        """
        self.card = card
        self.cuda_graphs = cuda_graphs
        self._wanted = provider
        self._graph = graph
        self._threads = threads or usable_cores()
        self._lock = Lock()
        self._session: Any = None
        self._sized = SizedSessions(self._start_sized)
        self._process = 0
        if not is_late:
            self.start()

    @cached_property
    def provider(self) -> Provider:
        """Where it runs, or would run.

        Raises:
            ProviderUnavailableError, MissingExtraError: As `Engine`.
        """
        return choose_provider(self.card, self._wanted)

    @property
    def has_started(self) -> bool:
        """Whether there is a session in this process."""
        return self._process == os.getpid()

    def start(self) -> None:
        """Have a session in this process: one does not outlive a fork.

        Raises:
            ModelInvalidError, ProviderUnavailableError, MissingExtraError: As `Engine`.
        """
        with self._lock:
            if not self.has_started:
                self._session, self._process = self._start(), os.getpid()
                self._sized = SizedSessions(self._start_sized)

    def grid(self, fixed: Grid) -> Grid:
        """The model grid of a fixed image, before padding."""
        return model_grid(self.card.grid, fixed, self.card.ndim)

    def predict(
        self, fixed: Volume, moving: Volume, initial: Affine, watch: Watch = unwatched
    ) -> DisplacementField:
        """The displacement u for which moving(A(x + u(x))) matches fixed(x).

        Both images are brought to the model grid, the moving one through `initial`; what lies
        outside it takes its lowest value.

        Args:
            fixed: Any grid and real type.
            moving: Likewise.
            initial: A, fixed to moving.
            watch: Told before each step; may raise to stop.

        Returns:
            u in mm, RAS+, on the grid of the network's output cells.

        Raises:
            ModelInvalidError: If the output is not of the shape that the card promises, or the
                model gives something else than a field.
            InvalidPairError: If the model registers slices and the fixed image is not one.
        """
        return self.predict_seen(self._seen(fixed, moving, watch), initial, watch)

    def predict_seen(
        self, pair: Seen, initial: Affine, watch: Watch = unwatched
    ) -> DisplacementField:
        """As `predict`, of a pair whose images were made ready before."""
        self._require("displacement", "velocity")
        output = self._run(self._feed(pair, initial, watch))
        watch("predict", 0.95)
        return self._to_world(output, pair.grid)

    def predict_affine(
        self, fixed: Volume, moving: Volume, initial: Affine, watch: Watch = unwatched
    ) -> Affine:
        """B for which moving(A(B x)) matches fixed(x), from a network that gives an affine.

        The identity where the network's matrix is not finite, mirrors or flattens space.

        Args:
            fixed: Any grid and real type.
            moving: Likewise.
            initial: A, fixed to moving.
            watch: Told before each step; may raise to stop.

        Raises:
            ModelInvalidError, InvalidPairError: As `predict`.
        """
        return self.predict_affine_seen(self._seen(fixed, moving, watch), initial, watch)

    def predict_affine_seen(self, pair: Seen, initial: Affine, watch: Watch = unwatched) -> Affine:
        """As `predict_affine`, of a pair whose images were made ready before."""
        self._require("affine")
        feed = self._feed(pair, initial, watch)
        matrix = self._run(feed)[0]
        watch("predict", 0.95)
        linear = matrix[:, :-1]
        if not np.isfinite(matrix).all() or np.linalg.det(linear) < LEAST_DETERMINANT:
            return Affine.identity()
        return Affine(world_affine(matrix, _spatial(feed, self.card.ndim), pair.grid))

    def segment(
        self,
        fixed: Volume,
        moving: Volume,
        labels: Volume,
        initial: Affine,
        watch: Watch = unwatched,
    ) -> Volume:
        """The moving labels as the network finds them in the fixed image, on its own grid.

        The network runs once for each label. A voxel takes the label of the largest probability,
        the lowest of equals, where that is at least a half; else it is background, 0.
        Probabilities are carried from the model grid linearly, by physical position.

        Args:
            fixed: Any grid and real type.
            moving: Likewise.
            labels: Of the moving image; whole numbers from 0 up.
            initial: A, fixed to moving.
            watch: Told before each label; may raise to stop.

        Raises:
            ModelInvalidError, InvalidPairError: As `predict`.
            BadLabelsError: If a label is negative, not whole, or above 65535.
        """
        seen = self._seen(fixed, moving, watch)
        return self.segment_seen(seen, fixed.grid, labels, initial, watch)

    def segment_seen(
        self,
        pair: Seen,
        onto: Grid,
        labels: Volume,
        initial: Affine,
        watch: Watch = unwatched,
    ) -> Volume:
        """As `segment`, of a pair whose images were made ready before; it lies on `onto`."""
        self._require("warped_label")
        labels, grid = as_label_map(labels), pair.grid
        feed = self._feed(pair, initial, watch)
        cells = output_grid(grid, self.card.output.stride, self.card.ndim)
        best = np.full(onto.shape, np.nextafter(np.float32(LABEL_PROBABILITY), np.float32(0)))
        found = np.zeros(onto.shape, labels.data.dtype)
        present: list[int] = np.flatnonzero(np.bincount(labels.data.ravel())).tolist()
        present = [label for label in present if label]
        for number, label in enumerate(present):
            watch("predict", 0.25 + 0.7 * number / len(present))
            indicator = labels.with_data((labels.data == label).astype(np.float32))
            share = through(indicator, grid, initial, 0.0)
            feed[self.card.input_name("moving_label")] = self._padded(share.data, "zero")
            cut = self._run(feed)[0, 0]
            probability = Volume(_cropped(cut, cells), cells)
            here = resample(probability, onto).data
            wins = here > best
            best[wins], found[wins] = here[wins], label
        return Volume(found, onto)

    def _require(self, *kinds: OutputKind) -> None:
        if self.card.output.kind not in kinds:
            raise ModelInvalidError(
                f"Model {self.card.name}/{self.card.version} gives {self.card.output.kind}, not "
                f"{' or '.join(kinds)}."
            )

    def show_fixed(self, fixed: Volume) -> Float32[np.ndarray, "1 1 *ij"]:
        """The fixed image as the network takes it, on its model grid."""
        return self._to_network(on_grid(fixed, self.grid(fixed.grid)), "fixed")

    def _seen(self, fixed: Volume, moving: Volume, watch: Watch) -> Seen:
        watch("predict", 0.0)
        grid = self.grid(fixed.grid)
        here = self.show_fixed(fixed)
        watch("predict", 0.1)
        return Seen(grid, here, no_finer(moving, grid))

    def _feed(self, pair: Seen, initial: Affine, watch: Watch) -> dict[str, np.ndarray]:
        """Both images as the graph takes them, by its own names."""
        there = self._to_network(laid_on(pair.moving, pair.grid, initial), "moving")
        watch("predict", 0.25)
        return {self.card.input_name("fixed"): pair.fixed, self.card.input_name("moving"): there}

    def _to_network(self, volume: Volume, role: Role) -> Float32[np.ndarray, "1 1 *ij"]:
        values = normalise(volume.as_float32().data, self.card.intensity_of(role))
        return self._padded(values, self.card.grid.padding)

    def _padded(
        self, values: np.ndarray, padding: Literal["edge", "zero"]
    ) -> Float32[np.ndarray, "1 1 *ij"]:
        """Up to the card's multiple along the axes that the network sees."""
        sizes: tuple[int, ...] = values.shape[: self.card.ndim]  # a slice has one voxel along k
        pad = [(0, -n % self.card.grid.multiple) for n in sizes]
        values = values.reshape(sizes)
        padded = np.pad(values, pad, mode="edge" if padding == "edge" else "constant")
        return np.ascontiguousarray(padded, dtype=np.float32)[None, None]

    def _run(self, feed: dict[str, np.ndarray]) -> np.ndarray:
        self.start()
        sized = self._sized.of(feed) if self.provider == "cuda" else None
        output: np.ndarray = (
            sized.run(feed) if sized else self._session.run([self.card.output.name], feed)[0]
        )
        expected = self._promised(_spatial(feed, self.card.ndim))
        if output.shape != expected:
            raise ModelInvalidError(
                f"The model gave an array of shape {output.shape} where its card promises "
                f"{expected}."
            )
        return output

    def _promised(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """The output's shape for images of these sizes."""
        ndim, output = self.card.ndim, self.card.output
        if output.kind == "affine":
            return (1, ndim, ndim + 1)
        channels = 1 if output.kind == "warped_label" else ndim
        return (1, channels, *(n // output.stride for n in sizes))

    def _to_world(self, output: np.ndarray, grid: Grid) -> DisplacementField:
        """Crop the padding, turn network units into mm along the world's axes."""
        ndim = self.card.ndim
        cells = output_grid(grid, self.card.output.stride, ndim)
        vectors = np.stack([_cropped(part, cells) for part in output[0]], axis=-1)
        turn = grid.affine[:3, :3] if self.card.output.units == "voxels" else grid.directions
        turn = turn[:, :ndim].astype(np.float32)
        in_mm = np.ascontiguousarray(vectors @ turn.T, dtype=np.float32)
        if self.card.output.kind == "velocity":
            return integrate(VelocityField(in_mm, cells), self.card.output.integration_steps)
        return DisplacementField(in_mm, cells)

    def _start(self) -> Any:
        """A session where it was asked for, nowhere else."""
        session = start_session(self._graph, self.provider, self._threads)
        require_provider(session, self.provider)
        require_promised(session, self.card)
        return session

    def _start_sized(self, shapes: Mapping[str, tuple[int, ...]]) -> SizedSession:
        """A session for inputs of these shapes, which the general one has taken before."""
        promised = self._promised(shapes[self.card.input_name("fixed")][-self.card.ndim :])
        return SizedSession(
            self._graph,
            sizes_by_name(self._session, shapes),
            shapes,
            (self.card.output.name, promised),
            provider=self.provider,
            threads=self._threads,
            cuda_graphs=self.cuda_graphs,
        )


def choose_provider(card: Card, wanted: ProviderChoice) -> Provider:
    """Where to run: what was asked for, or the card's first provider that is installed.

    Raises:
        ProviderUnavailableError: If it is not installed, or the card was not verified there.
    """
    installed = onnxruntime().get_available_providers()
    usable = [p for p in card.providers if PROVIDER_NAMES[p] in installed]
    if wanted == "auto" and usable:
        return usable[0]
    for provider in usable:
        if provider == wanted:
            return provider
    if wanted != "auto" and wanted not in card.providers:
        raise ProviderUnavailableError(
            f"Model {card.name}/{card.version} was not verified on {wanted}; it runs on "
            f"{', '.join(card.providers)}. Set WARPLINE_PROVIDER to one of these or to auto."
        )
    where = " or ".join(card.providers if wanted == "auto" else (wanted,))
    raise ProviderUnavailableError(
        f"The onnxruntime of this installation cannot run this model: it has no provider {where}. "
        "Install the extra worker-cpu or worker-gpu."
    )


def _spatial(feed: dict[str, np.ndarray], ndim: int) -> tuple[int, ...]:
    """The sizes of what the graph sees."""
    sizes: tuple[int, ...] = next(iter(feed.values())).shape[-ndim:]
    return sizes


def _cropped(values: np.ndarray, cells: Grid) -> np.ndarray:
    """One channel without its padding, with an axis k even for a slice."""
    i, j, k = cells.shape
    return values[:i, :j, :k] if values.ndim == 3 else values[:i, :j, None]
