"""The table that `warpline igtl` shows on stderr while it works."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from service.cli import screen
from service.igtl.tally import Tally

if TYPE_CHECKING:
    from rich.table import Table

REFRESH_HZ = 4
COLOURS = {"pass": "green", "warn": "yellow", "fail": "bold red"}


@contextmanager
def shown(tally: Tally, *, is_shown: bool) -> Iterator[None]:
    """Show the counts while the block runs, and sentences above them.

    Where stderr is no terminal there are only the sentences.
    """
    console = screen.stderr()
    tally.say = lambda sentence: console.print(sentence, soft_wrap=True)
    if not (is_shown and sys.stderr.isatty()):
        yield
        return
    from rich.live import Live

    with Live(
        get_renderable=lambda: table_of(tally), console=console, refresh_per_second=REFRESH_HZ
    ):
        yield


def table_of(tally: Tally) -> "Table":
    """What comes in, what goes out, and what the last answer said."""
    made = screen.table("OpenIGTLink", "")
    for name, value in _rows(tally).items():
        made.add_row(name, value)
    if tally.last is not None:
        verdict = tally.last.verdict
        made.add_row("verdict", f"{verdict}, frame {tally.last.number}", style=COLOURS[verdict])
    return made


def _rows(tally: Tally) -> dict[str, str]:
    half, most = tally.latency_ms(50), tally.latency_ms(95)
    is_timed = half is not None and most is not None
    rows = {
        "peers": f"{tally.peers} ({tally.connections} so far)",
        "session": f"{tally.service} ({tally.reconnects} reconnects)",
        "images in": str(tally.images),
        "answers": f"{tally.answers}  {_counts(tally.verdicts)}",
        "dropped": f"{tally.overtaken} overtaken, {tally.refused} refused",
        "latency": f"{half:.0f} ms, p95 {most:.0f} ms" if is_timed else "",
        "faults": _counts(tally.faults),
    }
    if (last := tally.last) is not None:
        rows["motion"] = f"{last.motion_median_mm:.1f} mm, at most {last.motion_max_mm:.1f} mm"
    return rows


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
