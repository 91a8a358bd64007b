"""What a system is given and what it gives back. Light: every peer's Python imports this."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Fixed points (n, 3) to where they lie in the moving image; both LPS mm, as ITK has it.
Move = Callable[[Any], Any]


@dataclass(frozen=True)
class Pair:
    """The files of one pair; labels are of the moving image."""

    fixed: Path
    moving: Path
    moving_labels: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """The warped labels on the fixed grid, and where points go; None where there is no such thing.

    `seconds` replaces the time that the call took, where only a part of it is to be told.
    """

    labels: Path | None
    move: Move | None
    seconds: float | None = None


# Registers one pair and writes the warped image and the warped labels into a folder.
Run = Callable[[Pair, Path], Outcome]


@contextmanager
def in_folder(folder: Path) -> Iterator[None]:
    """For libraries that leave files where they are called."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
