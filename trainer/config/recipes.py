"""Recipes: configurations that come with Warpline, by name."""

from collections.abc import Sequence
from pathlib import Path

from service.errors import ValidationError

FOLDER = Path(__file__).parents[1] / "recipes"


def recipes() -> dict[str, str]:
    """What each recipe does, by name: the comment at its top."""
    return {path.stem: _comment(path) for path in sorted(FOLDER.glob("*.yaml"))}


def found(names: Sequence[str | Path]) -> list[Path]:
    """The file of each name: a file there is, or else a recipe.

    Raises:
        ValidationError: If there is neither.
    """
    return [_found(str(name)) for name in names]


def _found(name: str) -> Path:
    path = Path(name)
    if path.is_file():
        return path
    recipe = FOLDER / f"{name}.yaml"
    if path.name == name and recipe.is_file():
        return recipe
    known = ", ".join(recipes())
    raise ValidationError(
        f"There is no file {name}, nor a recipe of that name. Recipes: {known}.", field="config"
    )


def _comment(path: Path) -> str:
    lines = path.read_text("utf-8").splitlines()
    head = [line[1:].strip() for line in lines[: _first_option(lines)] if line.startswith("#")]
    return " ".join(head)


def _first_option(lines: Sequence[str]) -> int:
    return next(n for n, line in enumerate(lines) if not line.startswith("#"))
