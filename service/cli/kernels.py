"""Whether the compiled kernels are on disk already. Looks at files only; imports no numba."""

import os
from dataclasses import dataclass
from pathlib import Path

from service import registration
from service.cli import screen

# Files of machine code: ours, and numba's where it does all.
KINDS = ("*.kernel", "*.nbi")


@dataclass(frozen=True)
class Kernels:
    """How many kernel modules there are, and how many have been compiled as they stand."""

    modules: int
    compiled: int

    @property
    def are_there(self) -> bool:
        """Whether most are: some are used seldom and compiled when they are."""
        return 2 * self.compiled > self.modules


def kernels() -> Kernels:
    """Compare each kernel module with the files of machine code, which name it."""
    package = Path(next(iter(registration.__path__))) / "kernels"
    sources = [path for path in package.glob("*.py") if b"\n@kernel\n" in path.read_bytes()]
    codes = [path for kind in KINDS for cache in _caches(package) for path in cache.rglob(kind)]
    compiled = sum(1 for source in sources if _is_compiled(source, codes))
    return Kernels(len(sources), compiled)


def _caches(package: Path) -> list[Path]:
    """Where compiled kernels are kept; see kernels/machine_code.py."""
    if "NUMBA_CACHE_DIR" in os.environ:
        return [Path(os.environ["NUMBA_CACHE_DIR"])]
    if os.access(package, os.W_OK):
        return [package / "__pycache__"]
    users = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [users / "warpline", users / "numba"]


def _is_compiled(source: Path, codes: list[Path]) -> bool:
    changed = source.stat().st_mtime
    return any(
        f".{source.stem}." in f".{code.name}" and code.stat().st_mtime >= changed for code in codes
    )


def note_first_run() -> None:
    """Say why the first registration on a machine takes longer."""
    if not kernels().are_there:
        screen.note(
            "First run on this machine: kernels are compiled once, which takes a minute or two. "
            "Later runs start at once."
        )
