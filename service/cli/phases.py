"""The phases of a longer command: bars where there is a terminal, else a line for each."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from service.cli import screen

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@dataclass
class Silent:
    """Shows nothing."""

    @contextmanager
    def phase(self, _name: str) -> Iterator["Silent"]:
        """Nothing to see."""
        yield self

    def watch(self, _detail: str, _fraction: float) -> None:
        """Nothing to see."""


@dataclass
class Line:
    """A phase where there is no terminal: the name when it begins, its stages, its seconds."""

    last: str = ""
    reached: float = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator["Line"]:
        """Say when it begins and what it took."""
        began = perf_counter()
        screen.note(f"{name} ...")
        yield Line()
        screen.note(f"{name}: {perf_counter() - began:.1f} s")

    def watch(self, detail: str, fraction: float) -> None:
        """Say each stage once."""
        self.reached = max(self.reached, fraction)
        if detail != self.last:
            self.last = detail
            screen.note(f"  {self.reached:4.0%}  {detail}")


@dataclass
class Bar:
    """One bar of several."""

    progress: "Progress"
    task: "TaskID | None" = None
    reached: float = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator["Bar"]:
        """A bar that pulses until it is told how far the phase is."""
        task = self.progress.add_task(name, total=None, detail="")
        yield Bar(self.progress, task)
        self.progress.update(task, total=1.0, completed=1.0, detail="")
        self.progress.stop_task(task)

    def watch(self, detail: str, fraction: float) -> None:
        """Move the bar."""
        self.reached = max(self.reached, fraction)  # a bar does not run backwards
        if self.task is not None:
            self.progress.update(self.task, total=1.0, completed=self.reached, detail=detail)


@contextmanager
def shown_phases(*, is_shown: bool) -> Iterator[Silent | Line | Bar]:
    """Phases on stderr."""
    console = screen.stderr()
    if not is_shown:
        yield Silent()
    elif not console.is_terminal:
        yield Line()
    else:
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description:<37}"),
            BarColumn(bar_width=30, complete_style="cyan", finished_style="green"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}"),
        )
        with Progress(*columns, console=console) as progress:
            yield Bar(progress)
