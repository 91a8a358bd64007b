"""What a trainer leaves: results, a model with its card, and a comparison; or an error."""

import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pydantic

from service import errors
from service.checksums import sha256_of
from service.errors import (
    FencedOutError,
    JobCancelledError,
    JobExpiredError,
    ModelInvalidError,
    TrainingFailedError,
    WarplineError,
)
from service.jobs.job import Job
from service.jobs.model import ComparedMetric, Comparison, Verdict
from service.jobs.runner import MadeModel, Outcome, Output
from service.paths import checked_path
from service.registration.card import Card
from service.worker.training_faults import placed

log = logging.getLogger(__name__)

EVALUATION = "evaluation"
# Metrics of which more is better; the comparison does not say it.
LARGE_IS_GOOD = frozenset({"dice", "ncc"})
VERDICTS = {"better": Verdict.BETTER, "worse": Verdict.WORSE}
RECORDS = ("config.yaml", "metrics.jsonl")
MEDIA_TYPES = {
    ".onnx": "application/octet-stream",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".yaml": "application/yaml",
    ".html": "text/html",
    ".csv": "text/csv",
    ".md": "text/markdown",
    ".png": "image/png",
}
# What only the job store decides.
NOT_ITS_TO_SAY = (WarplineError, JobCancelledError, JobExpiredError, FencedOutError)
PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
LONGEST_SENTENCE, MOST_FAULTS, MOST_FILES = 2000, 200, 200


def outcome_of(job: Job, out: Path, model: str) -> Outcome:
    """The results and the model in a training's folder.

    Args:
        job: What was ordered.
        out: The folder.
        model: Path of the model below it.

    Raises:
        TrainingFailedError: If the model is missing or is not the one that was ordered.
    """
    folder = out / checked_path(model)
    files = {path.name: _output(path) for path in _results(out, folder)}
    made = _model(job, folder, out / EVALUATION)
    comparison = None if made is None else made.comparison
    summary: dict[str, Any] = {"training": _summary(out)}
    if made is not None:
        summary["model"] = made.id.model_dump()
        summary["comparison"] = None if comparison is None else comparison.model_dump(mode="json")
    return Outcome(files, summary, made)


def _results(out: Path, model: Path) -> Iterator[Path]:
    yield from [path for path in (out / name for name in RECORDS) if path.is_file()]
    yield from _files(model)
    yield from _files(out / EVALUATION)


def _files(folder: Path) -> list[Path]:
    """Plain files of a folder, without those below."""
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    plain = [path for path in found if path.is_file() and not path.is_symlink()]
    return [path for path in plain if PLAIN.fullmatch(path.name)][:MOST_FILES]


def _output(path: Path) -> Output:
    return Output(path, MEDIA_TYPES.get(path.suffix, "application/octet-stream"))


def _model(job: Job, folder: Path, evaluation: Path) -> MadeModel | None:
    wanted = job.request.publishes
    if wanted is None:
        return None
    files = {path.name: _output(path) for path in _files(folder)}
    try:
        card = Card.read(folder / "card.json")
    except ModelInvalidError as error:
        raise TrainingFailedError(f"The trainer left no valid model: {error.detail}") from error
    graph = folder / "model.onnx"
    if not graph.is_file() or sha256_of(graph) != card.sha256:
        raise TrainingFailedError("The trainer left no model, or another than its card says.")
    if (card.name, card.version) != (wanted.name, wanted.version):
        raise TrainingFailedError(f"The trainer made {card.name}/{card.version}, not {wanted}.")
    return MadeModel(wanted, files, card.model_dump(mode="json"), _comparison(evaluation))


def _comparison(folder: Path) -> Comparison | None:
    """How the model did beside the one in production; without it nobody can promote unseen."""
    path = folder / "comparison.json"
    if not path.is_file():
        return None
    try:
        told = json.loads(path.read_bytes())
        other = told["second"]
        return Comparison(
            against=f"{other['name']}/{other['version']}",
            pairs=max((metric["pairs"] for metric in told["metrics"].values()), default=0),
            digest=told["pair_set"],
            metrics={name: _metric(name, found) for name, found in told["metrics"].items()},
            verdict=VERDICTS.get(told["first_is"], Verdict.EQUAL),
        )
    except (pydantic.ValidationError, ValueError, LookupError, TypeError, AttributeError):
        log.warning("the trainer's comparison is not one")
        return None


def _metric(name: str, found: Mapping[str, Any]) -> ComparedMetric:
    return ComparedMetric(
        candidate=found["first"],
        production=found["second"],
        higher_is_better=name in LARGE_IS_GOOD,
        wins=found["wins"],
        losses=found["losses"],
        p_value=found["p"],
    )


def _summary(out: Path) -> dict[str, Any]:
    """The last step's figures, for whoever only lists jobs."""
    try:
        lines = (out / "metrics.jsonl").read_text("utf-8").splitlines()
        told = [json.loads(line) for line in lines[-2000:]]
    except (OSError, ValueError):
        return {}
    found: dict[str, Any] = {}
    for line in told:
        if line.get("kind") == "step":
            found |= {"steps": line.get("step"), "losses": line.get("losses")}
        elif line.get("kind") == "validation":
            found["validation"] = line.get("figures")
    return found


def error_of(event: Mapping[str, Any], root: Path | None = None) -> WarplineError:
    """The error that a trainer told, as our own kind; a code that we do not know is a failure.

    Args:
        event: What it told.
        root: The data root; names of files below it become places.
    """
    detail = str(event.get("detail") or "")[:LONGEST_SENTENCE] or None
    faults = event.get("errors")
    listed = faults if isinstance(faults, list) else []
    kept = [fault for fault in listed if isinstance(fault, dict)][:MOST_FAULTS]
    field = placed(event, root)["field"] if isinstance(event.get("field"), str) else None
    kinds = {kind.slug: kind for kind in _tree(WarplineError) if kind not in NOT_ITS_TO_SAY}
    kind = kinds.get(str(event.get("code")))
    return (kind or TrainingFailedError)(
        detail, field=field, errors=tuple(placed(fault, root) for fault in kept)
    )


def _tree(kind: type[WarplineError]) -> Iterator[type[WarplineError]]:
    if kind.__module__.startswith(f"{errors.__name__}."):
        yield kind
    for child in kind.__subclasses__():
        yield from _tree(child)
