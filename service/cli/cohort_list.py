"""The subjects of a cohort: from a list, a folder or a pattern; every fault told at once."""

import csv
import glob
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from service.errors import ValidationError
from service.paths import SUBJECT_ID

IMAGE_ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".zip")
FILE_COLUMNS = ("moving", "moving_labels", "moving_mask", "moving_points", "initial_transform")
# What a cohort's own files are called: `cohort.csv` and so on.
OWN_NAMES = re.compile(r"^cohort\.", re.IGNORECASE)
MOST_FAULTS = 100


@dataclass(frozen=True)
class Subject:
    """One moving image with what belongs to it: files by role."""

    id: str
    files: dict[str, Path]


@dataclass(frozen=True)
class _Line:
    number: int  # of the list's text, from 1; 0 where there is no list
    files: dict[str, Path]
    id: str = ""


@dataclass
class _Faults:
    found: list[dict[str, str]] = field(default_factory=list)

    def add(self, line: int, column: str, detail: str) -> None:
        place = f"line {line}, {column}" if line else column
        self.found.append({"field": place, "detail": detail})

    def raise_if_any(self) -> None:
        if not self.found:
            return
        first, count = self.found[0], len(self.found)
        more = f" The list has {count} faults in all." if count > 1 else ""
        raise ValidationError(
            f"{first['detail']}{more}",
            field=first["field"],
            errors=tuple(self.found[:MOST_FAULTS]),
        )


def read_subjects(source: str, fixed: Path) -> list[Subject]:
    """The subjects that a list (CSV), a folder or a pattern names, in its order.

    Args:
        source: A list has the columns `moving` and perhaps `id`, `moving_labels`, `moving_mask`,
            `moving_points`, `initial_transform`; its paths are relative to the list. Of a folder
            each image, zip archive and folder in it is one subject.
        fixed: Left out where it lies in the folder, too.

    Raises:
        ValidationError: Names every fault with its line.
    """
    path, faults = Path(source), _Faults()
    if path.is_dir():
        lines = [
            _Line(0, {"moving": found}) for found in sorted(path.iterdir()) if _is_image(found)
        ]
    elif path.is_file():
        lines = list(_lines_of(path, faults))
    else:
        lines = [_Line(0, {"moving": Path(found)}) for found in sorted(glob.glob(source))]  # noqa: PTH207 - it may be absolute
    if not (path.is_file() and not path.is_dir()):
        lines = [line for line in lines if line.files["moving"].resolve() != fixed.resolve()]
    if not lines and not faults.found:
        faults.add(0, "LIST", f"There is no list, no folder and no image {source}.")
    subjects = _named(lines, faults)
    faults.raise_if_any()
    return subjects


def _is_image(path: Path) -> bool:
    if path.name.startswith("."):
        return False
    return path.is_dir() or path.name.lower().endswith(IMAGE_ENDINGS)


def _lines_of(path: Path, faults: _Faults) -> Iterator[_Line]:
    """The lines of a list; blank ones and those that begin with # are passed over."""
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError:
        faults.add(1, "LIST", "The list is no text (UTF-8); it must be a CSV file.")
        return
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip(" \t,;") and not line.lstrip().startswith("#")
    ]
    if not lines:
        faults.add(1, "LIST", "The list is empty; it needs at least the column `moving`.")
        return
    mark = max(",;\t", key=lines[0][1].count)
    head, *rest = ([cell.strip() for cell in next(csv.reader([text], delimiter=mark))]
                   for _, text in lines)  # fmt: skip
    columns = [name.lower() for name in head]
    _check_head(columns, lines[0][0], faults)
    if faults.found:
        return
    for (number, _), cells in zip(lines[1:], rest, strict=True):
        if len(cells) > len(columns):
            faults.add(number, "LIST", f"There are {len(cells)} cells for {len(columns)} columns.")
            continue
        yield _line(number, dict(zip(columns, cells, strict=False)), path.parent, faults)


def _check_head(columns: list[str], number: int, faults: _Faults) -> None:
    known = ("id", *FILE_COLUMNS)
    if "moving" not in columns:
        faults.add(number, "moving", f"The list needs the column `moving`; known: {known}.")
    for name in columns:
        if name not in known:
            faults.add(number, name, f"There is no such column; use {', '.join(known)}.")
        elif columns.count(name) > 1:
            faults.add(number, name, "This column is there twice.")


def _line(number: int, cells: dict[str, str], folder: Path, faults: _Faults) -> _Line:
    files = {role: folder / cells[role] for role in FILE_COLUMNS if cells.get(role)}
    if "moving" not in files:
        faults.add(number, "moving", "The moving image is missing.")
    for role, file in files.items():
        if not file.exists():
            faults.add(number, role, f"There is no file {cells[role]}.")
        elif file.is_dir() and role in ("moving_points", "initial_transform"):
            faults.add(number, role, f"{cells[role]} is a folder.")
    return _Line(number, files, cells.get("id", ""))


def _named(lines: list[_Line], faults: _Faults) -> list[Subject]:
    """Every line with an id of its own: as given, or after its file, or its folder and file."""
    plain = [line if line.id else replace(line, id=_stem(line)) for line in lines]
    often = Counter(line.id.lower() for line in plain)
    named = [
        replace(line, id=_stem(line, with_folder=True))
        if often[line.id.lower()] > 1 and not given.id
        else line
        for given, line in zip(lines, plain, strict=True)
    ]
    seen: dict[str, int] = {}
    for line in named:
        if not re.match(SUBJECT_ID, line.id) or OWN_NAMES.match(line.id):
            faults.add(
                line.number,
                "id",
                f"{line.id!r} will not do: an id has letters, digits, dots, dashes and "
                "underscores, begins with a letter or digit and not with `cohort.`.",
            )
        elif line.id.lower() in seen:
            first = seen[line.id.lower()]
            where = f" as in line {first}" if first else ""
            faults.add(line.number, "id", f"The id {line.id} is there twice{where}; give others.")
        seen.setdefault(line.id.lower(), line.number)
    return [Subject(line.id, line.files) for line in named]


def _stem(line: _Line, *, with_folder: bool = False) -> str:
    """What a subject is called after its moving image."""
    if "moving" not in line.files:
        return f"line-{line.number}"
    path = line.files["moving"].resolve()
    name = path.name
    for ending in sorted(IMAGE_ENDINGS, key=len, reverse=True):
        if name.lower().endswith(ending) and path.is_file():
            name = name[: -len(ending)]
            break
    if with_folder:
        name = f"{path.parent.name}_{name}"
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip("._-")[:100] or "subject"
