"""All systems on all pairs, one after the other, whatever happens to one of them."""

import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.comparison import results
from benchmarks.comparison.cases import Case
from benchmarks.comparison.process import Process, SystemFailedError, TooSlowError
from benchmarks.comparison.registry import System
from benchmarks.comparison.results import Row
from benchmarks.comparison.scoring import NothingToScoreError, measures


@dataclass(frozen=True)
class Terms:
    """`python` runs the peers; a system has `limit_s` for its start and for each pair."""

    python: str
    log: Path
    limit_s: float = 900.0
    again: bool = False
    tell: Callable[[Row], None] = lambda row: print(row, file=sys.stderr, flush=True)


def compare(
    systems: Sequence[System], cases: Sequence[Case], lines: Path, terms: Terms
) -> list[Row]:
    """Run what is not yet in `lines`, pair by pair in the order of `systems`; add each row at once.

    A system that is named several times runs several times on each pair, for instance before and
    after another one. Gives the rows of the file.
    """
    done = {row.key for row in results.read(lines)} if not terms.again else set()
    with _Staying(terms) as staying:
        for case in cases:
            turns: Counter[str] = Counter()
            for system in systems:
                row = Row(case.category, case.name, system.name, turns[system.name])
                turns[system.name] += 1
                if row.key in done:
                    continue
                row = staying.measured(system, case, row)
                results.append(lines, row)
                terms.tell(row)
    rows = results.read(lines)
    results.rewrite(lines, rows)
    return rows


class _Staying:
    """The processes that are kept from pair to pair."""

    def __init__(self, terms: Terms) -> None:
        self._terms = terms
        self._kept: dict[str, Process] = {}

    def __enter__(self) -> "_Staying":
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._kept):
            self._close(name)

    def measured(self, system: System, case: Case, row: Row) -> Row:
        """The row with what the system reached, or with why it did not."""
        try:
            return self._registered(system, case, row)
        except TooSlowError as slow:
            self._close(system.name)
            return replace(row, status="too slow", error=str(slow))
        except (SystemFailedError, NothingToScoreError) as failed:
            self._close(system.name)
            return replace(row, status="failed", error=str(failed))

    def _registered(self, system: System, case: Case, row: Row) -> Row:
        process = self._kept.get(system.name)
        if process is None:
            process = Process(system, self._terms.python, self._terms.log, self._terms.limit_s)
            self._kept[system.name] = process
            if system.stays:
                with tempfile.TemporaryDirectory() as folder:
                    process.register(_request(case, folder))
        with tempfile.TemporaryDirectory() as folder:
            answer = process.register(_request(case, folder))
            found = measures(case, answer)
        if not system.stays:
            self._close(system.name)
        return replace(
            row,
            seconds=answer["seconds"],
            processor_seconds=answer["processor_seconds"],
            peak_gib=answer["peak_gib"],
            measures=found,
            version=process.version,
        )

    def _close(self, name: str) -> None:
        process = self._kept.pop(name, None)
        if process is not None:
            process.close()


def _request(case: Case, folder: str) -> dict[str, Any]:
    return {
        "fixed": str(case.fixed),
        "moving": str(case.moving),
        "moving_labels": str(case.labels[1]) if case.labels else None,
        "points": [landmarks.fixed.tolist() for landmarks in case.landmarks],
        "folder": folder,
    }
