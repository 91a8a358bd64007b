"""Objects as files in one folder, durable and written once.

obstore's LocalStore does not flush to the disk, follows symbolic links out of its root and cannot
sign, so the file store is our own; objects in S3 go through obstore (`s3_blobs.py`).
"""

import errno
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import BinaryIO
from uuid import uuid4

from service.errors import (
    ConflictError,
    ResultNotFoundError,
    StorageFullError,
    StoreUnavailableError,
)
from service.stores.keys import checked_key
from service.stores.signing import UrlSigner

CHUNK = 1 << 20
INCOMING = ".incoming"
LINK_TRIES = 20
# Another file system, or one that has no second names for a file.
NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP)


class LocalBlobStore:
    """`service.jobs.ports.BlobStore` in a folder that nothing else writes to.

    A file is written under `.incoming`, flushed to the disk and then linked to its key, so an
    object is there whole or not at all, and the second writer of a key loses.
    """

    def __init__(self, root: Path, signer: UrlSigner) -> None:
        self._root = root.absolute()
        self.signer = signer
        (self._root / INCOMING).mkdir(parents=True, exist_ok=True)

    # --- writing ---

    def put_file(self, key: str, source: Path) -> None:
        with source.open("rb") as file, self._part() as part:
            with part.open("xb") as target:
                shutil.copyfileobj(file, target, CHUNK)
                _flush(target)
            self._publish(part, key)

    def take_file(self, key: str, source: Path) -> None:
        with source.open("rb") as file, full_disk_told():
            _flush(file)
        if not self.share_file(key, source):
            self.put_file(key, source)

    def share_file(self, key: str, source: Path) -> bool:
        try:
            with full_disk_told():
                self._publish(source, key)
        except OSError as error:
            if error.errno not in NO_LINK:
                raise
            return False
        return True

    def put_bytes(self, key: str, data: bytes) -> None:
        with self._part() as part:
            with part.open("xb") as target:
                target.write(data)
                _flush(target)
            self._publish(part, key)

    @contextmanager
    def _part(self) -> Iterator[Path]:
        """A name for a file on its way in; gone afterwards, as an object or for good."""
        part = self._root / INCOMING / uuid4().hex
        try:
            with full_disk_told():
                yield part
        finally:
            part.unlink(missing_ok=True)

    def _publish(self, part: Path, key: str) -> None:
        target = self._root / checked_key(key)
        try:
            self._link(part, target)
        except FileExistsError as error:
            if _is_same(part, target):
                return  # the same write again, after its answer was lost
            raise ConflictError("An object is written once.") from error
        _flush_folder(target.parent)

    def _link(self, part: Path, target: Path) -> None:
        """Give the file its name; whoever deletes may take the empty folder away meanwhile."""
        for _ in range(LINK_TRIES):
            with suppress(FileNotFoundError):
                self._make_folder(target.parent)
                os.link(part, target)
                return
        raise StoreUnavailableError

    def _make_folder(self, folder: Path) -> None:
        """Make the folders below the root and flush each new name to the disk."""
        missing = [folder] if not folder.is_dir() else []
        while missing and not missing[-1].parent.is_dir():
            missing.append(missing[-1].parent)
        folder.mkdir(parents=True, exist_ok=True)
        for made in reversed(missing):
            _flush_folder(made.parent)

    # --- reading ---

    def get_file(self, key: str, target: Path) -> None:
        with self._opened(key) as file, target.open("wb") as copy:
            shutil.copyfileobj(file, copy, CHUNK)

    def get_bytes(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        return b"".join(self.stream(key, start, end))

    def stream(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        with self._opened(key) as file:
            file.seek(start)
            left = os.fstat(file.fileno()).st_size if end is None else max(0, end - start)
            while left > 0 and (chunk := file.read(min(CHUNK, left))):
                left -= len(chunk)
                yield chunk

    def size(self, key: str) -> int | None:
        path = self._root / checked_key(key)
        if not self._is_ours(path) or not path.is_file():
            return None
        return path.stat().st_size

    def list(self, prefix: str) -> list[str]:
        folder = self._root / prefix.rpartition("/")[0]
        keys = []
        for parent, _folders, names in os.walk(folder):
            keys += [str((Path(parent) / name).relative_to(self._root)) for name in names]
        return sorted(
            key for key in keys if key.startswith(prefix) and not key.startswith(INCOMING)
        )

    @contextmanager
    def _opened(self, key: str) -> Iterator[BinaryIO]:
        path = self._root / checked_key(key)
        try:
            if not self._is_ours(path):
                raise ResultNotFoundError
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError as error:
            raise ResultNotFoundError from error
        with os.fdopen(descriptor, "rb") as file:
            yield file

    def _is_ours(self, path: Path) -> bool:
        """Whether no symbolic link leads from the root to the file."""
        return path.resolve() == self._root.resolve() / path.relative_to(self._root)

    # --- the rest ---

    def delete(self, keys: Sequence[str]) -> None:
        for key in keys:
            path = self._root / checked_key(key)
            path.unlink(missing_ok=True)
            for folder in path.parents:
                if folder == self._root or not _removed_if_empty(folder):
                    break

    def delete_stale_parts(self, older_than: timedelta) -> int:
        """Remove what killed writers left behind; returns how many."""
        newest = time.time() - older_than.total_seconds()
        removed = 0
        for part in (self._root / INCOMING).iterdir():
            with suppress(FileNotFoundError):  # its writer was faster
                if part.stat().st_mtime < newest:
                    part.unlink()
                    removed += 1
        return removed

    def signed_url(
        self, key: str, ttl: timedelta, *, name: str | None = None, media_type: str | None = None
    ) -> str:
        return self.signer.url(checked_key(key), ttl, name=name, media_type=media_type)


@contextmanager
def full_disk_told() -> Iterator[None]:
    """Say in our words that the disk is full."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageFullError from error
        raise


def _flush(file: BinaryIO) -> None:
    """Onto the disk, not only to the kernel."""
    file.flush()
    os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    """Make a new name durable: on POSIX that is the folder's own data."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _removed_if_empty(folder: Path) -> bool:
    try:
        folder.rmdir()
    except OSError:
        return False
    return True


def _is_same(one: Path, other: Path) -> bool:
    if one.samefile(other):
        return True
    if one.stat().st_size != other.stat().st_size:
        return False
    with one.open("rb") as first, other.open("rb") as second:
        while chunk := first.read(CHUNK):
            if chunk != second.read(CHUNK):
                return False
    return True
