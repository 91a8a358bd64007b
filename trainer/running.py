"""One training from a configuration to a model folder: check, train, export, evaluate."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numba
import torch
import yaml

from service.errors import ProviderUnavailableError, TrainingExistsError
from service.registration.kernels.launch import threads
from service.registration.models_folder import ModelFolder
from trainer.checkpoint import BEST, Position, Trained, checkpoints, load_weights
from trainer.config import TrainConfig, read_config
from trainer.config.checks import network_multiple
from trainer.data.dataset import PairDataset, check_data, open_dataset
from trainer.evaluate import ServedModel
from trainer.finishing import EVALUATION, finish
from trainer.forward import Forward
from trainer.loop import CHECKPOINTS, Run, train
from trainer.losses.build import build_losses
from trainer.monitor import Monitor
from trainer.networks.build import build_network
from trainer.objective import Objective
from trainer.ranks import Ranks, joined
from trainer.schedule import make_optimiser
from trainer.validation import Validation

CONFIG = "config.yaml"
PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class RunOptions:
    """What a caller decides about one run of a training; the configuration says the rest."""

    resume: bool = False
    events: bool = False
    is_silent: bool = False
    start_from: Path | None = None
    is_finished: bool = True  # export and evaluate at the end
    version: str = "1"
    compare: Path | None = None  # folder of the model to compare with


def run_training(config: TrainConfig, out: Path, options: RunOptions) -> Path | None:
    """Train, and make a model folder of the best weights; gives it, or None without the last part.

    Args:
        config: What to train.
        out: The training's folder; see docs/training.md for what is in it afterwards.
        options: How to run.

    Raises:
        TrainingExistsError: If `out` holds a training already and it is not to be resumed.
        TrainingDataError: If files are missing, unreadable or do not match; all are named.
        TrainingDivergedError: If a loss is not finite.
        TrainingStoppedError: If the process was asked to stop.
    """
    device = choose_device(config)
    with joined(device.type) as ranks:
        use_threads(config.train.threads or torch.get_num_threads())
        _prepare(config, out, options, ranks)
        with _watched(config, out, options, ranks) as monitor:
            run = build_run(config, out, ranks, monitor)
            if options.start_from is not None and not checkpoints(out / CHECKPOINTS):
                load_weights(options.start_from, run.trained.network)
            train(run)
            if not (options.is_finished and ranks.is_first):
                return None
            load_weights(out / CHECKPOINTS / BEST, run.trained.network)
            folder = finish(
                config,
                run.trained.network,
                out,
                monitor,
                version=options.version,
                against=_served(options.compare),
            )
            told = {"model": folder}
            if (out / EVALUATION).is_dir():  # not where no pairs are left to measure on
                told["evaluation"] = out / EVALUATION
            monitor.tell("done", **{k: str(v.relative_to(out)) for k, v in told.items()})
            return folder


def use_threads(count: int) -> None:
    """Have torch, and the kernels within its functions, use so many threads."""
    # Starting threads of kernels, ours and numba's, sets OpenMP's number, which torch may share:
    # later it would change how torch sums in the midst of a training.
    threads()
    numba.get_num_threads()
    torch.set_num_threads(count)


def build_run(config: TrainConfig, out: Path, ranks: Ranks, monitor: Monitor) -> Run:
    """Everything that a training works with, the same for the same seed."""
    device = choose_device(config, ranks.local_rank)
    torch.manual_seed(config.seed)
    torch.use_deterministic_algorithms(config.train.deterministic, warn_only=True)
    # Else each new tensor is filled with NaN first, a quarter of a small step's time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    network = build_network(config.network, config.data.grid.ndim).to(device)
    forward = Forward(network, config.network, PRECISIONS[config.train.precision])
    multiple = network_multiple(config.network)
    pairs = _dataset(config, out, "train", multiple)
    valid = _dataset(config, out, "valid", multiple)
    losses = build_losses(config.losses, pairs.spacing_mm)
    objective = Objective(forward, losses, config.train.symmetric)
    scaler = torch.amp.GradScaler(device.type, enabled=config.train.precision == "float16")
    return Run(
        config=config,
        out=out,
        ranks=ranks,
        device=device,
        forward=forward,
        objective=objective,
        trained=Trained(network, make_optimiser(network, config.train), scaler),
        pairs=pairs,
        validation=Validation(config, valid, objective, device) if len(valid) else None,
        monitor=monitor,
    )


def choose_device(config: TrainConfig, local_rank: int = 0) -> torch.device:
    """Where to train.

    Raises:
        ProviderUnavailableError: If a GPU was asked for and there is none.
    """
    wanted, has_gpu = config.train.device, torch.cuda.is_available()
    if wanted == "cuda" and not has_gpu:
        raise ProviderUnavailableError("There is no GPU here; set train.device to auto or cpu.")
    return torch.device("cuda", local_rank) if wanted != "cpu" and has_gpu else torch.device("cpu")


def write_config(config: TrainConfig, path: Path) -> None:
    """The whole configuration, defaults included, as a file that can be trained from again."""
    document: Any = config.model_dump(mode="json")
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), "utf-8")


def _served(folder: Path | None) -> ServedModel | None:
    """The model in `<name>/<version>/`."""
    if folder is None:
        return None
    whole = folder.resolve()
    return ServedModel(ModelFolder(whole.parents[1]), f"{whole.parent.name}/{whole.name}")


def _dataset(config: TrainConfig, out: Path, split: Any, multiple: int) -> PairDataset:
    return open_dataset(
        config.data,
        split,
        multiple=multiple,
        cache=out / "cache",
        seed=config.seed,
        synth=config.synth,
    )


def _prepare(config: TrainConfig, out: Path, options: RunOptions, ranks: Ranks) -> None:
    if not ranks.is_first:
        return
    if checkpoints(out / CHECKPOINTS) and not options.resume:
        raise TrainingExistsError(
            "This folder holds a training already. Go on with --resume, or name another folder."
        )
    _require_same(config, out / CONFIG)
    check_data(config.data)
    out.mkdir(parents=True, exist_ok=True)
    write_config(config, out / CONFIG)


def _require_same(config: TrainConfig, path: Path) -> None:
    """Refuse a resumed training of something else before its configuration is written over."""
    if path.is_file() and checkpoints(path.parent / CHECKPOINTS):
        Position(configuration=read_config([path]).digest()).require_configuration(config.digest())


@contextmanager
def _watched(
    config: TrainConfig, out: Path, options: RunOptions, ranks: Ranks
) -> Iterator[Monitor]:
    monitor = Monitor()
    if ranks.is_first:
        monitor = Monitor.of(out, config, events=options.events, is_silent=options.is_silent)
    try:
        yield monitor
    finally:
        monitor.close()
