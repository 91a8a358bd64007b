"""Measure models by the serving pipeline: figures per pair and label, statistics, a page.

What is measured is what a caller of the service gets: files in, the delivered field and labels
out, on the fixed image's own grid.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from service.errors import TrainingDataError, WarplineError
from service.registration.card import Figure
from service.registration.engine import Engine
from service.registration.files.volume_file import write_volume
from service.registration.models_folder import Models
from service.registration.options import InitialiseChoice, RegisterOptions
from service.registration.pipeline import register_files
from service.registration.progress import Watch, unwatched
from trainer.evaluation.cases import (
    EvaluationCase,
    Opened,
    open_case,
    pair_set_digest,
    require_cases,
)
from trainer.evaluation.comparison import Comparison, compare
from trainer.evaluation.measures import (
    BY_LABEL,
    METRICS,
    Figures,
    initial_affine,
    label_figures,
    pair_figures,
    union_map,
)
from trainer.evaluation.page import write_page
from trainer.evaluation.pictures import draw_case
from trainer.evaluation.ranking import Ranking
from trainer.evaluation.statistics import (
    WHOLE,
    Row,
    Summary,
    summaries,
    write_rows,
    write_summaries,
)

__all__ = ["Evaluation", "EvaluationCase", "EvaluationOptions", "ServedModel", "evaluate"]

AGAINST, COMPARISON = "against", "comparison.json"
FIGURES = {
    "dice": "mean Dice of the labels",
    "tre_mm": "mean TRE in mm",
    "hd95_mm": "mean HD95 in mm",
}


@dataclass(frozen=True)
class ServedModel:
    """A model as the service names it: a reference in a folder of models."""

    models: Models
    ref: str

    def load(self) -> Engine:
        """The engine; see `ModelFolder.load`."""
        return self.models.load(self.ref)


@dataclass(frozen=True)
class EvaluationOptions:
    """How pairs are registered and what is told.

    Attributes:
        refine: The service's refinement after the network.
        initialise: The service's initial alignment; `model` is what the card says.
        labels: The labels that count; empty for all.
        shown: Worst and best pairs that are pictured, and whose results are kept.
        data: What the pairs are, in words, for the card.
        seed: Of stages that draw random numbers.
    """

    refine: Literal["none", "fast", "best"] = "none"
    initialise: InitialiseChoice = "model"
    labels: tuple[int, ...] = ()
    shown: int = 3
    data: str = "held-out pairs"
    seed: int = 0


@dataclass(frozen=True)
class Failure:
    """A pair that the pipeline refused or could not register."""

    pair: str
    code: str
    detail: str


@dataclass
class Evaluation:
    """What one model reached. Written as `evaluation.json`."""

    model: dict[str, str]
    pair_set: str
    options: dict[str, Any]
    initialised: str  # how, as resolved by the card
    rows: list[Row] = field(default_factory=list)
    verdicts: dict[str, str] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    statistics: dict[str, dict[str, Summary]] = field(default_factory=dict)
    figures: tuple[Figure, ...] = ()
    worst: list[str] = field(default_factory=list)
    best: list[str] = field(default_factory=list)
    comparison: Comparison | None = None
    pictures: dict[str, dict[str, bytes]] = field(default_factory=dict)  # PNGs by pair and title

    @property
    def pairs(self) -> int:
        """How many pairs were measured."""
        return len(self.verdicts)

    def document(self) -> dict[str, Any]:
        """`evaluation.json`."""
        counts = {v: list(self.verdicts.values()).count(v) for v in ("pass", "warn", "fail")}
        return {
            "model": self.model,
            "pair_set": self.pair_set,
            "pairs": self.pairs,
            "failures": [asdict(failure) for failure in self.failures],
            "options": self.options,
            "initialised": self.initialised,
            "software": f"warpline {version('warpline')}",
            "verdicts": counts,
            "figures": [figure.model_dump(mode="json") for figure in self.figures],
            "statistics": {
                label: {name: asdict(summary) for name, summary in columns.items()}
                for label, columns in self.statistics.items()
            },
            "worst": self.worst,
            "best": self.best,
        }


def evaluate(
    model: ServedModel,
    cases: Sequence[EvaluationCase],
    out: Path,
    *,
    against: ServedModel | None = None,
    options: EvaluationOptions | None = None,
    watch: Watch = unwatched,
) -> Evaluation:
    """Register every pair as the service would, and write what came of it into `out`.

    `metrics.csv`, `statistics_per_label.csv`, `statistics_overall.csv`, `evaluation.json`,
    `evaluation.html`, and in `pairs/` the whole results of the worst and the best pairs. With a
    second model the same in `against/`, and `comparison.json`.

    Args:
        model: What is measured.
        cases: The pairs.
        out: Made if missing; files of the same names are replaced.
        against: A model that is measured on the same pairs and compared with.
        options: How; see EvaluationOptions.
        watch: Told the pair and the fraction of the whole; may raise to stop.

    Raises:
        TrainingDataError: If there are no pairs, or none could be registered.
        ModelNotFoundError: If there is no such model.
        ModelInvalidError: If a model is not what its card says.
    """
    options = options or EvaluationOptions()
    require_cases(cases)
    models = [model] if against is None else [model, against]
    engines = [served.load() for served in models]  # fails before the first pair is registered
    digest = pair_set_digest(cases)
    folders = [out, out / AGAINST]
    found = []
    for n, (served, engine, folder) in enumerate(zip(models, engines, folders, strict=False)):
        run = _Run(served, engine, options, folder, watch, (n / len(models), 1 / len(models)))
        found.append(run.measure(cases, digest))
    if len(found) == 2:
        found[0].comparison = compare(found[0].rows, found[1].rows, METRICS)
        _write_comparison(out / COMPARISON, found[0], found[1])
    for evaluation, folder in zip(found, folders, strict=False):
        _write(evaluation, folder, found[1] if evaluation is found[0] and found[1:] else None)
    return found[0]


@dataclass(frozen=True)
class _Run:
    """One model over all pairs."""

    served: ServedModel
    engine: Engine
    options: EvaluationOptions
    out: Path
    watch: Watch
    span: tuple[float, float]  # where its share of the whole begins, and how large it is

    def measure(self, cases: Sequence[EvaluationCase], digest: str) -> Evaluation:
        card = self.engine.card
        found = Evaluation(
            {"name": card.name, "version": card.version, "sha256": card.sha256},
            digest,
            asdict(self.options),
            card.initialise or "affine"
            if self.options.initialise == "model"
            else self.options.initialise,
        )
        ranking = Ranking(self.out / "pairs", self.options.shown)
        for n, case in enumerate(cases):
            self.watch(case.name, self.span[0] + self.span[1] * n / len(cases))
            try:
                labels, whole, verdict = self._one(case, ranking.folder_of(case.name))
            except WarplineError as error:
                if error.http_status >= 500:
                    raise
                found.failures.append(Failure(case.name, error.slug, error.detail))
                ranking.drop(case.name)
                continue
            found.rows += [Row(case.name, str(n), figures) for n, figures in labels.items()]
            found.rows.append(Row(case.name, WHOLE, whole))
            found.verdicts[case.name] = verdict
            ranking.add(case.name, whole)
        ranking.settle()
        found.worst, found.best = ranking.worst, ranking.best
        for case in cases:
            if case.name in (*found.worst, *found.best):
                found.pictures[case.name] = _drawn(case, ranking.folder_of(case.name))
        _require_some(found)
        found.statistics = summaries(found.rows, METRICS)
        found.figures = _figures(found, self.options)
        return found

    def _one(self, case: EvaluationCase, folder: Path) -> tuple[dict[int, Figures], Figures, str]:
        """Register one pair into its folder and measure what was delivered."""
        scratch = folder / "inputs"
        opened = open_case(case, scratch)
        files = dict(opened.files)
        card = self.engine.card
        if card.output.kind == "warped_label" and "moving_labels" not in files:
            files |= _one_map(opened, scratch)
        order = RegisterOptions(
            model=f"{card.name}/{card.version}",
            refine=self.options.refine,
            initialise=self.options.initialise,
            seed=self.options.seed,
        )
        report = register_files(files, order, folder, self.served.models)
        initial = initial_affine(opened, folder, self.engine, self.options.initialise)
        labels = label_figures(opened, folder, self.engine, initial, self.options.labels)
        whole = pair_figures(report, labels, opened, initial)
        shutil.rmtree(scratch)
        return labels, whole, report.verdict.status


def _one_map(opened: Opened, scratch: Path) -> dict[str, Path]:
    """Labels that overlap, as one map: a model that segments is not run without labels."""
    if opened.moving_labels is None:
        return {}
    path = scratch / "moving_labels.nii"
    write_volume(path, union_map(opened.moving_labels))
    return {"moving_labels": path}


def _drawn(case: EvaluationCase, folder: Path) -> dict[str, bytes]:
    pictures = draw_case(case, folder)
    shutil.rmtree(folder / "inputs", ignore_errors=True)
    return pictures


def _require_some(found: Evaluation) -> None:
    if not found.verdicts:
        first = found.failures[0]
        raise TrainingDataError(
            f"None of the {len(found.failures)} pairs could be registered; the first failed with "
            f"{first.code}: {first.detail}",
            errors=tuple(
                {"field": f.pair, "detail": f.detail, "place": f"pair {n}"}
                for n, f in enumerate(found.failures, start=1)
            ),
        )


def _figures(found: Evaluation, options: EvaluationOptions) -> tuple[Figure, ...]:
    """What the card tells: means over pairs, after the initial alignment and as delivered."""
    whole = found.statistics[WHOLE]
    how = (
        f"the serving pipeline; before: the initial alignment alone ({found.initialised}); after: "
        f"the network, refine {options.refine}"
    )
    return tuple(
        Figure(
            data=f"{options.data} (pair set {found.pair_set[:12]})",
            pairs=whole[column].count,
            metric=metric,
            before=round(whole[f"{column}_initial"].mean, 4),
            after=round(whole[column].mean, 4),
            how=how,
        )
        for column, metric in FIGURES.items()
        if column in whole and f"{column}_initial" in whole
    )


def _write(found: Evaluation, out: Path, second: Evaluation | None) -> None:
    write_rows(out / "metrics.csv", found.rows)
    overall = {WHOLE: found.statistics[WHOLE]}
    labels = {label: c for label, c in found.statistics.items() if label != WHOLE}
    labels = {n: {c: s for c, s in cs.items() if _is_of_labels(c)} for n, cs in labels.items()}
    write_summaries(out / "statistics_overall.csv", overall)
    write_summaries(out / "statistics_per_label.csv", labels)
    _write_json(out / "evaluation.json", found.document())
    write_page(out, found, second)


def _is_of_labels(column: str) -> bool:
    return column.removesuffix("_before").removesuffix("_initial") in BY_LABEL


def _write_comparison(path: Path, first: Evaluation, second: Evaluation) -> None:
    if first.comparison is not None:
        told = {"first": first.model, "second": second.model, "pair_set": first.pair_set}
        _write_json(path, told | asdict(first.comparison))


def _write_json(path: Path, document: dict[str, Any]) -> None:
    text = json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", "utf-8")
