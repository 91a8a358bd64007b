"""What was found, a line of JSON each: kept as it comes, read again to go on or to show."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

Status = Literal["ok", "failed", "too slow"]
Key = tuple[str, str, str, int]


@dataclass(frozen=True)
class Row:
    """One system on one pair; `turn` counts from 0 where a system comes several times.

    `seconds` are from files to files by the clock, `processor_seconds` those of all threads.
    """

    category: str
    case: str
    system: str
    turn: int = 0
    status: Status = "ok"
    seconds: float | None = None
    processor_seconds: float | None = None
    peak_gib: float | None = None
    measures: dict[str, float] = field(default_factory=dict)
    version: str | None = None
    error: str | None = None

    @property
    def key(self) -> Key:
        return (self.category, self.case, self.system, self.turn)


def read(path: Path) -> list[Row]:
    """The rows of a file, in the order in which their keys came first; later lines win.

    A last line that was cut off, as when the writing process was stopped, is left out.
    """
    rows: dict[Key, Row] = {}
    if not path.is_file():
        return []
    text = path.read_text("utf-8")
    for line in text[: text.rfind("\n") + 1].splitlines():
        row = Row(**json.loads(line))
        rows[row.key] = row
    return list(rows.values())


def append(path: Path, row: Row) -> None:
    """Add a line, in place of a last one that was cut off; the next pair begins afterwards."""
    told = {name: _short(value) for name, value in asdict(row).items() if value not in (None, {})}
    with path.open("a+b") as lines:
        lines.seek(0)
        lines.truncate(lines.read().rfind(b"\n") + 1)
        lines.write(json.dumps(told).encode() + b"\n")


def rewrite(path: Path, rows: Iterable[Row]) -> None:
    """One line for each key: what a stopped run or a later one left twice is gone."""
    beside = path.with_suffix(".new")
    beside.unlink(missing_ok=True)
    beside.touch()
    for row in rows:
        append(beside, row)
    beside.replace(path)


def _short(value: object) -> object:
    if isinstance(value, float):
        return round(value, 5)
    return {k: round(v, 5) for k, v in value.items()} if isinstance(value, dict) else value
