"""Whether the compiled kernels are on disk already. Looks at files only; imports no numba."""

import os
from dataclasses import dataclass
from pathlib import Path

from service import registration
from service.cli import screen

NO_KERNELS = frozenset({"__init__.py", "ahead.py", "launch.py"})


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
    """Compare each kernel module with numba's index files, which name it."""
    package = Path(next(iter(registration.__path__))) / "kernels"
    sources = [path for path in package.glob("*.py") if path.name not in NO_KERNELS]
    indices = list(_cache(package).rglob("*.nbi"))
    compiled = sum(1 for source in sources if _is_compiled(source, indices))
    return Kernels(len(sources), compiled)


def _cache(package: Path) -> Path:
    """Where numba keeps what it compiled."""
    if "NUMBA_CACHE_DIR" in os.environ:
        return Path(os.environ["NUMBA_CACHE_DIR"])
    if os.access(package, os.W_OK):
        return package / "__pycache__"
    return Path.home() / ".cache" / "numba"


def _is_compiled(source: Path, indices: list[Path]) -> bool:
    changed = source.stat().st_mtime
    return any(
        index.name.startswith(f"{source.stem}.") and index.stat().st_mtime >= changed
        for index in indices
    )


def note_first_run() -> None:
    """Say why the first registration on a machine takes longer."""
    if not kernels().are_there:
        screen.note(
            "First run on this machine: kernels are compiled once, which takes a minute or two. "
            "Later runs start at once."
        )
