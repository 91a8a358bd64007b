"""What every archive can do, whichever protocol it speaks."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from service.errors import PacsIncompleteError, PacsSeriesTooLargeError
from service.jobs.job import PacsSeries
from service.pacs.objects import Sending, Sent, meta_of
from service.pacs.peers import DicomwebPeer, DimsePeer

Tick = Callable[[], None]


@dataclass(frozen=True)
class SeriesLimits:
    """How much one series may be."""

    max_files: int = 20_000
    max_bytes: int = 2048 << 20


class Archive(Protocol):
    """One archive. `tick` is called at least once a second and may raise to stop."""

    def fetch(self, series: PacsSeries, folder: Path, limits: SeriesLimits, tick: Tick) -> int:
        """Every instance of the series as a numbered file in a new folder; how many.

        Raises:
            PacsSeriesNotFoundError: If the archive has no such series.
            PacsSeriesTooLargeError: If it is larger than allowed.
            PacsUnavailableError: If the archive is away, refuses, or sends a part only.
        """
        ...

    def store(self, objects: Sequence[Sending], tick: Tick) -> Sent:
        """Send objects and hear that each is kept; those that are there already are not sent.

        Raises:
            PacsUnavailableError: If some may not be kept yet; the call can be made again.
            PacsObjectRefusedError: If the archive will never take one of them.
        """
        ...


def open_archive(peer: DicomwebPeer | DimsePeer) -> Archive:
    """The archive, to be spoken to in its own protocol."""
    if isinstance(peer, DicomwebPeer):
        from service.pacs.dicomweb import Dicomweb

        return Dicomweb(peer)
    from service.pacs.dimse import Dimse

    return Dimse(peer)


class Landing:
    """Where a series comes to lie: counted, told apart by UID, numbered when it is whole."""

    def __init__(self, folder: Path, limits: SeriesLimits) -> None:
        self._folder = folder
        self._limits = limits
        self._bytes = self._begun = 0
        self._file: BinaryIO | None = None
        self._path = folder
        self.by_uid: dict[str, Path] = {}
        folder.mkdir(mode=0o700)

    def begin_file(self) -> None:
        """One more file begins.

        Raises:
            PacsSeriesTooLargeError: If there are enough.
        """
        if len(self.by_uid) >= self._limits.max_files:
            raise PacsSeriesTooLargeError(
                f"This service takes series of up to {self._limits.max_files} instances."
            )
        self._begun += 1
        self._path = self._folder / f"part-{self._begun:08d}"
        self._file = self._path.open("xb")

    def write(self, data: bytes) -> None:
        """Bytes of the file.

        Raises:
            PacsSeriesTooLargeError: If there are enough.
        """
        self._count(len(data))
        if self._file is not None:
            self._file.write(data)

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._limits.max_bytes:
            raise PacsSeriesTooLargeError(
                f"This service takes series of up to {self._limits.max_bytes >> 20} MiB."
            )

    def end_file(self) -> None:
        """The file is whole; one that came before is not kept twice."""
        if self._file is None:
            return
        self._file.close()
        uid = meta_of(self._path).uid
        if uid in self.by_uid:
            self.drop_file()
        self.by_uid.setdefault(uid, self._path)
        self._file = None

    def take(self, path: Path) -> None:
        """A file that lies on the same disk already; its name is free afterwards.

        Raises:
            PacsSeriesTooLargeError: If there are enough, or it is too large.
        """
        self.begin_file()
        path.replace(self._path)
        try:
            self._count(self._path.stat().st_size)
            self.end_file()
        except BaseException:
            self.drop_file()
            raise

    def drop_file(self) -> None:
        """Half a file is none."""
        if self._file is not None:
            self._file.close()
            self._bytes -= self._path.stat().st_size
            self._path.unlink()
            self._file = None

    def finish(self, expected: set[str]) -> int:
        """Number the files by UID, whatever the order of their coming.

        Raises:
            PacsIncompleteError: If these are not the instances that were announced.
        """
        missing = expected - self.by_uid.keys()
        if missing or self.by_uid.keys() - expected:
            raise PacsIncompleteError(
                f"The archive lists {len(expected)} instances of the series and sent "
                f"{len(expected) - len(missing)} of them; it may still be receiving the series."
            )
        for number, uid in enumerate(sorted(self.by_uid), 1):
            self.by_uid[uid].rename(self._folder / f"{number:08d}")
        return len(expected)


def wait(seconds: float, tick: Tick) -> None:
    """Sleep, and let `tick` end it early."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        tick()
        time.sleep(min(left, 0.2))
