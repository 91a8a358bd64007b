"""Checkpoints: one safetensors file each, whole or not there; nothing is ever unpickled.

Tensors stand under `network.`, `optimiser.` and `random.`; everything else is JSON in the file's
own metadata, so that weights and state can never belong to different steps.
"""

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from service.errors import CheckpointInvalidError

KEPT = 2
BEST = "best.safetensors"
_NAME = re.compile(r"step-(\d{9})\.safetensors")


@dataclass
class Position:
    """How far a training is: all that is not a tensor."""

    step: int = 0  # optimiser steps done
    seconds: float = 0.0  # spent training, over all runs
    best: float | None = None
    best_step: int | None = None
    stale: int = 0  # validations since the best one
    configuration: str = ""  # digest of what must not change between runs

    def note(self, score: float, min_delta: float = 0.0) -> bool:
        """Take in a validation's score, small is good; whether it is the best so far.

        An improvement of no more than `min_delta` does not count.
        """
        if self.best is not None and not score < self.best - min_delta:
            self.stale += 1
            return False
        self.best, self.best_step, self.stale = score, self.step, 0
        return True

    def require_configuration(self, digest: str) -> None:
        """Refuse to go on with another training's checkpoint.

        Raises:
            CheckpointInvalidError: If the configuration has changed in what it trains.
        """
        if self.configuration != digest:
            raise CheckpointInvalidError(
                "The checkpoints here were made with other data, another network, other losses or "
                "another optimiser. Use the old configuration, or another folder."
            )


@dataclass(frozen=True)
class Trained:
    """What moves in a training."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler


def save_checkpoint(folder: Path, trained: Trained, position: Position) -> Path:
    """Write `step-NNNNNNNNN.safetensors` and drop all but the newest two.

    Raises:
        OSError: If there is no room; older checkpoints are untouched then.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state, numbers = _split(trained.optimiser.state_dict())
    tensors = {f"network.{name}": value for name, value in trained.network.state_dict().items()}
    tensors |= {f"optimiser.{name}": value for name, value in state.items()}
    tensors["random.cpu"] = torch.get_rng_state()
    told = {
        "position": asdict(position),
        "optimiser": numbers,
        "scaler": trained.scaler.state_dict(),
    }
    metadata = {name: json.dumps(value) for name, value in told.items()}
    path = folder / f"step-{position.step:09d}.safetensors"
    _write_whole(path, save({k: v.contiguous() for k, v in tensors.items()}, metadata))
    for old in checkpoints(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
    return path


def save_best(folder: Path, network: nn.Module, position: Position) -> Path:
    """Write the weights of the best validation so far."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"network.{k}": v.contiguous() for k, v in network.state_dict().items()}
    path = folder / BEST
    _write_whole(path, save(tensors, {"position": json.dumps(asdict(position))}))
    return path


def checkpoints(folder: Path) -> list[Path]:
    """Whole checkpoints, oldest first."""
    return sorted(p for p in folder.glob("step-*.safetensors") if _NAME.fullmatch(p.name))


def restore(path: Path, trained: Trained) -> Position:
    """Bring network, optimiser and torch's random numbers back to where they were.

    Raises:
        CheckpointInvalidError: If the file is damaged or of another network.
    """
    tensors, metadata = _read(path)
    load_network(trained.network, tensors)
    state = {k.removeprefix("optimiser."): v for k, v in tensors.items() if k[:10] == "optimiser."}
    try:
        trained.optimiser.load_state_dict(_join(state, json.loads(metadata["optimiser"])))
        if scale := json.loads(metadata["scaler"]):
            trained.scaler.load_state_dict(scale)
        position = Position(**json.loads(metadata["position"]))
    except (KeyError, ValueError, TypeError) as error:
        raise CheckpointInvalidError("The checkpoint holds no state to go on from.") from error
    torch.set_rng_state(tensors["random.cpu"])
    return position


def load_weights(path: Path, network: nn.Module) -> None:
    """Load a checkpoint's network only, to start from or to export.

    Raises:
        CheckpointInvalidError: If the file is damaged or of another network.
    """
    load_network(network, _read(path)[0])


def load_network(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Put weights into a network of the same configuration.

    Raises:
        CheckpointInvalidError: If they are another network's.
    """
    weights = {k.removeprefix("network."): v for k, v in tensors.items() if k[:8] == "network."}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointInvalidError(
            "The checkpoint is of another network. Use the configuration that it was made with, or "
            "start in another folder."
        ) from error


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {
                name: file.get_tensor(name) for name in list(file.keys())
            }, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointInvalidError("The checkpoint cannot be read.") from error


def _split(state: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's state as tensors by `index.name`, and the rest."""
    tensors = {
        f"{index}.{name}": value
        for index, values in state["state"].items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }
    return tensors, {"param_groups": state["param_groups"]}


def _join(tensors: dict[str, Tensor], rest: dict[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition(".")
        state.setdefault(int(index), {})[name] = value
    return {"state": state, **rest}


def _write_whole(path: Path, data: bytes) -> None:
    """A crash leaves the old file or the new one, never a part."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
