"""What the trainer's commands share: how an error is shown, and what is printed at the end."""

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from service.errors import JobEndedError, WarplineError

DONE, FAILED, BAD_INPUT, STOPPED = 0, 1, 2, 75  # 75: try again, as in sysexits.h


def guarded(work: Callable[[], None], *, as_json: bool) -> int:
    """Do the work; 0 done, 1 failed, 2 bad input, 75 stopped and to be resumed."""
    try:
        work()
    except WarplineError as error:
        show_error(error, as_json=as_json)
        return exit_code(error)
    except OSError as error:
        name = f": {error.filename}" if error.filename else ""
        show_error(WarplineError(f"{error.strerror or error}{name}"), as_json=as_json)
        return FAILED
    return DONE


def exit_code(error: WarplineError) -> int:
    """2 when the caller must change something."""
    if error.slug == "training-stopped":
        return STOPPED
    is_callers = 400 <= error.http_status < 500 and not isinstance(error, JobEndedError)
    return BAD_INPUT if is_callers else FAILED


def show_error(error: WarplineError, *, as_json: bool) -> None:
    """A sentence on stderr, or one JSON document on stdout; every fault of several."""
    if as_json:
        print_json(error.problem())
        return
    sys.stderr.write(f"error {error.slug}: {error.detail}\n")
    for fault in error.errors:
        sys.stderr.write(f"  {fault.get('field', '')}: {fault.get('detail', '')}\n")


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def print_table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """A table on stdout; columns after the first are right-aligned."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for n, title in enumerate(head):
        table.add_column(title, justify="right" if n else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(highlight=False, markup=False).print(table)
