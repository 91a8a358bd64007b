"""What was pushed to us and waits for its other half: on disk, so that no restart loses it.

    coming/            objects on their way in
    series/KEY/        objects by hashed UID, `facts.json`, and `open` while more are being sent
    pairs/KEY          made into a job already

Keys and names are hashes: no UID or text of an object is in a path.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from service.errors import PacsSeriesTooLargeError, StorageFullError

FACTS, OPEN = "facts.json", "open"
NAME_LENGTH = 40
STALE_S = 600  # longer than any association is silent


@dataclass(frozen=True)
class Facts:
    """What rules look at. The texts are the patient's: they stay beside the objects."""

    calling: str
    study: str  # hashed, as is the patient
    patient: str
    description: str = field(repr=False)
    modality: str
    protocol: str = field(repr=False)


@dataclass(frozen=True)
class Series:
    """A series as it lies here."""

    folder: Path
    facts: Facts

    @property
    def key(self) -> str:
        return self.folder.name

    @property
    def objects(self) -> list[Path]:
        """Its objects, in an order of their own."""
        return sorted(path for path in self.folder.iterdir() if len(path.name) == NAME_LENGTH)

    @property
    def contents(self) -> str:
        """Stands for exactly these objects, whoever sent them how often."""
        return hashed(self.key, *(path.name for path in self.objects))

    @property
    def quiet_s(self) -> float:
        """Seconds since something came."""
        return time.time() - self.folder.stat().st_mtime

    @property
    def is_open(self) -> bool:
        """Whether it is being sent, or its sender went away in the middle."""
        return (self.folder / OPEN).exists()


def hashed(*parts: str) -> str:
    """A name for things that have names of their own."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(4, "big") + part.encode())
    return digest.hexdigest()[:NAME_LENGTH]


class Incoming:
    """The folder of a listener; one process at a time."""

    def __init__(self, folder: Path, *, most_bytes: int, most_objects: int, min_free: int) -> None:
        """Open the folder; what was half received is removed.

        Args:
            folder: Made if missing.
            most_bytes: Of everything that waits.
            most_objects: Of one series.
            min_free: Bytes that stay free on the disk.
        """
        self._most_bytes, self._most_objects, self._min_free = most_bytes, most_objects, min_free
        self.coming, self._series, self._pairs = (
            folder / name for name in ("coming", "series", "pairs")
        )
        for path in (folder, self.coming, self._series, self._pairs):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self.coming.iterdir():
            path.unlink()
        self._bytes = sum(path.stat().st_size for path in self._series.glob("*/*"))

    def keep(self, path: Path, uid: str, series: str, facts: Facts) -> str:
        """Move an object in for good; on the disk when this returns. Gives its series' key.

        Raises:
            PacsSeriesTooLargeError: If its series has too many already.
            StorageFullError: If there is no room.
        """
        key = hashed(facts.calling, facts.study, series)
        folder = self._series / key
        if not (folder / FACTS).exists():
            self._begin(folder, facts)
        target = folder / hashed(uid)
        size = path.stat().st_size
        if not target.exists():
            self._require_room(folder, size)
            self._bytes += size
        (folder / OPEN).touch()
        _flush(path)
        path.replace(target)
        _flush(folder)
        return key

    def _begin(self, folder: Path, facts: Facts) -> None:
        folder.mkdir(mode=0o700, exist_ok=True)
        begun = folder / f"{FACTS}.new"
        begun.write_text(json.dumps(asdict(facts)))
        _flush(begun)
        begun.replace(folder / FACTS)
        _flush(self._series)

    def _require_room(self, folder: Path, size: int) -> None:
        if sum(len(path.name) == NAME_LENGTH for path in folder.iterdir()) >= self._most_objects:
            raise PacsSeriesTooLargeError
        free = shutil.disk_usage(folder).free
        if self._bytes + size > self._most_bytes or free < self._min_free:
            raise StorageFullError

    def close(self, key: str) -> None:
        """Whoever sent the series has sent all that it wanted to."""
        (self._series / key / OPEN).unlink(missing_ok=True)

    def series(self) -> Iterator[Series]:
        """Every series that waits."""
        for folder in sorted(self._series.iterdir()):
            facts = folder / FACTS
            if facts.exists():
                yield Series(folder, Facts(**json.loads(facts.read_text())))

    def is_done(self, pair: str) -> bool:
        """Whether a pair was made into a job before."""
        return (self._pairs / pair).exists()

    def done(self, pair: str) -> None:
        """Note that it was."""
        (self._pairs / pair).touch()
        _flush(self._pairs)

    def forget(self, older_than_s: float) -> list[str]:
        """Remove series, and notes of pairs, that are older; the keys of the series.

        What was half received goes sooner.
        """
        removed = []
        for half in self.coming.iterdir():
            if time.time() - half.stat().st_mtime > STALE_S:
                half.unlink(missing_ok=True)
        for series in self.series():
            if series.quiet_s > older_than_s:
                self._bytes -= sum(path.stat().st_size for path in series.folder.iterdir())
                shutil.rmtree(series.folder)
                removed.append(series.key)
        for note in self._pairs.iterdir():
            if time.time() - note.stat().st_mtime > 2 * older_than_s:
                note.unlink()
        return removed


def _flush(path: Path) -> None:
    """Have the disk keep it."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
