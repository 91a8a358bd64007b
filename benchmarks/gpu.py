"""A recipe trained on a GPU in one go, and what it gives: CPU beside GPU, the time of a pair.

    python -m benchmarks.gpu --out RUN [--recipe universal-pyramid] [--set train.epochs=400 ...]

Fits the metric where the network begins with one, trains, exports and measures; compares the fields
of the CPU with those of the GPU on pairs that the training never saw; times the network on the
device, a pair at a time by onnxruntime with its arrays kept there (the graph as it is served, the
graph told the images' size, which folds two thirds of its operators away, and that one as a CUDA
graph), and in batches by torch; and refines a pair with the service's kernels on the CPU and with
the same steps on the device, launched one by one and as CUDA graphs, and times single steps on
lattices of three sizes both ways. With --fixed and --moving it registers these, files to files, on
the CPU and on the device. Called again it goes on from RUN's newest checkpoint, and a finished
training is not trained again (with more epochs by --set it goes on). Needs the extras trainer and
worker-gpu. Without a GPU, `--device cpu` goes through the same steps; its times say nothing of one.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from service.cores import usable_cores
from service.registration.card import Provider
from service.registration.descent import LatticeField, Level, LevelPair, MakeLevel
from service.registration.device_check import ALIKE, bent
from service.registration.device_level import CAPTURED_VOXELS, DeviceLevel
from service.registration.engine import Engine
from service.registration.fields import Affine, DisplacementField
from service.registration.files.field_file import read_field
from service.registration.files.limits import Limits
from service.registration.models_folder import GRAPH, ModelFolder, Models, open_engine
from service.registration.options import RegisterOptions
from service.registration.pipeline import register_files
from service.registration.providers import require_provider, start_session
from service.registration.refine import refine
from service.registration.sized_session import SizedSession, sizes_by_name
from trainer.checkpoint import BEST, checkpoints, load_weights
from trainer.config import TrainConfig, read_config
from trainer.config.matching_networks import MatchingPyramidConfig, MetricConfig
from trainer.config.recipes import found
from trainer.metric_fit import fit
from trainer.networks.build import build_network
from trainer.running import RunOptions, run_training
from trainer.synth import SyntheticPairs

# Far from any number that a training draws.
SEED = 20_261_127


@dataclass(frozen=True)
class Found:
    """The figures of one run; times in ms on the device, the largest difference in voxels."""

    difference: float
    network: "Network"
    batch_pairs_per_s: float
    refined: "Refined"


@dataclass(frozen=True)
class Network:
    """A pair, ms: the graph as it is served, told its sizes, and that one as a CUDA graph."""

    served_ms: float
    sized_ms: float
    captured_ms: float


@dataclass(frozen=True)
class Refined:
    """`refine: fast` of one pair, ms: by the kernels on the CPU, on the device, and in CUDA graphs.

    `difference` from the kernels, voxels; `steps` by lattice.
    """

    cpu_ms: float
    device_ms: float
    captured_ms: float
    difference: float
    steps: "tuple[Step, ...]"


@dataclass(frozen=True)
class Step:
    """A step on a lattice of so many voxels, ms: launched kernel by kernel, and as a CUDA graph."""

    voxels: int
    launched_ms: float
    captured_ms: float


def trained(config: TrainConfig, out: Path, pairs: int) -> Path:
    """The folder of the model: fitted, trained, exported and measured; goes on where it stopped."""
    start = None
    if isinstance(config.network, MetricConfig | MatchingPyramidConfig):
        start = out / "fit" / "checkpoints" / BEST
        if not start.is_file():
            with torch.no_grad():
                fit(config, out / "fit", pairs)
    run = out / "run"
    is_begun = bool(checkpoints(run / "checkpoints"))
    folder = run_training(config, run, RunOptions(resume=is_begun, start_from=start))
    if folder is None:
        raise RuntimeError("the training gave no model")
    return folder


def provider_of(device: str) -> Provider:
    """Where onnxruntime runs what torch runs on a device."""
    return "cuda" if device == "cuda" else "cpu"


def session(graph: Path, device: str) -> Any:
    """As the service starts one."""
    provider = provider_of(device)
    made = start_session(graph, provider, usable_cores())
    require_provider(made, provider)
    return made


def images(config: TrainConfig, size: Sequence[int], count: int) -> list[tuple[Tensor, Tensor]]:
    """Pairs (1, 1, *size) each, as the training draws them, from another seed."""
    grid = config.data.grid
    source = SyntheticPairs(config.synth, size, (grid.spacing_mm,) * grid.ndim, SEED)
    drawn = [source.draw(n) for n in range(count)]
    return [(pair.fixed[None], pair.moving[None]) for pair in drawn]


def largest_difference(one: Any, other: Any, pairs: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Of two sessions' fields, voxels."""
    apart = [0.0]
    for feed in map(_feed, pairs):
        apart.append(float(np.abs(one.run(None, feed)[0] - other.run(None, feed)[0]).max()))
    return max(apart)


def _feed(pair: tuple[Tensor, Tensor]) -> dict[str, np.ndarray]:
    return {name: image.numpy() for name, image in zip(("fixed", "moving"), pair, strict=True)}


def median_ms(step: Callable[[], object], repeats: int) -> float:
    """After three runs that do not count."""
    times = []
    for n in range(repeats + 3):
        begun = time.perf_counter()
        step()
        if n >= 3:
            times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times)


def network(graph: Path, chosen: Any, pair: tuple[Tensor, Tensor], cells: Sequence[int]) -> Network:
    """The times of the exported graph on the device."""
    general = session(graph, chosen.device)
    feed = _feed(pair)
    shapes = {name: image.shape for name, image in feed.items()}
    output = general.get_outputs()[0].name, tuple(cells)
    ways = (
        SizedSession(
            graph,
            sizes,
            shapes,
            output,
            provider=provider_of(chosen.device),
            threads=usable_cores(),
            cuda_graphs=cuda_graphs,
        )
        for sizes, cuda_graphs in (
            ({}, False),
            (sizes_by_name(general, shapes), False),
            (sizes_by_name(general, shapes), True),
        )
    )
    return Network(*(_there_ms(way, feed, chosen.repeats) for way in ways))


def _there_ms(way: SizedSession, feed: dict[str, np.ndarray], repeats: int) -> float:
    """A pair, without going up and coming down."""
    way.run(feed)
    return median_ms(way.run_there, repeats)


def batch_pairs_per_s(
    network: nn.Module, device: str, pair: tuple[Tensor, Tensor], count: int, repeats: int
) -> float:
    """Pairs a second of a batch on the device, by torch."""
    network = network.to(device).eval()
    batch = [image.expand(count, *image.shape[1:]).contiguous().to(device) for image in pair]

    def step() -> None:
        with torch.inference_mode():
            network(*batch)
        if device == "cuda":
            torch.cuda.synchronize()

    return 1000 * count / median_ms(step, repeats)


def refined(size: Sequence[int], device: str, repeats: int) -> Refined:
    """An image registered to itself, bent, by refinement alone."""
    fixed, moving = bent(size)
    start = DisplacementField.zero(fixed.grid)

    def run(make_level: MakeLevel) -> np.ndarray:
        found = refine(
            fixed, moving, Affine.identity(), start, effort="fast", make_level=make_level
        )
        return found.vectors_mm

    provider = provider_of(device)
    ways: tuple[MakeLevel, ...] = (
        Level,
        partial(DeviceLevel, provider=provider),
        partial(DeviceLevel, provider=provider, captured_voxels=CAPTURED_VOXELS),
    )
    kernels, *others = (run(way) for way in ways)
    return Refined(
        *(median_ms(partial(run, way), repeats) for way in ways),
        max(float(np.abs(kernels - other).max()) for other in others),
        tuple(stepped([int(n * by) for n in size], provider, repeats) for by in (0.5, 1.0, 1.5)),
    )


def stepped(size: Sequence[int], provider: Provider, repeats: int) -> Step:
    """The time of a step both ways, without getting the lattice ready or capturing."""
    fixed, moving = bent(size)
    nothing = LatticeField(np.zeros((3, *fixed.grid.shape), np.float32), fixed.grid)
    launched, captured = (
        DeviceLevel(
            LevelPair(fixed, moving, Affine.identity()),
            nothing,
            provider=provider,
            captured_voxels=voxels,
        )
        for voxels in (0, sys.maxsize)
    )
    return Step(
        fixed.grid.voxel_count,
        median_ms(lambda: launched.step(0.1), repeats),
        median_ms(lambda: captured.step(0.1), repeats),
    )


@dataclass(frozen=True)
class Whole:
    """A pair of files, an effort and a way: seconds files to files, and mm from the CPU's field."""

    effort: str
    way: str
    seconds: float
    apart_mm: float


def files_to_files(fixed: Path, moving: Path, device: str, repeats: int) -> Iterator[Whole]:
    """A pair by the default model, on the CPU and on the device, without and with CUDA graphs."""
    ways: tuple[tuple[str, Provider, bool], ...] = (
        ("cpu", "cpu", False),
        (device, provider_of(device), False),
        (f"{device}, CUDA graphs", provider_of(device), True),
    )
    for effort in ("fast", "best"):
        on_cpu = None
        for way, provider, cuda_graphs in ways:
            models = _Opened(provider, cuda_graphs=cuda_graphs)
            times, field = _registered({"fixed": fixed, "moving": moving}, effort, models, repeats)
            on_cpu = field if on_cpu is None else on_cpu
            apart_mm = float(np.abs(field - on_cpu).max())
            yield Whole(effort, way, statistics.median(times), apart_mm)


class _Opened(ModelFolder):
    """The shipped models, as a worker with these settings has them."""

    def __init__(self, provider: Provider, *, cuda_graphs: bool) -> None:
        super().__init__(provider=provider)
        self._how: Any = {"provider": provider, "threads": None, "cuda_graphs": cuda_graphs}
        self._opened: dict[str, Engine] = {}

    def load(self, ref: str, *_: Any, **__: Any) -> Engine:
        if ref not in self._opened:
            graph = self.folder(ref) / GRAPH
            self._opened[ref] = open_engine(self.card(ref), graph, **self._how)
        return self._opened[ref]


def _registered(
    files: dict[str, Path], effort: str, models: Models, repeats: int
) -> tuple[list[float], np.ndarray]:
    """Seconds of registrations, after one that does not count, and the last's vectors in mm."""
    options, times = RegisterOptions.model_validate({"refine": effort}), []
    for _ in range(repeats + 1):
        with tempfile.TemporaryDirectory() as folder:
            begun = time.perf_counter()
            register_files(files, options, Path(folder), models)
            times.append(time.perf_counter() - begun)
            vectors = read_field(Path(folder) / "ddf.nii.gz", Limits()).vectors_mm
    return times[1:], vectors


def measured(config: TrainConfig, out: Path, folder: Path, chosen: Any) -> Found:
    """The model of a training beside the CPU, and its times."""
    pairs, graph = images(config, chosen.size, 3), folder / "model.onnx"
    on_cpu, on_device = session(graph, "cpu"), session(graph, chosen.device)
    in_torch = build_network(config.network, config.data.grid.ndim)
    load_weights(out / "run" / "checkpoints" / BEST, in_torch)
    cells = on_cpu.run(None, _feed(pairs[0]))[0].shape
    return Found(
        largest_difference(on_cpu, on_device, pairs),
        network(graph, chosen, pairs[0], cells),
        batch_pairs_per_s(in_torch, chosen.device, pairs[0], chosen.batch, chosen.repeats),
        refined(chosen.size, chosen.device, chosen.repeats),
    )


def main(arguments: list[str] | None = None) -> int:
    """Run all steps; 1 if CPU and device differ."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the training")
    parser.add_argument("--recipe", default="universal-pyramid", help="a recipe or a file")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cuda")
    parser.add_argument("--pairs", type=int, default=400, help="pairs that the metric is fitted to")
    parser.add_argument("--size", type=int, nargs=3, default=(80, 96, 80), help="voxels, for times")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--fixed", type=Path, help="a pair to register, files to files")
    parser.add_argument("--moving", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="section.option=value")
    chosen = parser.parse_args(arguments)
    changes = [*chosen.set, f"train.device={chosen.device}"]
    config = read_config(found([chosen.recipe]), changes)
    folder = trained(config, chosen.out, chosen.pairs)
    figures = measured(config, chosen.out, folder, chosen)
    size = "x".join(map(str, chosen.size))
    print(f"model: {folder}")
    print(f"largest difference of CPU and {chosen.device}: {figures.difference:.1e} voxels")
    print(
        f"a pair of {size}: {figures.network.served_ms:.1f} ms on {chosen.device}, "
        f"{figures.network.sized_ms:.1f} ms told its sizes, "
        f"{figures.network.captured_ms:.1f} ms as a CUDA graph"
    )
    print(f"batches of {chosen.batch}: {figures.batch_pairs_per_s:.1f} pairs a second")
    print(
        f"refined (fast): {figures.refined.device_ms:.1f} ms on {chosen.device}, "
        f"{figures.refined.captured_ms:.1f} ms with lattices of up to {CAPTURED_VOXELS} voxels as "
        "CUDA graphs, "
        f"{figures.refined.cpu_ms:.1f} ms by the kernels on the CPU, "
        f"{figures.refined.difference:.1e} voxels apart"
    )
    for step in figures.refined.steps:
        print(
            f"a step on {step.voxels} voxels: {step.launched_ms:.2f} ms launched kernel by kernel, "
            f"{step.captured_ms:.2f} ms as a CUDA graph"
        )
    for whole in _wholes(chosen):
        print(
            f"{whole.effort}, files to files: {whole.seconds:.2f} s on {whole.way}, "
            f"{whole.apart_mm:.1e} mm from the CPU's field"
        )
    return 0 if max(figures.difference, figures.refined.difference) <= ALIKE else 1


def _wholes(chosen: Any) -> Iterator[Whole]:
    if chosen.fixed and chosen.moving:
        yield from files_to_files(
            chosen.fixed, chosen.moving, chosen.device, min(5, chosen.repeats)
        )


if __name__ == "__main__":
    raise SystemExit(main())
