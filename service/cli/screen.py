"""What the command line shows: results on stdout, everything else on stderr.

With `--json`, stdout holds one JSON document, also for errors.
"""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from service.errors import JobEndedError, LimitError, WarplineError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130

Watch = Callable[[str, float], None]


def exit_code(error: WarplineError) -> int:
    """2 when the caller must change something, else 1."""
    is_callers = 400 <= error.http_status < 500
    return BAD_INPUT if is_callers and not isinstance(error, JobEndedError | LimitError) else FAILED


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def flush() -> None:
    """Let a reader of a pipe see what was printed."""
    sys.stdout.flush()


def show_error(error: WarplineError, *, as_json: bool) -> None:
    """The code, and the sentence that says what is wrong and what to do."""
    if as_json:
        print_json(error.problem())
        return
    from rich.text import Text

    where = f" ({error.field})" if error.field else ""
    console = stderr()
    name = "" if type(error) is WarplineError else f" {error.slug}"  # the system's have no code
    console.print(Text.assemble(("error", "bold red"), (name, "bold"), f"{where}: "), end="")
    console.print(Text(error.detail), soft_wrap=True)
    for fault in error.errors:
        if fault["detail"] == error.detail:
            continue
        console.print(Text(f"  also {fault.get('field', '')}: {fault.get('detail', '')}"))


def note(sentence: str) -> None:
    """Something worth knowing, on stderr."""
    from rich.text import Text

    stderr().print(Text(sentence), soft_wrap=True)


def print_styled(first: str, style: str, rest: str) -> None:
    """A line on stdout that begins with a styled word."""
    from rich.text import Text

    stdout().print(Text.assemble((first, style), f"  {rest}"), soft_wrap=True)


def stdout() -> "Console":
    """The console of results. What it prints is shown as it is: names may hold brackets."""
    from rich.console import Console

    return Console(highlight=False, markup=False)


def stderr() -> "Console":
    """The console of progress, notes and errors."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False)


def table(*columns: str) -> "Table":
    """A table with a plain look; columns after the first are right-aligned."""
    from rich import box
    from rich.table import Table

    made = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        made.add_column(column, justify="left" if index == 0 else "right", overflow="fold")
    return made


def listing(*columns: str) -> "Table":
    """A table of texts, all left-aligned."""
    made = table(*columns)
    for column in made.columns:
        column.justify = "left"
    return made


@contextmanager
def progress_bar(*, is_shown: bool = True) -> Iterator[Watch]:
    """A bar on stderr that is told the stage and the fraction of the whole."""
    if not is_shown:
        yield lambda _stage, _fraction: None
        return
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<12}"),
        BarColumn(complete_style="cyan", finished_style="green"),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        console=stderr(),
        transient=True,
    ) as bar:
        task = bar.add_task("starting", total=1.0)

        def watch(stage: str, fraction: float) -> None:
            # A worker that hands over counts anew; a bar does not run backwards.
            bar.update(task, description=stage, completed=max(fraction, bar.tasks[0].completed))

        yield watch
