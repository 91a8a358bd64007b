"""Paths that configuration and lists name: inside the data root, and no links on the way."""

from pathlib import Path, PurePosixPath

from trainer.data.cases import Problems

VOLUME_ENDS = (".nii.gz", ".nii", ".nrrd", ".mha")
POINT_ENDS = (".csv", ".fcsv", ".mrk.json")


def inside(root: Path, name: str, problems: Problems, *, place: str | None = None) -> Path | None:
    """The path that a name means below the root; None, and a problem, where it may not be used.

    A name may not be absolute, go up, or pass a symbolic link, and must exist. `place` is the row
    of a list that names it.
    """
    parts = PurePosixPath(name).parts
    if not name or "\\" in name or "\0" in name or name.startswith("/") or ".." in parts:
        problems.add(
            name, "The path leaves the data root. Name it relative to the root.", place=place
        )
        return None
    path = root
    for part in parts:
        path = path / part
        if path.is_symlink():
            problems.add(
                name, "The path passes a symbolic link, which is not followed.", place=place
            )
            return None
    if not path.exists():
        problems.add(name, "There is no such file or folder in the data root.", place=place)
        return None
    return path


def stem(path: Path, ends: tuple[str, ...]) -> str | None:
    """The name without its ending; None if it has none of these."""
    for end in ends:
        if path.name.lower().endswith(end) and len(path.name) > len(end):
            return path.name[: -len(end)]
    return None


def files_by_stem(
    folder: Path, root: Path, ends: tuple[str, ...], problems: Problems
) -> dict[str, Path]:
    """The folder's files with such endings by stem, by name; two of one stem are a problem."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        name = path.relative_to(root).as_posix()
        if path.name.startswith(".") or (key := stem(path, ends)) is None:
            continue
        if path.is_symlink():
            problems.add(name, "The path passes a symbolic link, which is not followed.")
        elif key in found:
            problems.add(name, "Two files of the folder have the same name but for the ending.")
        elif path.is_file():
            found[key] = path
    return found
