"""Prepared arrays: on disk under a digest, the latest ones in memory."""

import hashlib
import json
import shutil
import tempfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Generic, TypeVar

import numpy as np

FORMAT = 2  # raised when what is stored changes its meaning

Arrays = dict[str, np.ndarray]
Kept = TypeVar("Kept")


def digest(*parts: object) -> str:
    """A key of everything that an array depends on."""
    text = json.dumps([FORMAT, *parts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


class DiskCache:
    """Named arrays under a key, written whole or not at all; read as memory maps.

    Several threads and processes may share a folder. On a full disk nothing is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def arrays(self, key: str, make: Callable[[], Arrays]) -> Arrays:
        """What was stored under the key, or what `make` gives, which is stored then."""
        place = self._folder / key[:2] / key
        if not place.is_dir():
            made = make()
            if not self._store(place, made):
                return made
        return {path.stem: _mapped(path) for path in sorted(place.iterdir())}

    def _store(self, place: Path, arrays: Arrays) -> bool:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(dir=place.parent, prefix="draft-"))
        except OSError:
            return False
        try:
            for name, array in arrays.items():
                np.save(draft / f"{name}.npy", array)
            draft.rename(place)
        except OSError:  # the disk is full, or another process was first
            shutil.rmtree(draft, ignore_errors=True)
        return place.is_dir()


def _mapped(path: Path) -> np.ndarray:
    """A plain array over the file; copy-on-write, as kernels are compiled for writeable arrays."""
    return np.asarray(np.load(path, mmap_mode="c"))


class MemoryCache(Generic[Kept]):
    """The values used last, up to so many bytes; safe to use from several threads."""

    def __init__(self, most_bytes: int, size_of: Callable[[Kept], int]) -> None:
        self._most, self._size_of = most_bytes, size_of
        self._held: OrderedDict[str, tuple[Kept, int]] = OrderedDict()
        self._bytes = 0
        self._lock = Lock()

    def value(self, key: str, make: Callable[[], Kept]) -> Kept:
        """What is held under the key, or what `make` gives; two threads may both make it."""
        with self._lock:
            if key in self._held:
                self._held.move_to_end(key)
                return self._held[key][0]
        made = make()
        size = self._size_of(made)
        with self._lock:
            if key not in self._held and size <= self._most:
                self._held[key] = (made, size)
                self._bytes += size
            while self._bytes > self._most:
                _, (_, dropped) = self._held.popitem(last=False)
                self._bytes -= dropped
        return made
