"""Whether the compiled kernels are on disk already. Looks at files only; imports no numba."""

import os
from pathlib import Path

from service import registration
from service.cli import screen


def compiled_kernels() -> int:
    """How many compiled functions the cache holds; 0 on a fresh machine."""
    package = Path(next(iter(registration.__path__)))
    places = [package]
    if "NUMBA_CACHE_DIR" in os.environ:
        places.append(Path(os.environ["NUMBA_CACHE_DIR"]))
    elif not os.access(package, os.W_OK):
        places.append(Path.home() / ".cache" / "numba")
    return sum(1 for place in places if place.is_dir() for _ in place.rglob("*.nbc"))


def note_first_run() -> None:
    """Say why the first registration on a machine takes longer."""
    if compiled_kernels() == 0:
        screen.note(
            "First run on this machine: kernels are compiled once, which takes a minute or two. "
            "Later runs start at once."
        )
