"""The figures of a cohort: one row for each subject. Light: pydantic only."""

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.registration.report import Report

State = Literal["waiting", "running", "done", "failed", "cancelled"]
Status = Literal["pass", "warn", "fail"]

# What a table shows of the metrics, as the report has it.
FIGURES = (
    "ncc_before",
    "ncc_after",
    "lncc_before",
    "lncc_after",
    "mean_dice_before",
    "mean_dice_after",
    "tre_mm_before",
    "tre_mm_after",
    "folding_fraction",
    "sdlogj",
)
ENDED = frozenset({"done", "failed", "cancelled"})


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Row(_Part):
    """One subject. Figures that were not measured are null."""

    id: str
    state: State
    verdict: Status | None = None
    reasons: list[str] = Field(default_factory=list)
    ncc_before: float | None = None
    ncc_after: float | None = None
    lncc_before: float | None = None
    lncc_after: float | None = None
    mean_dice_before: float | None = None
    mean_dice_after: float | None = None
    tre_mm_before: float | None = None
    tre_mm_after: float | None = None
    folding_fraction: float | None = None
    sdlogj: float | None = None
    seconds: float | None = None
    problem: dict[str, Any] | None = Field(None, description="Why there is no result.")

    @classmethod
    def of_report(cls, subject_id: str, report: Report) -> "Row":
        """A subject with a result."""
        seconds = sum(stage.seconds for stage in report.stages)
        return cls.of_summary(subject_id, report.summary(), seconds)

    @classmethod
    def of_summary(
        cls, subject_id: str, summary: Mapping[str, Any], seconds: float | None
    ) -> "Row":
        """A subject of which only `Report.summary` is at hand."""
        verdict, metrics = summary.get("verdict") or {}, summary.get("metrics") or {}
        return cls(
            id=subject_id,
            state="done",
            verdict=verdict.get("status"),
            reasons=verdict.get("reasons") or [],
            seconds=None if seconds is None else round(seconds, 3),
            **{name: metrics.get(name) for name in FIGURES},
        )

    @classmethod
    def of_problem(
        cls, subject_id: str, problem: Mapping[str, Any], seconds: float | None = None
    ) -> "Row":
        """A subject that could not be registered."""
        rounded = None if seconds is None else round(seconds, 3)
        return cls(id=subject_id, state="failed", problem=dict(problem), seconds=rounded)

    @property
    def has_failed(self) -> bool:
        """Whether there is no result, or none that may be used."""
        return self.state in ("failed", "cancelled") or self.verdict == "fail"


class Table(_Part):
    """A cohort, in the order in which its subjects were given."""

    counts: dict[str, int] = Field(
        description="Subjects by state, and of those that are done by verdict."
    )
    subjects: list[Row]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> "Table":
        return cls(counts=counts(rows), subjects=list(rows))

    def as_csv(self) -> str:
        """One line for each subject, under a line of names."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in self.subjects:
            problem = row.problem or {}
            plain = row.model_dump() | {
                "problem": problem.get("code"),
                "detail": problem.get("detail") or "; ".join(row.reasons),
            }
            writer.writerow(["" if plain[name] is None else plain[name] for name in COLUMNS])
        return text.getvalue()


COLUMNS = ("id", "state", "verdict", *FIGURES, "seconds", "problem", "detail")


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """How many subjects are in each state, and how many verdicts there are of each kind."""
    states = Counter[str](row.state for row in rows)
    verdicts = Counter(row.verdict for row in rows)
    found: dict[str, int] = {kind: verdicts[kind] for kind in ("pass", "warn", "fail")}
    return dict(states) | {kind: count for kind, count in found.items() if count}


def worst_first(rows: Sequence[Row]) -> list[Row]:
    """By verdict, no result before any; then by similarity, least first."""
    order = {"fail": 1, "warn": 2, "pass": 3, None: 4}

    def badness(row: Row) -> tuple[int, float]:
        is_lost = row.state in ("failed", "cancelled")
        similarity = row.lncc_after if row.lncc_after is not None else -1.0
        return 0 if is_lost else order[row.verdict], similarity

    return sorted(rows, key=badness)
