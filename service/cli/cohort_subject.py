"""One subject after the other in one process, with one engine and one fixed image."""

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from service.cli.cohort_folder import put, put_problem
from service.cli.cohort_list import Subject
from service.errors import InternalError, StorageFullError, UnavailableError, WarplineError
from service.registration.options import RegisterOptions

Watch = Callable[[str, float], None]

OUT_OF_MEMORY = "This machine ran out of memory. Run fewer at a time: --jobs 1."
SCRATCH = ".warpline-"


@dataclass(frozen=True)
class Terms:
    """What all subjects of a cohort have in common."""

    fixed: dict[str, Path]
    options: RegisterOptions
    root: Path


@dataclass(frozen=True)
class Ended:
    """How a subject ended: with a problem, or with its result folder in place."""

    seconds: float
    problem: dict[str, Any] | None = None


# Registers one subject and never raises, but for what stops the whole.
Register = Callable[[Subject, Watch], Ended]


@contextmanager
def registering(terms: Terms) -> Iterator[Register]:
    """Import and open once; what is given registers subjects to the same fixed image."""
    from service.cli.models_here import engines_here
    from service.registration.files.limits import Limits
    from service.registration.kept_fixed import KeptFixed
    from service.registration.pipeline import register_files
    from service.settings import Settings

    settings = Settings()
    limits, kept = Limits(settings.max_voxels, settings.max_axis), KeptFixed()
    with engines_here(settings) as models:

        def work(subject: Subject, folder: Path, watch: Watch) -> None:
            files = terms.fixed | subject.files
            register_files(
                files,
                terms.options,
                folder,
                models,
                limits=limits,
                watch=watch,
                kept=kept,
                secret=settings.deidentification_secret,
            )

        yield lambda subject, watch: _ended(subject, terms.root, work, watch)


def _ended(
    subject: Subject, root: Path, work: Callable[[Subject, Path, Watch], None], watch: Watch
) -> Ended:
    started = time.perf_counter()
    scratch = Path(tempfile.mkdtemp(prefix=f"{SCRATCH}{os.getpid()}-", dir=root))
    try:
        scratch.chmod(0o777 & ~_umask())
        work(subject, scratch, watch)
        put(scratch, root / subject.id)
        return Ended(time.perf_counter() - started)
    except Exception as error:  # a failed subject does not stop the others
        problem = _named(error).problem()
        put_problem(problem, root / subject.id)
        return Ended(time.perf_counter() - started, problem)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _named(error: Exception) -> WarplineError:
    if isinstance(error, WarplineError):
        return error
    if isinstance(error, MemoryError):
        return UnavailableError(OUT_OF_MEMORY)
    if isinstance(error, OSError):
        return StorageFullError(f"{error.strerror or 'A file could not be read or written'}.")
    if os.environ.get("WARPLINE_LOG_LEVEL") == "DEBUG":
        raise error
    return InternalError()


def _umask() -> int:
    """What new folders are made with: those of mkdtemp are for their owner alone."""
    mask = os.umask(0o022)
    os.umask(mask)
    return mask


def clear_scratch(root: Path) -> None:
    """Remove what killed runs left half done."""
    for folder in root.glob(f"{SCRATCH}*"):
        pid = folder.name.removeprefix(SCRATCH).partition("-")[0]
        if not (pid.isdigit() and Path(f"/proc/{pid}").exists()):
            shutil.rmtree(folder, ignore_errors=True)
