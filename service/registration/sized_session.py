"""A network told the sizes of its images: on a GPU it then runs in half the time or less.

A graph for images of any size reckons shapes as it runs, thousands of small operators between the
few that work, and each is a launch. Told its sizes, onnxruntime folds two thirds of them away, and
all that is left is on the GPU: what a CUDA graph asks for, which plays a run again as one launch.
That takes up to a second to get ready, so it pays for sizes that come often. On the CPU, where
operators are launched in no time, it gains too little to be kept for.
"""

from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from service.errors import ProviderUnavailableError
from service.registration.card import Provider
from service.registration.providers import onnxruntime, require_provider, start_session

Shapes = tuple[tuple[int, ...], ...]


class SizedSession:
    """A session for inputs of one shape each, which lie at fixed places on the device."""

    def __init__(
        self,
        graph: Path,
        sizes: Mapping[str, int],
        inputs: Mapping[str, tuple[int, ...]],
        output: tuple[str, tuple[int, ...]],
        *,
        provider: Provider,
        threads: int,
        cuda_graphs: bool = False,
    ) -> None:
        """Start it, and lay out its places.

        Args:
            graph: The file.
            sizes: Of what it names; see `sizes_by_name`.
            inputs: The shape of each.
            output: The name and shape of the one that is asked for.
            provider: Where it runs.
            threads: Of the CPU.
            cuda_graphs: Whether a first run is captured here, and played again after. Only where
                nothing else of the process uses the GPU meanwhile: a capture fails by it.

        Raises:
            ProviderUnavailableError, ModelInvalidError, MissingExtraError: As `start_session` and
                `require_provider`; the first also where it cannot be captured.
        """
        self._lock = Lock()
        self._session = start_session(
            graph, provider, threads, cuda_graphs=cuda_graphs, sizes=sizes
        )
        require_provider(self._session, provider)
        where = provider if provider == "cuda" else "cpu"
        self._binding = self._session.io_binding()
        self._inputs = {name: _place(shape, where) for name, shape in inputs.items()}
        for name, place in self._inputs.items():
            self._binding.bind_ortvalue_input(name, place)
        name, shape = output
        self._output = _place(shape, where)
        self._binding.bind_ortvalue_output(name, self._output)
        if cuda_graphs:
            self._capture()

    def _capture(self) -> None:
        """Run on what happens to lie there: what fails does so before a job depends on it."""
        try:
            self.run_there()
        except Exception as error:  # onnxruntime's own have no common base
            raise ProviderUnavailableError("The network cannot be captured.") from error

    def run(self, feed: Mapping[str, np.ndarray]) -> np.ndarray:
        """Up, there, and down; float32, C order, in the shapes that it was told."""
        with self._lock:
            for name, place in self._inputs.items():
                place.update_inplace(feed[name])
            self.run_there()
            return np.array(self._output.numpy())  # a view of its place on the CPU

    def run_there(self) -> None:
        """Again on what lies there; what it gives stays there."""
        self._session.run_with_iobinding(self._binding)
        self._binding.synchronize_outputs()


class SizedSessions:
    """Those of the sizes that come often; the rest do without."""

    # Starting one takes as long as some sixty runs save, with CUDA graphs forty.
    OFTEN = 20
    KEPT = 4  # each holds what the network needs on the device
    MOST_COUNTED = 1000  # sizes; with one more all are counted from the beginning

    def __init__(self, start: Callable[[Mapping[str, tuple[int, ...]]], SizedSession]) -> None:
        """With what starts a session for inputs of certain shapes."""
        self._start = start
        self._seen: Counter[Shapes] = Counter()
        self._kept: OrderedDict[Shapes, SizedSession | None] = OrderedDict()
        self._lock = Lock()

    def of(self, feed: Mapping[str, np.ndarray]) -> SizedSession | None:
        """The session of these sizes, if they have come often.

        None too where one did not start, as that of a graph which cannot be captured: what is
        slower without is no reason to fail.
        """
        shapes = {name: feed[name].shape for name in sorted(feed)}
        key = tuple(shapes.values())
        with self._lock:
            if key not in self._kept:
                if not self._come_often(key):
                    return None
                self._kept[key] = self._started(shapes)
            self._kept.move_to_end(key)
            while len(self._kept) > self.KEPT:
                self._kept.popitem(last=False)
            return self._kept[key]

    def _come_often(self, key: Shapes) -> bool:
        """Count sizes of which no session is kept; whether these are to have one now."""
        if len(self._seen) >= self.MOST_COUNTED and key not in self._seen:
            self._seen.clear()
        self._seen[key] += 1
        if self._seen[key] <= self.OFTEN:
            return False
        del self._seen[key]
        return True

    def _started(self, shapes: Mapping[str, tuple[int, ...]]) -> SizedSession | None:
        try:
            return self._start(shapes)
        except ProviderUnavailableError:
            return None


def sizes_by_name(session: Any, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
    """How large is what a session's graph names in the shapes of its inputs."""
    return {
        name: size
        for value in session.get_inputs()
        for name, size in zip(value.shape, shapes[value.name], strict=True)
        if isinstance(name, str)
    }


def _place(shape: tuple[int, ...], where: str) -> Any:
    """Room on the device for float32 of a shape."""
    return onnxruntime().OrtValue.ortvalue_from_shape_and_type(shape, np.float32, where, 0)
