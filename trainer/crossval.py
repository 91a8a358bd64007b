"""Cross-validation: train each fold in a process of its own, then one table over all folds.

`python -m trainer.crossval CONFIG... --out FOLDER`; `warpline crossval` starts it.
"""

import argparse
import csv
import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from service.errors import TrainingFailedError, TrainingStoppedError, ValidationError
from trainer.command_line import STOPPED, guarded, print_json, print_table
from trainer.config import read_config

TRAIN = (sys.executable, "-m", "trainer", "train")
EVALUATED = Path("evaluation") / "evaluation.json"


@dataclass(frozen=True)
class CrossvalOrder:
    """What to cross-validate.

    Attributes:
        configs: YAML files of the training, later ones above.
        out: Gets `fold-N/` for each fold, and the table.
        data: The data root, instead of the configuration's.
        folds: How many, instead of the configuration's.
        changes: `section.option=value`, above every file.
        resume: Keep folds that are done and go on with one that was stopped.
        is_quiet: Show nothing while folds train.
    """

    configs: Sequence[Path]
    out: Path
    data: Path | None = None
    folds: int | None = None
    changes: Sequence[str] = ()
    resume: bool = False
    is_quiet: bool = False


@dataclass(frozen=True)
class OverFolds:
    """One column of the evaluations: its mean in each fold, and over the folds mean and std."""

    mean: float
    std: float
    folds: tuple[float, ...]


@dataclass(frozen=True)
class CrossValidation:
    """What came of all folds; `pairs` counts those that each fold was tested on."""

    pairs: tuple[int, ...]
    table: dict[str, OverFolds]

    def document(self) -> dict[str, Any]:
        """`crossval.json`; what a fold could not measure is null."""
        return {
            "folds": len(self.pairs),
            "pairs": self.pairs,
            "metrics": {
                name: {
                    "mean": entry.mean,
                    "std": entry.std,
                    "folds": [x if math.isfinite(x) else None for x in entry.folds],
                }
                for name, entry in self.table.items()
            },
        }


def crossval(order: CrossvalOrder, command: Sequence[str] = TRAIN) -> CrossValidation:
    """Train and evaluate every fold, one after the other, and write the table.

    Writes `crossval.csv` and `crossval.json` beside the folds' folders.

    Args:
        order: What to do.
        command: Starts one training; takes what `python -m trainer train` takes.

    Raises:
        ValidationError: If the configuration is wrong, or its splits are no folds.
        TrainingFailedError: If a fold failed; it said why on stderr.
        TrainingStoppedError: If a fold was stopped; `resume` goes on from there.
    """
    count, changes = _folds(order)
    folders = [order.out / f"fold-{fold}" for fold in range(count)]
    for fold, folder in enumerate(folders):
        if not (order.resume and (folder / EVALUATED).is_file()):
            _train(order, changes, fold, folder, command)
    found = _gathered([json.loads((folder / EVALUATED).read_text("utf-8")) for folder in folders])
    _write(order.out, found)
    return found


def _folds(order: CrossvalOrder) -> tuple[int, list[str]]:
    """How many folds, and the changes that the trainings are told."""
    changes = list(order.changes)
    if order.folds is not None:
        changes.append(f"data.splits.folds={order.folds}")
    config = read_config(order.configs, order.changes)
    if config.data.splits.kind != "folds":
        raise ValidationError(
            "Cross-validation needs folds: set data.splits to {kind: folds, folds: 5}.",
            field="/data/splits/kind",
        )
    config = read_config(order.configs, changes)
    return config.data.splits.folds, changes  # type: ignore[union-attr]


def _train(
    order: CrossvalOrder, changes: Sequence[str], fold: int, folder: Path, command: Sequence[str]
) -> None:
    line = [*command, *map(str, order.configs), "--out", str(folder), "--fold", str(fold)]
    line += [] if order.data is None else ["--data", str(order.data)]
    for change in changes:
        line += ["--set", change]
    line += ["--resume"] if order.resume and folder.is_dir() else []
    line += ["--quiet"] if order.is_quiet else []
    code = _waited(subprocess.Popen(line))
    if code == STOPPED:
        raise TrainingStoppedError(
            f"Fold {fold} was stopped and wrote a checkpoint; --resume goes on from there."
        )
    if code != 0:
        raise TrainingFailedError(f"Fold {fold} ended with exit code {code}; it said why above.")
    if not (folder / EVALUATED).is_file():
        raise TrainingFailedError(f"Fold {fold} has no test pairs, so nothing was measured.")


def _waited(process: "subprocess.Popen[bytes]") -> int:
    """The exit code; Ctrl-C reaches the child too, which saves its state before it ends."""
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue


def _gathered(evaluations: Sequence[dict[str, Any]]) -> CrossValidation:
    wholes = [evaluation["statistics"]["all"] for evaluation in evaluations]
    columns = dict.fromkeys(column for whole in wholes for column in whole)
    table = {}
    for column in columns:
        values = [float(w[column]["mean"]) if column in w else math.nan for w in wholes]
        known = [value for value in values if math.isfinite(value)]
        std = float(np.std(known, ddof=1)) if len(known) > 1 else 0.0
        table[column] = OverFolds(float(np.mean(known)), std, tuple(values))
    return CrossValidation(tuple(int(e["pairs"]) for e in evaluations), table)


def _write(out: Path, found: CrossValidation) -> None:
    with (out / "crossval.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["metric", "mean", "std", *(f"fold_{n}" for n in range(len(found.pairs)))])
        for name, entry in found.table.items():
            cells = [f"{x:.6g}" if math.isfinite(x) else "" for x in entry.folds]
            table.writerow([name, f"{entry.mean:.6g}", f"{entry.std:.6g}", *cells])
    text = json.dumps(found.document(), indent=2, allow_nan=False)
    (out / "crossval.json").write_text(text + "\n", "utf-8")


def show(found: CrossValidation) -> None:
    """Mean ± standard deviation over the folds, before and after, on stdout."""
    rows = []
    for name, entry in found.table.items():
        if not name.endswith(("_before", "_initial")):
            starts = (found.table.get(f"{name}{when}") for when in ("_before", "_initial"))
            before = ("" if start is None else f"{start.mean:.4g}" for start in starts)
            folds = ", ".join(f"{value:.4g}" for value in entry.folds)
            rows.append((name, *before, f"{entry.mean:.4g} ± {entry.std:.2g}", folds))
    print_table(("mean over folds", "before", "initial", "after", "folds"), rows)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m trainer.crossval", description=__doc__)
    parser.add_argument("config", type=Path, nargs="+", help="YAML files, later ones above")
    parser.add_argument("--out", type=Path, required=True, help="folder of all folds")
    parser.add_argument("--data", type=Path, help="the data root")
    parser.add_argument("--folds", type=int, help="how many, instead of the configuration's")
    parser.add_argument("--set", action="append", default=[], metavar="OPTION=VALUE")
    parser.add_argument("--resume", action="store_true", help="keep what is done")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    chosen = parser.parse_args(arguments)
    order = CrossvalOrder(
        chosen.config,
        chosen.out,
        data=chosen.data,
        folds=chosen.folds,
        changes=chosen.set,
        resume=chosen.resume,
        is_quiet=chosen.json,
    )

    def work() -> None:
        found = crossval(order)
        if chosen.json:
            print_json(found.document())
        else:
            show(found)

    return guarded(work, as_json=chosen.json)


if __name__ == "__main__":
    sys.exit(main())
