"""A training's checkpoints in the object store, so that another host can go on.

`checkpoints/JOB/FENCE/NUMBER-PART` are files, `checkpoints/JOB/FENCE/NUMBER.json` says which belong
together and is written last: a checkpoint without it does not exist. Keys are written once.
"""

import contextlib
import logging
import os
import re
import shutil
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from service.checksums import sha256_of
from service.errors import ResultNotFoundError, WarplineError
from service.jobs.ports import BlobStore
from service.paths import checked_path

log = logging.getLogger(__name__)

KEPT = 2
_SUMMARY = re.compile(r"checkpoints/[0-9a-f-]{36}/([0-9]+)/([0-9]+)\.json")
_ANY = re.compile(r"checkpoints/[0-9a-f-]{36}/([0-9]+)/([0-9]+)[.-].*")

Place = tuple[int, int]  # fence, number


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True)

    key: str
    sha256: str


class _Summary(BaseModel):
    """Which files make one checkpoint, by path below the training's folder."""

    model_config = ConfigDict(frozen=True)

    step: int
    parts: dict[str, _Part]


@dataclass
class Checkpoints:
    """Those of one job, written by one attempt."""

    blobs: BlobStore
    job_id: UUID
    fence: int
    _number: int = 0
    _known: dict[str, _Part] = field(default_factory=dict)

    @property
    def prefix(self) -> str:
        return f"checkpoints/{self.job_id}/"

    def restore(self, out: Path) -> int | None:
        """Bring the newest whole checkpoint to a folder; gives its step, None if there is none."""
        for place in sorted(self._places(), reverse=True):
            with contextlib.suppress(ResultNotFoundError, ValidationError, _DamagedError):
                summary = self._summary(place)
                for path, part in summary.parts.items():
                    self._fetch(part, out / checked_path(path))
                self._known = dict(summary.parts)
                return summary.step
        return None

    def save(self, files: dict[str, Path], step: int) -> None:
        """Store files, by path below the training's folder, as one checkpoint; drop older ones.

        Raises:
            UnavailableError: If the store does not answer or is full.
        """
        self._number += 1
        here = f"{self.prefix}{self.fence}/{self._number:06d}"
        parts = {}
        for index, (path, file) in enumerate(sorted(files.items())):
            digest = sha256_of(file)
            known = self._known.get(path)
            if known is None or known.sha256 != digest:
                known = _Part(key=f"{here}-{index}", sha256=digest)
                self.blobs.put_file(known.key, file)
            parts[path] = known
        summary = _Summary(step=step, parts=parts)
        self.blobs.put_bytes(f"{here}.json", summary.model_dump_json().encode())
        self._known = parts
        self._prune()

    def _prune(self) -> None:
        """Drop all but the newest checkpoints; never what another attempt may be writing."""
        kept = sorted(self._places())[-KEPT:]
        needed = {part.key for place in kept for part in self._summary(place).parts.values()}
        needed |= {self._summary_key(place) for place in kept}
        mine = (self.fence, self._number)
        old = [
            key
            for key in self.blobs.list(self.prefix)
            if (found := _ANY.fullmatch(key))
            and (int(found[1]), int(found[2])) <= mine
            and key not in needed
        ]
        self.blobs.delete(sorted(old, key=lambda key: not key.endswith(".json")))

    def _places(self) -> list[Place]:
        found = [_SUMMARY.fullmatch(key) for key in self.blobs.list(self.prefix)]
        return [(int(match[1]), int(match[2])) for match in found if match]

    def _summary_key(self, place: Place) -> str:
        return f"{self.prefix}{place[0]}/{place[1]:06d}.json"

    def _summary(self, place: Place) -> _Summary:
        return _Summary.model_validate_json(self.blobs.get_bytes(self._summary_key(place)))

    def _fetch(self, part: _Part, target: Path) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        self.blobs.get_file(part.key, target)
        if sha256_of(target) != part.sha256:
            target.unlink()
            raise _DamagedError


class _DamagedError(Exception):
    """The object is not what was written."""


@dataclass
class Courier:
    """Stores checkpoints from a thread of its own; while it is busy only the newest waits."""

    checkpoints: Checkpoints
    staging: Path
    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    _busy: "Future[None] | None" = None
    _waiting: Callable[[], None] | None = None
    _count: int = 0

    def take(self, out: Path, path: str, companions: tuple[str, ...], step: int) -> None:
        """Hold on to a checkpoint as it is now; the trainer may replace or drop its files."""
        self._count += 1
        folder = self.staging / str(self._count)
        files = {}
        for number, name in enumerate((path, *companions)):
            with contextlib.suppress(FileNotFoundError):
                files[name] = _held(out / checked_path(name), folder / str(number))
        if path not in files:
            return  # replaced already: another one follows

        def deliver() -> None:
            try:
                self.checkpoints.save(files, step)
            except (WarplineError, OSError) as error:
                log.warning("job=%s checkpoint: %s", self.checkpoints.job_id, type(error).__name__)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

        self._waiting = deliver
        self.pump()

    def pump(self) -> None:
        """Start on what waits, if the thread is free."""
        if self._waiting is not None and (self._busy is None or self._busy.done()):
            self._busy, self._waiting = self._pool.submit(self._waiting), None

    def close(self, patience_s: float) -> None:
        """Deliver what is under way or waits, within that time."""
        self.pump()
        if self._busy is not None:
            wait([self._busy], patience_s)
            self.pump()
        if self._busy is not None:
            wait([self._busy], patience_s)
        self._pool.shutdown(wait=False, cancel_futures=True)


def _held(file: Path, target: Path) -> Path:
    """The file under a second name. One that is written on and on is copied as far as it is."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".jsonl":
        return shutil.copyfile(file, target)
    os.link(file, target, follow_symlinks=False)
    return target
