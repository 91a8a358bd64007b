"""A result folder: filled whole or not at all, and told in plain words."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.cli import screen
from service.errors import ConflictError
from service.registration.report import Report

VERDICTS = {
    "pass": ("green", "The registration worked."),
    "warn": ("yellow", "The registration may be usable; look at it before you rely on it."),
    "fail": ("red", "The registration did not work; do not use it."),
}


@contextmanager
def filling(folder: Path, *, overwrite: bool) -> Iterator[Path]:
    """A scratch folder whose files move into `folder` when the block ends well.

    Raises:
        ConflictError: If the folder has something in it and `overwrite` is not set.
    """
    if folder.exists() and not folder.is_dir():
        raise ConflictError(f"{folder} is a file; name a folder with --out.", field="out")
    if folder.is_dir() and any(folder.iterdir()) and not overwrite:
        raise ConflictError(
            f"The folder {folder} is not empty; name another, or add --overwrite.", field="out"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        yield scratch
        folder.mkdir(exist_ok=True)
        for file in scratch.iterdir():
            file.replace(folder / file.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def read_report(folder: Path) -> Report:
    """The report of a result folder."""
    return Report.model_validate_json((folder / "report.json").read_bytes())


def show_report(report: Report, folder: Path) -> None:
    """The verdict, the figures behind it, and where the files are."""
    console = screen.stdout()
    colour, words = VERDICTS[report.verdict.status]
    screen.print_styled(report.verdict.status, f"bold {colour}", words)
    for reason in report.verdict.reasons:
        console.print(f"  - {reason}", soft_wrap=True)
    for warning in report.warnings:
        console.print(f"  ! {warning}", soft_wrap=True)
    rows = figures(report)
    if rows:
        figure_table = screen.table("", "before", "after")
        for row in rows:
            figure_table.add_row(*row)
        console.print(figure_table)
    seconds = sum(stage.seconds for stage in report.stages)
    spent = ", ".join(f"{stage.name} {stage.seconds:.1f}" for stage in report.stages)
    console.print(f"{seconds:.1f} s ({spent}); the answer is from: {report.answered_by}")
    console.print(f"Results: {folder}  (open {folder / 'report.html'})", soft_wrap=True)


def figures(report: Report) -> list[tuple[str, str, str]]:
    """Name, before, after; what was not measured is left out."""
    found = report.metrics
    rows = [
        ("correlation (NCC)", _number(found.ncc_before), _number(found.ncc_after)),
        ("local correlation", _number(found.lncc_before), _number(found.lncc_after)),
        ("mean Dice", _number(found.mean_dice_before), _number(found.mean_dice_after)),
        ("landmark error, mm", _number(found.tre_mm_before, 2), _number(found.tre_mm_after, 2)),
        ("folding, % of voxels", "", _number(_percent(found.folding_fraction))),
        ("largest displacement, mm", "", _number(found.max_displacement_mm, 1)),
        ("there and back, mm", "", _number(found.inverse_consistency_mm, 2)),
    ]
    return [row for row in rows if row[2]]


def _percent(fraction: float | None) -> float | None:
    return None if fraction is None else 100 * fraction


def _number(value: float | None, digits: int = 3) -> str:
    return "" if value is None else f"{value:.{digits}f}"
