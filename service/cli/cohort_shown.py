"""How a cohort fares, on stderr: one bar over all subjects and one for each that is worked on."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.cli import screen
from service.cli.cohort_folder import CohortFolder
from service.cli.cohort_list import Subject
from service.cli.cohort_subject import Ended
from service.registration.cohort.table import ENDED, Row, Table

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

COLOURS = {"pass": "green", "warn": "yellow", "fail": "red", "failed": "bold red"}


@dataclass
class Shown:
    """Keeps the folder's rows, and the bars if there are some."""

    folder: CohortFolder
    bars: "Progress | None" = None
    _tasks: "dict[str, TaskID]" = field(default_factory=dict)

    def stage(self, subject: Subject, stage: str, fraction: float) -> None:
        """A subject is being worked on."""
        self.told(subject.id, stage, fraction)

    def told(self, name: str, stage: str, fraction: float) -> None:
        """The same by id."""
        if self.bars is None:
            return
        if name not in self._tasks:
            self._tasks[name] = self.bars.add_task("", total=1.0, name=name, words="")
        self.bars.update(self._tasks[name], completed=fraction, words=stage)

    def ended(self, subject: Subject, ended: Ended) -> None:
        """A subject has its result, or its problem."""
        if ended.problem is not None:
            self.row(Row.of_problem(subject.id, ended.problem, ended.seconds))
            return
        from service.cli.results import read_report

        report = read_report(self.folder.root / subject.id)
        self.row(Row.of_report(subject.id, report))

    def row(self, row: Row) -> None:
        """The same, as a row of the table."""
        self.folder.set(row)
        if self.bars is not None:
            if row.id in self._tasks:
                self.bars.remove_task(self._tasks.pop(row.id))
            self.bars.update(self._all, completed=self._count(), words=summary(self.folder.table))
            if row.problem is not None:
                problem = f"{row.problem.get('code')}: {row.problem.get('detail')}"
                self.bars.console.print(f"{row.id}  {problem}", soft_wrap=True)

    def _count(self) -> int:
        return sum(1 for row in self.folder.rows.values() if row.state in ENDED)

    @property
    def _all(self) -> "TaskID":
        if "" not in self._tasks and self.bars is not None:
            total = len(self.folder.rows)
            self._tasks[""] = self.bars.add_task("", total=total, name="all", words="")
        return self._tasks[""]

    def begin(self) -> None:
        """Show what was done before."""
        if self.bars is not None:
            self.bars.update(self._all, completed=self._count(), words=summary(self.folder.table))


@contextmanager
def showing(folder: CohortFolder, *, is_shown: bool) -> Iterator[Shown]:
    """What is told of a cohort while it runs."""
    if not is_shown:
        yield Shown(folder)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (
        TextColumn("{task.fields[name]:<20.20}", markup=False),
        BarColumn(complete_style="cyan", finished_style="green"),
        MofNCompleteColumn(),
        Remaining(compact=True),
        TextColumn("{task.fields[words]}", markup=False),
    )
    with Progress(*columns, console=screen.stderr(), transient=True) as bars:
        shown = Shown(folder, bars)
        shown.begin()
        yield shown


def summary(table: Table) -> str:
    """Such as `3 pass, 1 fail`."""
    names = ("pass", "warn", "fail", "failed", "cancelled")
    return ", ".join(f"{table.counts[name]} {name}" for name in names if table.counts.get(name))


def show_table(table: Table, folder: CohortFolder) -> None:
    """Every subject with its figures, on stdout."""
    columns = ("subject", "verdict", "NCC", "Dice", "TRE, mm", "folding, %", "SDlogJ", "seconds")
    shown = screen.table(*columns)
    for row in table.subjects:
        folds = None if row.folding_fraction is None else 100 * row.folding_fraction
        verdict = row.verdict or (row.problem or {}).get("code") or row.state
        shown.add_row(
            row.id,
            str(verdict),
            _number(row.ncc_after, 3),
            _number(row.mean_dice_after, 3),
            _number(row.tre_mm_after, 2),
            _number(folds, 3),
            _number(row.sdlogj, 3),
            _number(row.seconds, 1),
            style=COLOURS.get(row.verdict or row.state),
        )
    console = screen.stdout()
    console.print(shown)
    console.print(f"{len(table.subjects)} subjects: {summary(table)}")
    page = folder.root / "cohort.html"
    console.print(f"Results: {folder.root}  (open {page})", soft_wrap=True)


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
