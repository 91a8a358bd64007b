"""Looks through and unpacks archives that strangers packed: zip and tar.gz, one level deep.

Nothing that an archive announces is believed: what comes out is counted while it comes out. Names
are checked before a byte is written; links, devices and archives within are refused.
"""

import errno
import gzip
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, cast

from service.errors import (
    ArchiveMemberError,
    ArchiveNestedError,
    ArchivePathError,
    ArchiveTooLargeError,
    ArchiveTooManyFilesError,
    InvalidArchiveError,
)
from service.paths import checked_path

CHUNK = 1 << 20
ZIP_MAGIC, GZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06"), b"\x1f\x8b"
NESTED = (".zip", ".tar", ".tgz", ".gz.tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst", ".7z")
IGNORED = frozenset({"__MACOSX", ".DS_Store", "Thumbs.db"})
# What a zip's directory may take for each file; its real entries take 46 bytes and the name.
DIRECTORY_BYTES_PER_FILE = 1024
ZIP_ENTRY = b"PK\x01\x02"
MOST_ENTRIES_PER_FILE = 4  # folders have entries too
# Where the directory's size stands: magic, type, offset, length of the record; and for zip64.
ZIP_ENDS = ((b"PK\x05\x06", "<L", 12, 22), (b"PK\x06\x06", "<Q", 40, 56))
# Headers of a tar are read in one go; real ones hold a long name or a few attributes.
LONGEST_HEADER = 1 << 20

DAMAGED = "The archive is damaged; pack and send it again."

Tick = Callable[[], None]


@dataclass(frozen=True)
class ArchiveLimits:
    """How much may come out of one archive."""

    max_files: int
    max_bytes: int


@dataclass
class Contents:
    """What has come out of an archive so far."""

    limits: ArchiveLimits
    files: int = 0
    bytes: int = 0
    _files: set[str] = field(default_factory=set)
    _folders: set[str] = field(default_factory=set)

    def admit(self, name: str) -> PurePosixPath:
        """The path of the next file, if it may come out."""
        path = checked_path(name)
        if path.name.lower().endswith(NESTED):
            raise ArchiveNestedError(
                "The archive holds another archive; pack the files themselves, one level deep."
            )
        folded = str(path).casefold()
        parents = {str(parent).casefold() for parent in path.parents} - {"."}
        if folded in self._files | self._folders or parents & self._files:
            raise ArchivePathError("Two members of the archive have the same path.")
        self.count()
        self._files.add(folded)
        self._folders |= parents
        return path

    def count(self) -> None:
        self.files += 1
        if self.files > self.limits.max_files:
            raise ArchiveTooManyFilesError(
                f"This service takes data of up to {self.limits.max_files} files."
            )

    def grow(self, size: int) -> None:
        self.bytes += size
        if self.bytes > self.limits.max_bytes:
            raise ArchiveTooLargeError(
                f"This service takes data of up to {self.limits.max_bytes >> 20} MiB, unpacked."
            )


class Member(NamedTuple):
    """One file of an archive; a zip announces its size."""

    name: str
    stream: IO[bytes]
    announced: int | None = None


def look_through(archive: Path, limits: ArchiveLimits, tick: Tick = lambda: None) -> Contents:
    """Count what would come out, without writing it; sizes of a zip are as announced.

    Raises:
        InvalidArchiveError: Its subclass says what is wrong.
    """
    contents = Contents(limits)
    with _readable():
        for member in _members(archive, contents):
            contents.admit(member.name)
            if member.announced is not None:
                contents.grow(member.announced)
            else:
                _drain(member.stream, contents, lambda _chunk: None, tick)
    return _not_empty(contents)


def unpack(
    archive: Path, folder: Path, limits: ArchiveLimits, tick: Tick = lambda: None
) -> Contents:
    """Unpack into a new folder.

    Args:
        archive: A zip or tar.gz file.
        folder: Is made here; holds nothing but the archive's files afterwards.
        limits: What may come out.
        tick: Called between chunks; may raise to stop.

    Raises:
        InvalidArchiveError: Its subclass says what is wrong.
        OSError: If there is no room.
    """
    contents = Contents(limits)
    folder.mkdir(mode=0o700)
    with _readable():
        for member in _members(archive, contents):
            target = folder / contents.admit(member.name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with target.open("xb") as file:
                _drain(member.stream, contents, file.write, tick)
    return _not_empty(contents)


def is_zip(start: bytes) -> bool:
    """Whether a file that starts so is a zip archive."""
    return start.startswith(ZIP_MAGIC)


def unpack_numbered(
    archive: Path, folder: Path, limits: ArchiveLimits, tick: Tick = lambda: None
) -> Contents:
    """Unpack into a new folder as files 00000001 and so on, whatever their names say.

    Args:
        archive: A zip or tar.gz file.
        folder: Is made here.
        limits: What may come out.
        tick: Called between chunks; may raise to stop.

    Raises:
        InvalidArchiveError: Its subclass says what is wrong.
        OSError: If there is no room.
    """
    contents = Contents(limits)
    folder.mkdir(mode=0o700)
    with _readable():
        for member in _members(archive, contents, are_names_checked=False):
            contents.count()
            with (folder / f"{contents.files:08d}").open("xb") as file:
                _drain(member.stream, contents, file.write, tick)
    return _not_empty(contents)


def _drain(
    stream: IO[bytes], contents: Contents, write: Callable[[bytes], Any], tick: Tick
) -> None:
    while chunk := stream.read(CHUNK):
        contents.grow(len(chunk))
        write(chunk)
        tick()


def _not_empty(contents: Contents) -> Contents:
    if contents.files == 0:
        raise InvalidArchiveError("The archive holds no files.")
    return contents


def _members(
    archive: Path, contents: Contents, *, are_names_checked: bool = True
) -> Iterator[Member]:
    """Name and bytes of each file, in order; each is to be read before the next is asked for."""
    with archive.open("rb") as file:
        magic = file.read(4)
    if magic in ZIP_MAGIC:
        yield from _zip_members(archive, contents.limits, are_names_checked)
    elif magic.startswith(GZIP_MAGIC):
        yield from _tar_members(archive, contents)
    else:
        raise InvalidArchiveError("Send the data as a .zip or a .tar.gz; this is neither.")


@contextmanager
def _readable() -> Iterator[None]:
    """Say a library's failure in our words; its own words may hold names."""
    try:
        yield
    except (
        zipfile.BadZipFile,
        tarfile.TarError,
        gzip.BadGzipFile,
        zlib.error,
        struct.error,
        ArithmeticError,
        EOFError,
        LookupError,
        NotImplementedError,
        RecursionError,
        RuntimeError,
        UnicodeError,
        ValueError,
    ):
        raise InvalidArchiveError(DAMAGED) from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # a place before the file's beginning, as announced
            raise
        raise InvalidArchiveError(DAMAGED) from None


# --- zip ---


def _zip_members(archive: Path, limits: ArchiveLimits, are_names_checked: bool) -> Iterator[Member]:
    _require_small_directory(archive, limits)
    with zipfile.ZipFile(archive) as opened:
        _require_announced(opened.infolist(), limits)
        for entry in opened.infolist():
            _check_entry(entry, are_names_checked)
            if not (entry.is_dir() or _is_ignored(entry.filename)):
                with opened.open(entry) as stream:
                    yield Member(entry.orig_filename, stream, entry.file_size)


def _require_small_directory(archive: Path, limits: ArchiveLimits) -> None:
    """`zipfile` reads the directory whole: a million entries would fill the memory."""
    with archive.open("rb") as file:
        file.seek(max(0, archive.stat().st_size - (1 << 16) - 22))
        tail = file.read()
    sizes = [
        struct.unpack_from(form, tail, end + offset)[0]
        for magic, form, offset, length in ZIP_ENDS
        if 0 <= (end := tail.rfind(magic)) <= len(tail) - length
    ]
    if not sizes:
        return
    if min(sizes) > (limits.max_files + 1) * DIRECTORY_BYTES_PER_FILE:
        raise _too_many(limits)
    with archive.open("rb") as file:
        file.seek(max(0, archive.stat().st_size - len(tail) - min(sizes)))
        entries = file.read().count(ZIP_ENTRY)
    if entries > MOST_ENTRIES_PER_FILE * (limits.max_files + 1):
        raise _too_many(limits)


def _too_many(limits: ArchiveLimits) -> ArchiveTooManyFilesError:
    return ArchiveTooManyFilesError(f"This service takes data of up to {limits.max_files} files.")


def _require_announced(entries: list[zipfile.ZipInfo], limits: ArchiveLimits) -> None:
    """An honest bomb is refused before it is unpacked; one that lies, while it is."""
    announced = sum(entry.file_size for entry in entries)
    if announced > limits.max_bytes:
        raise ArchiveTooLargeError(
            f"This service takes data of up to {limits.max_bytes >> 20} MiB, unpacked."
        )


def _check_entry(entry: zipfile.ZipInfo, is_name_checked: bool) -> None:
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise ArchiveMemberError
    if entry.flag_bits & 1:
        raise InvalidArchiveError("The archive is encrypted; send it without a password.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise InvalidArchiveError("Pack the zip with `deflate` or without compression.")
    if entry.is_dir() and is_name_checked:
        checked_path(entry.orig_filename)


# --- tar.gz ---


class _Bounded:
    """An inflated stream that never hands out much at once: headers announce any size."""

    def __init__(self, stream: gzip.GzipFile) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= LONGEST_HEADER:
            raise InvalidArchiveError("The archive has a header of absurd size.")
        return self._stream.read(size)

    def seek(self, position: int, whence: int = 0) -> int:
        """Only forward, in steps that stay small."""
        if whence != 0 or position < self._stream.tell():
            raise InvalidArchiveError(DAMAGED)
        return self._stream.seek(position)

    def tell(self) -> int:
        return self._stream.tell()


def _tar_members(archive: Path, contents: Contents) -> Iterator[Member]:
    with gzip.open(archive) as stream:
        bounded = cast(IO[bytes], _Bounded(stream))
        with tarfile.open(fileobj=bounded, mode="r:") as opened:
            while (entry := opened.next()) is not None:
                if entry.isdir():
                    contents.count()
                    continue
                if not entry.isreg() or entry.issparse():
                    raise ArchiveMemberError
                if not _is_ignored(entry.name):
                    yield Member(entry.name, _sized(bounded, entry))
                cast(Any, opened).members.clear()  # a TarFile remembers all it has seen


class _Sized:
    """The bytes of one member, straight from the stream."""

    def __init__(self, stream: IO[bytes], size: int) -> None:
        self._stream, self._left = stream, size

    def read(self, size: int) -> bytes:
        chunk = self._stream.read(min(size, self._left, LONGEST_HEADER))
        if self._left and not chunk:
            raise EOFError
        self._left -= len(chunk)
        return chunk


def _sized(stream: IO[bytes], entry: tarfile.TarInfo) -> IO[bytes]:
    stream.seek(entry.offset_data)
    return cast(IO[bytes], _Sized(stream, entry.size))


def _is_ignored(name: str) -> bool:
    """What desktops leave behind."""
    return bool(IGNORED.intersection(PurePosixPath(name).parts))
