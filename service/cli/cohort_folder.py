"""A cohort's folder: one result folder for each subject, and the table and page over them."""

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pydantic

from service.checksums import sha256_of
from service.cli.cohort_list import Subject
from service.registration.cohort.table import Row, Table
from service.registration.options import RegisterOptions
from service.registration.report import Report

PROBLEM = "problem.json"


@dataclass(frozen=True)
class Wanted:
    """What the results of a cohort must have been made of to be whole."""

    fixed: Mapping[str, Path]
    options: RegisterOptions
    model_sha256: str
    _sums: dict[Path, str] = field(default_factory=dict)

    def is_met(self, folder: Path, subject: Subject) -> Report | None:
        """The report of a result of the same inputs, options and model whose files are there."""
        try:
            report = Report.model_validate_json((folder / "report.json").read_bytes())
        except (OSError, pydantic.ValidationError):
            return None
        settings = self.options.model_dump(mode="json", exclude_none=True)
        is_whole = all(
            (folder / name).is_file() and (folder / name).stat().st_size == file.bytes
            for name, file in report.files.items()
        )
        is_same = (
            report.provenance.settings == settings
            and report.model is not None
            and report.model.sha256 == self.model_sha256
        )
        if is_whole and is_same and report.provenance.inputs == self.inputs(subject):
            return report
        return None

    def inputs(self, subject: Subject) -> dict[str, str]:
        """The digest of every file of a subject, by role, as a report tells them."""
        every = dict(self.fixed) | subject.files
        return {role: self._sum(path) for role, path in every.items()}

    def _sum(self, path: Path) -> str:
        if path not in self._sums:
            self._sums[path] = sha256_of(path)
        return self._sums[path]


@dataclass
class CohortFolder:
    """Rows in the order of the list; each change is on disk when it is told."""

    root: Path
    rows: dict[str, Row]

    @classmethod
    def of(cls, root: Path, subjects: list[Subject]) -> "CohortFolder":
        root.mkdir(parents=True, exist_ok=True)
        return cls(root, {one.id: Row(id=one.id, state="waiting") for one in subjects})

    def set(self, row: Row) -> None:
        """Note how a subject ended."""
        self.rows[row.id] = row
        self.write_table()

    @property
    def table(self) -> Table:
        return Table.of(list(self.rows.values()))

    def write_table(self) -> None:
        """Write `cohort.csv` and `cohort.json`."""
        table = self.table
        _write(self.root / "cohort.csv", table.as_csv())
        _write(self.root / "cohort.json", table.model_dump_json(indent=1) + "\n")

    def write_page(self) -> None:
        """Write `cohort.html`."""
        from service.registration.cohort.page import render_cohort

        self.write_table()
        links = {
            name: f"{name}/report.html" for name, row in self.rows.items() if row.state == "done"
        }
        _write(self.root / "cohort.html", render_cohort(self.table, self._overlay, links))

    def _overlay(self, subject_id: str) -> bytes | None:
        with suppress(OSError):
            return (self.root / subject_id / "overlay.png").read_bytes()
        return None


def put(scratch: Path, folder: Path) -> None:
    """A finished result takes its place, whole."""
    shutil.rmtree(folder, ignore_errors=True)
    scratch.replace(folder)


def put_problem(problem: Mapping[str, Any], folder: Path) -> None:
    """Why there is no result, in place of one that was made of something else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _write(folder / PROBLEM, json.dumps(problem, indent=1, ensure_ascii=False) + "\n")


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
