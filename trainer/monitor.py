"""What a training tells while it runs, and who listens.

`metrics.jsonl` is the record; TensorBoard, MLflow, the progress bar and the stream of events show
the same figures elsewhere.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from service.errors import MissingExtraError
from trainer.config import TrainConfig

METRICS, MLFLOW_RUN = "metrics.jsonl", "mlflow-run.txt"
Told = Mapping[str, Any]


class Observer(Protocol):
    """Hears of each event: `step`, `validation`, `checkpoint`, `picture`, `stage`, `done`."""

    def hear(self, kind: str, told: Told) -> None: ...

    def close(self) -> None: ...


class Monitor:
    """Tells every observer; of several processes only the first has any."""

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = tuple(observers)

    @classmethod
    def of(cls, out: Path, config: TrainConfig, *, events: bool, is_silent: bool) -> "Monitor":
        """The usual observers.

        Args:
            out: The training's folder.
            config: What is trained.
            events: Write each event as a line of JSON to stdout, for a program that watches.
            is_silent: Show nothing on the terminal.

        Raises:
            MissingExtraError: If MLFLOW_TRACKING_URI is set and MLflow is not installed.
        """
        observers: list[Observer] = [Record(out), Board(out)]
        if os.environ.get("MLFLOW_TRACKING_URI"):
            observers.append(MlflowRun(config, out))
        if events:
            observers.append(EventStream())
        elif not is_silent:
            observers.append(Bar())
        return cls(observers)

    def tell(self, kind: str, **told: Any) -> None:
        """Something happened."""
        for observer in self._observers:
            observer.hear(kind, told)

    def close(self) -> None:
        """Write what is still held back."""
        for observer in self._observers:
            observer.close()


class Record:
    """`metrics.jsonl`: a line for each step and each validation, and for the loss that broke."""

    def __init__(self, out: Path) -> None:
        self._path = out / METRICS
        self._file: TextIO | None = None

    def hear(self, kind: str, told: Told) -> None:
        if kind in ("step", "validation", "diverged"):
            if self._file is None:  # not before: a resumed training shortens the file first
                self._file = self._path.open("a", encoding="utf-8")
            self._file.write(json.dumps({"kind": kind, **told}) + "\n")
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


def forget_after(out: Path, step: int) -> None:
    """Drop the record's lines that a resumed training will write again."""
    path = out / METRICS
    if not path.is_file():
        return
    lines = path.read_text("utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step]
    part = path.with_suffix(".part")
    part.write_text("".join(kept), "utf-8")
    part.replace(path)


class EventStream:
    """A line of JSON on stdout for each event; names of pairs stay in the record."""

    def hear(self, kind: str, told: Told) -> None:
        shown = {key: value for key, value in told.items() if key != "pairs"}
        sys.stdout.write(json.dumps({"event": kind, **shown}) + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        sys.stdout.flush()


class Board:
    """TensorBoard."""

    def __init__(self, out: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._out = out
        self._writer = SummaryWriter(str(out / "tensorboard"))

    def hear(self, kind: str, told: Told) -> None:
        for name, value in _figures(kind, told).items():
            self._writer.add_scalar(name, value, told["step"])
        if kind == "picture":
            import numpy as np
            from PIL import Image

            with Image.open(self._out / told["path"]) as image:
                pixels = np.asarray(image.convert("RGB"))
            self._writer.add_image("validation", pixels, told["step"], dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class MlflowRun:
    """A run on the MLflow server that MLFLOW_TRACKING_URI names."""

    def __init__(self, config: TrainConfig, out: Path) -> None:
        try:
            import mlflow
        except ImportError as error:
            raise MissingExtraError(
                "MLFLOW_TRACKING_URI is set, but MLflow is not installed; install the extra "
                "mlflow, or unset it."
            ) from error
        self._mlflow = mlflow
        mlflow.set_experiment(config.name)
        # A resumed training goes on with its run.
        kept = out / MLFLOW_RUN
        run = mlflow.start_run(run_id=kept.read_text("utf-8") if kept.is_file() else None)
        kept.write_text(run.info.run_id, "utf-8")
        mlflow.log_dict(config.model_dump(mode="json"), "config.json")

    def hear(self, kind: str, told: Told) -> None:
        if figures := _figures(kind, told):
            self._mlflow.log_metrics(figures, step=told["step"])

    def close(self) -> None:
        self._mlflow.end_run()


def _figures(kind: str, told: Told) -> dict[str, float]:
    """The figures of an event, by a name that says which event."""
    if kind == "step":
        losses = {f"train/{name}": value for name, value in told["losses"].items()}
        return losses | {"learning_rate": told["learning_rate"]}
    if kind == "validation":
        return {f"validation/{name}": value for name, value in told["figures"].items()}
    return {}


class Bar:
    """A progress bar with the time left on a terminal; elsewhere a line at each validation."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self._console = Console(stderr=True, highlight=False, markup=False)
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total}"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[losses]}"),
            console=self._console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, epoch=0, losses="")
        if self._console.is_terminal:
            self._progress.start()

    def hear(self, kind: str, told: Told) -> None:
        if kind == "step":
            self._progress.update(
                self._task,
                completed=told["step"],
                total=told["steps"],
                epoch=told["epoch"],
                losses=_line(told["losses"]),
            )
        elif kind == "validation":
            best = "  best so far" if told["best"] else ""
            self._say(f"epoch {told['epoch']}  {_line(told['figures'])}{best}")
        elif kind == "stage":
            self._say(f"{told['stage']} ...")

    def close(self) -> None:
        self._progress.stop()

    def _say(self, sentence: str) -> None:
        self._console.print(sentence, soft_wrap=True)


def _line(figures: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in figures.items())
