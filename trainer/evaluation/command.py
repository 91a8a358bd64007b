"""`python -m trainer.evaluation.command MODEL ...`; `warpline evaluate` starts it."""

import argparse
import csv
import json
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.errors import InvalidRequestError, ModelNotFoundError, TrainingDataError
from service.registration.card import Card
from service.registration.models_folder import CARD, GRAPH, ModelFolder, open_engine
from service.registration.roles import IMAGE_ROLES, LABEL_ROLES, POINT_ROLES
from trainer.command_line import guarded, print_json, print_table
from trainer.config import read_config

if TYPE_CHECKING:
    from service.registration.engine import Engine
    from trainer.evaluate import Evaluation, EvaluationCase, ServedModel

ROLES = (*IMAGE_ROLES, *LABEL_ROLES, *POINT_ROLES)


def main(arguments: list[str] | None = None) -> int:
    """Evaluate a model; 0 done, 1 failed, 2 bad input."""
    chosen = _parser().parse_args(arguments)
    return guarded(lambda: _evaluate(chosen), as_json=chosen.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m trainer.evaluation.command")
    add = parser.add_argument
    add("model", help="NAME, NAME/VERSION, NAME@ALIAS, a model's folder or a training's")
    add("config", type=Path, nargs="*", help="YAML files that name the data")
    add("--out", type=Path, required=True, help="folder of the evaluation")
    add("--pairs", type=Path, help="CSV of pairs, instead of a configuration")
    add("--data", type=Path, help="the data root")
    add("--split", choices=["train", "valid", "test"], default=None)
    add("--fold", type=int, help="which fold is the test, from 0")
    add("--set", action="append", default=[], metavar="OPTION=VALUE")
    add("--models", type=Path, help="folder of models; by default the shipped ones")
    add("--against", help="a model to compare with, named like MODEL")
    add("--refine", choices=["none", "fast", "best"], default=None)
    add("--initialise", default="model")
    add("--shown", type=int, default=None, help="worst and best pairs that are pictured")
    add("--json", action="store_true", help="print one JSON document")
    return parser


def _evaluate(chosen: argparse.Namespace) -> None:
    from trainer.evaluate import EvaluationOptions, evaluate

    model = served(chosen.model, chosen.models)
    against = None if chosen.against is None else served(chosen.against, chosen.models)
    cases, told = _cases(chosen)
    wanted: dict[str, Any] = {
        "refine": chosen.refine, "shown": chosen.shown, "initialise": chosen.initialise,
    }  # fmt: skip
    told |= {name: value for name, value in wanted.items() if value is not None}
    with _watched(is_shown=not chosen.json) as watch:
        found = evaluate(
            model,
            cases,
            chosen.out,
            against=against,
            options=EvaluationOptions(**told),
            watch=watch,
        )
    if chosen.json:
        print_json(found.document())
    else:
        show(found)


def served(name: str, models: Path | None = None) -> "ServedModel":
    """A model by reference, by its own folder, or by the folder of the training that made it.

    Raises:
        ModelNotFoundError: If a training's folder holds no model, or several.
    """
    from trainer.evaluate import ServedModel

    folder = Path(name)
    if (folder / CARD).is_file():
        return ServedModel(_OneModel(folder), name)
    if folder.is_dir():
        made = ModelFolder(folder / "model").list()
        if len(made) != 1:
            raise ModelNotFoundError(f"The folder holds {len(made)} models; name one of them.")
        return ServedModel(ModelFolder(folder / "model"), f"{made[0].name}/{made[0].version}")
    return ServedModel(ModelFolder(models), name)


class _OneModel:
    """A model's folder, whatever it is called; see `service.registration.models_folder.Models`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def folder(self, _ref: str) -> Path:
        return self._folder

    def load(self, _ref: str) -> "Engine":
        return self._engine

    @cached_property
    def _engine(self) -> "Engine":
        return open_engine(Card.read(self._folder / CARD), self._folder / GRAPH, "auto", None)


def _cases(chosen: argparse.Namespace) -> tuple[list["EvaluationCase"], dict[str, Any]]:
    """The pairs, and what the configuration says about how they are measured."""
    if chosen.pairs is not None:
        return read_pairs(chosen.pairs), {"data": f"pairs of {chosen.pairs.name}"}
    configs = list(chosen.config)
    own = Path(chosen.model) / "config.yaml"
    if not configs and own.is_file():
        configs = [own]
    if not configs:
        raise InvalidRequestError("Name a configuration that says where data are, or --pairs.")
    return _split(chosen, configs)


def _split(
    chosen: argparse.Namespace, configs: list[Path]
) -> tuple[list["EvaluationCase"], dict[str, Any]]:
    from trainer.data.dataset import open_acquired
    from trainer.evaluation.cases import cases_of

    changes = list(chosen.set)
    if chosen.data is not None:
        changes.append(f"data.root={json.dumps(str(chosen.data))}")
    if chosen.fold is not None:
        changes.append(f"data.splits.fold={chosen.fold}")
    config = read_config(configs, changes)
    if config.data.format == "none":
        raise InvalidRequestError("This configuration names no acquired data; send --pairs.")
    split = chosen.split or config.evaluate.split
    with tempfile.TemporaryDirectory() as cache:
        pairs = open_acquired(config.data, split, multiple=1, cache=Path(cache), seed=config.seed)
        cases = cases_of(pairs)
    return cases, {
        "refine": config.evaluate.refine,
        "shown": config.evaluate.shown,
        "labels": config.data.label_values,
        "data": f"{split} split of {config.name}",
        "seed": config.seed,
    }


def read_pairs(path: Path) -> list["EvaluationCase"]:
    """Pairs of a CSV: columns `fixed`, `moving`, and of the other roles those there are; `name`.

    Paths are relative to the file.

    Raises:
        TrainingDataError: If a column is missing or files are not there; all are named.
    """
    from trainer.evaluate import EvaluationCase

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainingDataError("The list of pairs cannot be read as CSV.") from error
    cases, faults = [], []
    for number, row in enumerate(rows, 1):
        found = {role: path.parent / row[role] for role in ROLES if row.get(role)}
        missing = [role for role in IMAGE_ROLES if role not in found]
        missing += [role for role, file in found.items() if not file.is_file()]
        faults += [{"field": f"row {number}", "detail": f"There is no {x}."} for x in missing]
        if not missing:
            cases.append(EvaluationCase.of_files(row.get("name") or f"pair {number}", **found))
    if faults:
        raise TrainingDataError(
            f"{len(faults)} files of the list of pairs are missing; the first is of "
            f"{faults[0]['field']}.",
            errors=tuple(faults),
        )
    return cases


@contextmanager
def _watched(*, is_shown: bool) -> Iterator[Any]:
    """A bar on stderr."""
    if not is_shown:
        yield lambda _pair, _fraction: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda pair, part: bar.update(task, description=pair[:40], completed=part)


def show(found: "Evaluation") -> None:
    """Means before and after, and how the models compare, on stdout."""
    from trainer.evaluation.measures import METRICS, WHEN

    whole, rows = found.statistics["all"], []
    for metric, (_, title) in METRICS.items():
        if metric in whole:
            starts = (whole.get(f"{metric}{when}") for when in WHEN[:2])
            before = ("" if start is None else f"{start.mean:.4g}" for start in starts)
            s = whole[metric]
            rows.append((title, *before, f"{s.mean:.4g} ± {s.std:.2g}", f"{s.worst_30:.4g}"))
    print_table(("mean over pairs", "before", "initial", "after", "worst 30 % at"), rows)
    for failure in found.failures:
        sys.stdout.write(f"not registered: {failure.pair}: {failure.detail}\n")
    if (made := found.comparison) is not None and made.decided_by is not None:
        paired = made.metrics[made.decided_by]
        p = "" if paired.p is None else f", p {paired.p:.2g}"
        sys.stdout.write(
            f"Compared by {made.decided_by} on {paired.pairs} pairs: {made.first_is} "
            f"({paired.wins} better, {paired.losses} worse{p}).\n"
        )


if __name__ == "__main__":
    sys.exit(main())
