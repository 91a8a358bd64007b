"""Cases from a CSV or JSON list, or from rows in the configuration."""

import csv
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from trainer.config.data import DataConfig, Row
from trainer.data.cases import Case, Index, Kind, Problems, Source
from trainer.data.folders import wanted_kinds
from trainer.data.inside import inside

MOST_BYTES = 64 << 20
PAIRED: dict[str, dict[Kind, str]] = {
    role: {
        "image": role,
        "labels": f"{role}_labels",
        "points": f"{role}_points",
        "mask": f"{role}_mask",
    }
    for role in ("fixed", "moving")
}
SINGLE: dict[Kind, str] = {"image": "image", "labels": "labels", "points": "points", "mask": "mask"}


def read_list(root: Path, name: str, config: DataConfig, problems: Problems) -> Index:
    """The cases of a list file: CSV with a header line, or JSON, a list of objects."""
    path = inside(root, name, problems)
    if path is None:
        return Index(())
    if not path.is_file() or path.stat().st_size > MOST_BYTES:
        problems.add(name, "This is not a list file of up to 64 MiB.")
        return Index(())
    try:
        table = _table(path.read_text("utf-8-sig"))
    except (ValueError, csv.Error):
        problems.add(name, "The list is neither CSV with a header line nor a JSON list of objects.")
        return Index(())
    rows: list[tuple[str, Row]] = []
    for number, line in enumerate(table, start=1):
        where = f"{name}, row {number}"
        try:
            rows.append((where, Row.model_validate(line)))
        except ValidationError as error:
            for fault in error.errors(include_url=False):
                problems.add(where, _said(fault))
    return index_of_rows(root, rows, config, problems)


def _said(fault: ErrorDetails) -> str:
    """What is wrong with a row. Of a list without a head the columns are called like its files."""
    if fault["type"] == "extra_forbidden":
        return f"A column is none of {', '.join(Row.model_fields)}."
    return f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}."


def read_rows(root: Path, config: DataConfig, problems: Problems) -> Index:
    """The cases of the rows in the configuration."""
    rows = [(f"row {number}", row) for number, row in enumerate(config.rows, start=1)]
    return index_of_rows(root, rows, config, problems)


def _table(text: str) -> list[dict[str, Any]]:
    if text.lstrip().startswith("["):
        table = json.loads(text)
        if not all(isinstance(line, dict) for line in table):
            raise ValueError("not objects")
        return list(table)
    lines = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    table = [{k: v for k, v in line.items() if v not in (None, "")} for line in lines]
    if any(None in line for line in table) or not lines.fieldnames:
        raise ValueError("a row has more cells than the header line")
    return table


def index_of_rows(
    root: Path, rows: list[tuple[str, Row]], config: DataConfig, problems: Problems
) -> Index:
    """The cases that rows name; each row is a pair, or one image.

    A pair without a group belongs to that of its images which fewer rows name: with one atlas for
    all, to the other one.
    """
    cases: list[Case] = []
    is_paired = config.pairing == "paired"
    counts = Counter(path for _, row in rows for path in (row.fixed, row.moving))
    for where, plain in rows:
        row = plain
        if is_paired and row.group is None:
            rarer = row.moving if counts[row.moving] <= counts[row.fixed] else row.fixed
            row = row.model_copy(update={"group": rarer})
        columns = list(PAIRED.values()) if is_paired else [SINGLE]
        _report_unused(where, row, columns, problems)
        found = [_case(root, where, row, part, config, problems) for part in columns]
        if all(found):
            cases += [case for case in found if case is not None]
    pairs = [(n, n + 1) for n in range(0, len(cases), 2)] if is_paired else []
    return Index(tuple(cases), tuple(pairs))


def _report_unused(
    where: str, row: Row, columns: list[dict[Kind, str]], problems: Problems
) -> None:
    used = {name for part in columns for name in part.values()} | {"group", "split"}
    for name in sorted(row.model_dump(exclude_none=True).keys() - used):
        problems.add(where, f"The column {name} does not go with this pairing.")


def _case(
    root: Path,
    where: str,
    row: Row,
    columns: dict[Kind, str],
    config: DataConfig,
    problems: Problems,
) -> Case | None:
    sources: dict[Kind, Source] = {}
    for kind, wanted in wanted_kinds(config).items():
        column = columns[kind]
        value = getattr(row, column)
        if value is None and wanted == "required":
            problems.add(where, f"The column {column} is required and empty.")
        if value is None or wanted == "none":
            continue
        path = inside(root, value, problems, place=where)
        if path is not None and path.is_file():
            sources[kind] = Source(path, value)
        elif path is not None:
            problems.add(value, "This is not a file.", place=where)
    if "image" not in sources:
        return None
    name = sources["image"].name
    if config.splits.kind == "column" and row.split not in ("train", "valid", "test"):
        problems.add(where, "The column split must say train, valid or test.")
    return Case(
        name,
        row.group or name,
        image=sources["image"],
        labels=sources.get("labels"),
        points=sources.get("points"),
        mask=sources.get("mask"),
        split=row.split,
    )
