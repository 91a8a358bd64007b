"""Run a model: the only place that knows onnxruntime and network units.

A network works in voxels of its model grid, channels first; what leaves here is a displacement in
world millimetres, RAS+, on the exact grid of the network's output cells.
"""

import os
from pathlib import Path
from threading import Lock
from typing import Any, Final

import numpy as np
from jaxtyping import Float32

from service.errors import MissingExtraError, ModelInvalidError, ProviderUnavailableError
from service.registration.card import Card, ModelGrid, Provider
from service.registration.fields import Affine, DisplacementField, VelocityField
from service.registration.grid import Grid
from service.registration.intensity import normalise
from service.registration.models_folder import ProviderChoice
from service.registration.progress import Watch, unwatched
from service.registration.resample import downsample, integrate, resample
from service.registration.volume import Volume

PROVIDER_NAMES: Final[dict[Provider, str]] = {
    "cuda": "CUDAExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
# Shape arithmetic belongs on the CPU; these do the work, and on a GPU must run there.
HEAVY_OPS: Final = {
    "AveragePool",
    "Conv",
    "ConvTranspose",
    "Einsum",
    "FusedMatMul",
    "Gemm",
    "GridSample",
    "InstanceNormalization",
    "MatMul",
    "MaxPool",
    "Resize",
    "Softmax",
}
FINEST_TOLERANCE = 1.05


class Engine:
    """A model, checked against its card, in a session of this process."""

    def __init__(
        self,
        card: Card,
        graph: Path,
        *,
        provider: ProviderChoice = "auto",
        threads: int | None = None,
    ) -> None:
        """Start a session.

        Args:
            card: What the graph promises.
            graph: `model.onnx`; its checksum is `ModelFolder.load`'s business.
            provider: `auto` takes the first of the card's providers that is installed.
            threads: By default all cores.

        Raises:
            ModelInvalidError: If the graph does not load or differs from the card.
            ProviderUnavailableError: If the provider is not installed, does not start, or the
                card does not list it.
            MissingExtraError: If onnxruntime is not installed.
        """
        self.card = card
        self.provider = choose_provider(card, provider)
        self._graph = graph
        self._threads = threads or len(os.sched_getaffinity(0))
        self._lock = Lock()
        self._session, self._process = self._start(), os.getpid()

    def grid(self, fixed: Grid) -> Grid:
        """The model grid of a fixed image, before padding."""
        return model_grid(self.card.grid, fixed)

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
            ModelInvalidError: If the output is not of the shape that the card promises.
        """
        grid = self.grid(fixed.grid)
        watch("predict", 0.0)
        here = self._to_network(_on_grid(fixed, grid))
        watch("predict", 0.1)
        there = self._to_network(_through(moving, grid, initial))
        watch("predict", 0.25)
        output = self._run(here, there)
        watch("predict", 0.95)
        return self._to_world(output, grid)

    def _to_network(self, volume: Volume) -> Float32[np.ndarray, "1 1 i j k"]:
        values = normalise(volume.as_float32().data, self.card.intensity)
        rule = self.card.grid
        pad = [(0, -n % rule.multiple) for n in values.shape]
        padded = np.pad(values, pad, mode="edge" if rule.padding == "edge" else "constant")
        return np.ascontiguousarray(padded)[None, None]

    def _run(self, fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
        with self._lock:
            if self._process != os.getpid():  # a session does not outlive a fork
                self._session, self._process = self._start(), os.getpid()
        feed = {self.card.input_name("fixed"): fixed, self.card.input_name("moving"): moving}
        output: np.ndarray = self._session.run([self.card.output.name], feed)[0]
        expected = (1, 3, *(n // self.card.output.stride for n in fixed.shape[2:]))
        if output.shape != expected:
            raise ModelInvalidError(
                f"The model gave an array of shape {output.shape} where its card promises "
                f"{expected}."
            )
        return output

    def _to_world(self, output: np.ndarray, grid: Grid) -> DisplacementField:
        """Crop the padding, turn network units into mm along the world's axes."""
        stride = self.card.output.stride
        cells = output_grid(grid, stride)
        i, j, k = cells.shape
        vectors = np.moveaxis(output[0, :, :i, :j, :k], 0, -1)
        turn = grid.affine[:3, :3] if self.card.output.units == "voxels" else grid.directions
        in_mm = np.ascontiguousarray(vectors @ turn.T.astype(np.float32), dtype=np.float32)
        if self.card.output.kind == "velocity":
            return integrate(VelocityField(in_mm, cells), self.card.output.integration_steps)
        return DisplacementField(in_mm, cells)

    def _start(self) -> Any:
        """A session where it was asked for, nowhere else."""
        ort = _onnxruntime()
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 4
        # The kernels between two runs need the cores.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        name = PROVIDER_NAMES[self.provider]
        settings = {"cudnn_conv_algo_search": "HEURISTIC"} if self.provider == "cuda" else {}
        try:
            session = ort.InferenceSession(str(self._graph), options, providers=[(name, settings)])
        except Exception as error:  # onnxruntime's own have no common base
            if self.provider == "cpu":
                raise ModelInvalidError("The model's graph cannot be loaded.") from error
            raise ProviderUnavailableError(
                f"The model does not start on {self.provider}. Set WARPLINE_PROVIDER=cpu."
            ) from error
        require_provider(session, self.provider)
        require_promised(session, self.card)
        return session


def choose_provider(card: Card, wanted: ProviderChoice) -> Provider:
    """Where to run: what was asked for, or the card's first provider that is installed.

    Raises:
        ProviderUnavailableError: If it is not installed, or the card was not verified there.
    """
    installed = _onnxruntime().get_available_providers()
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
    raise ProviderUnavailableError(
        f"The onnxruntime of this installation has no {wanted} provider for this model. "
        "Install the extra worker-cpu or worker-gpu."
    )


def require_provider(session: Any, provider: Provider) -> None:
    """Refuse a session that runs elsewhere than it was asked to.

    onnxruntime falls back to the CPU with a log line when a provider cannot start, and puts
    single nodes there that a provider lacks.

    Raises:
        ProviderUnavailableError: If the provider did not start, or if, on a GPU, an operator that
            does real work was left to the CPU.
    """
    name = PROVIDER_NAMES[provider]
    if name not in session.get_providers():
        raise ProviderUnavailableError(f"The {provider} provider did not start on this machine.")
    if provider != "cuda":
        return
    strayed = {
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != name
        for node in part.get_nodes()
    } & HEAVY_OPS
    if strayed:
        raise ProviderUnavailableError(
            f"On {provider}, these operators would run on the CPU: {', '.join(sorted(strayed))}."
        )


def require_promised(session: Any, card: Card) -> None:
    """Refuse a graph whose inputs and outputs are not the card's.

    Raises:
        ModelInvalidError: If names, number of axes or types differ, or if the card promises an
            output that this service cannot use.
    """
    if card.output.kind not in ("displacement", "velocity"):
        raise ModelInvalidError(f"This service cannot use a model that gives {card.output.kind}.")
    _require_tensors(session.get_inputs(), [part.name for part in card.inputs], "inputs")
    _require_tensors(session.get_outputs(), [card.output.name], "outputs")


def _require_tensors(found: Any, promised: list[str], which: str) -> None:
    names = [tensor.name for tensor in found]
    if sorted(names) != sorted(promised):
        raise ModelInvalidError(
            f"The graph's {which} are {', '.join(names)}; its card promises {', '.join(promised)}."
        )
    for tensor in found:
        if tensor.type != "tensor(float)" or len(tensor.shape) != 5:
            raise ModelInvalidError(
                f"{tensor.name} must be float32 with five axes; it is {tensor.type} with "
                f"{len(tensor.shape)}."
            )


def model_grid(rule: ModelGrid, fixed: Grid) -> Grid:
    """The grid that a card derives from a fixed image's, before padding.

    Isotropic; it covers the fixed field of view (its bounding box, for axes of the world).
    """
    frame = fixed if rule.orientation == "fixed" else _ras_box(fixed)
    if rule.spacing_mm is not None:
        spacing = rule.spacing_mm
    else:
        wanted = rule.voxels or rule.max_voxels
        coarse = float(np.prod(frame.extent_mm) / wanted) ** (1 / 3)
        finest = float(fixed.spacing_mm.min())
        spacing = finest if coarse < finest * FINEST_TOLERANCE else coarse
    grid = frame.resampled(spacing)
    while grid.voxel_count > rule.max_voxels:
        spacing *= max(1.01, (grid.voxel_count / rule.max_voxels) ** (1 / 3))
        grid = frame.resampled(spacing)
    return grid


def _ras_box(grid: Grid) -> Grid:
    """One voxel along the world's axes that holds the whole field of view."""
    half = np.abs(grid.affine[:3, :3]) @ (np.array(grid.shape) / 2)
    affine = np.diag([*(2 * half), 1.0])
    affine[:3, 3] = grid.centre_mm
    return Grid((1, 1, 1), affine)


def output_grid(grid: Grid, stride: int) -> Grid:
    """The grid of the output cells that hold at least one voxel of the model grid.

    Cell c covers voxels stride * c ... stride * c + stride - 1; its centre is the middle of these.
    """
    i, j, k = (-(-n // stride) for n in grid.shape)
    affine = grid.affine.copy()
    affine[:3, :3] *= stride
    affine[:3, 3] = grid.to_world(np.full(3, (stride - 1) / 2))
    return Grid((i, j, k), affine)


def _on_grid(volume: Volume, grid: Grid) -> Volume:
    """The volume on a grid that covers its field of view."""
    if volume.grid.is_same(grid):
        return volume.as_float32()
    if np.allclose(volume.grid.directions, grid.directions, atol=1e-6):
        return downsample(volume, grid)
    return _through(volume, grid, Affine.identity())


def _through(moving: Volume, grid: Grid, initial: Affine) -> Volume:
    """moving(A x) on the model grid, blurred first where that is coarser."""
    spacing = np.maximum(moving.grid.spacing_mm, grid.spacing_mm)
    coarse = moving.grid.resampled((float(spacing[0]), float(spacing[1]), float(spacing[2])))
    moving = _on_grid(moving, coarse)
    return resample(moving, grid, affine=initial, fill=float(moving.data.min()))


def _onnxruntime() -> Any:
    try:
        import onnxruntime  # heavy, and only where a model runs
    except ImportError as error:
        raise MissingExtraError(
            "Running a model needs onnxruntime; install the extra worker-cpu or worker-gpu."
        ) from error
    return onnxruntime
