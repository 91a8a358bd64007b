"""A file's bytes in order, never more at a time than asked for, and none that are not there.

Nothing here trusts a length that the file announces. Content is read to its last byte, so that
bytes behind the end are seen; readers elsewhere stop as soon as they have their voxels.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

from service.errors import TrailingDataError, TruncatedFileError
from service.registration.files.inflate import (
    GZIP_MAGIC,
    OUTPUT_CHUNK,
    PADDING_BYTES,
    GzipSource,
    Source,
    ZlibSource,
)


class PlainSource:
    """The bytes as they lie in the file."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._left = stream, size

    def piece(self, most: int) -> bytes:
        data = self._stream.read(min(most, OUTPUT_CHUNK))
        self._left -= len(data)
        return data

    def most_bytes(self) -> int:
        return self._left


class Content:
    """A file's bytes in order, with a look ahead for the gate that reads its header."""

    def __init__(self, source: Source) -> None:
        self._source, self._held = source, b""
        self.position = 0

    def inflated(self) -> "Content":
        """What the rest of the content, which is gzip or zlib, holds."""
        is_gzip = self.peek(2) == GZIP_MAGIC
        return Content(GzipSource(self) if is_gzip else ZlibSource(self))

    def peek(self, count: int) -> bytes:
        """The next so many bytes, which stay to be read; fewer only at the end."""
        pieces, missing = [self._held], count - len(self._held)
        while missing > 0 and (data := self._source.piece(missing)):
            pieces.append(data)
            missing -= len(data)
        self._held = b"".join(pieces)
        return self._held[:count]

    def piece(self, most: int) -> bytes:
        """Some bytes, at most so many; none at the end, and then all checksums were right."""
        if self._held:
            data, self._held = self._held[:most], self._held[most:]
        else:
            data = self._source.piece(most)
        self.position += len(data)
        return data

    def most_bytes(self) -> int:
        """How many bytes can be left at most; nothing larger must be allocated for them."""
        return len(self._held) + self._source.most_bytes()

    def fill(self, target: memoryview) -> None:
        """Read until the target is full.

        Raises:
            TruncatedFileError: If the content ends first.
        """
        done = 0
        while done < len(target):
            data = self.piece(len(target) - done)
            if not data:
                raise truncated(len(target), done)
            target[done : done + len(data)] = data
            done += len(data)

    def voxels(self, count: int) -> np.ndarray:
        """The next so many bytes in an array of their own, which is writeable.

        Raises:
            TruncatedFileError: If the content ends first; nothing is allocated where it must.
        """
        if self.most_bytes() < count:
            raise truncated(count, self.most_bytes())
        stored = np.empty(count, np.uint8)
        self.fill(stored.data)
        return stored

    def pass_on(self, count: int, take: Callable[[bytes], object]) -> None:
        """Read the next so many bytes, a piece at a time.

        Raises:
            TruncatedFileError: If the content ends first.
        """
        done = 0
        while done < count:
            data = self.piece(count - done)
            if not data:
                raise truncated(count, done)
            take(data)
            done += len(data)

    def pass_over(self, count: int) -> None:
        """Read and forget.

        Raises:
            TruncatedFileError: If the content ends first.
        """
        self.pass_on(count, lambda _: None)

    def finish(self) -> None:
        """Read to the end, which must come soon: only then has every checksum been looked at.

        Up to 1 KiB may follow, which some writers leave; it is ignored.

        Raises:
            TrailingDataError: If more follows.
        """
        left = PADDING_BYTES
        while data := self.piece(left + 1):
            left -= len(data)
            if left < 0:
                raise trailing()


@contextmanager
def opened(path: Path) -> Iterator[tuple[Content, bool]]:
    """The content of a file, and whether it is gzipped."""
    with path.open("rb") as stream:
        size = path.stat().st_size
        is_gzipped = stream.read(2) == GZIP_MAGIC
        stream.seek(0)
        plain = PlainSource(stream, size)
        yield Content(GzipSource(plain) if is_gzipped else plain), is_gzipped


def truncated(expected: int, found: int) -> TruncatedFileError:
    """The error for bytes that are not there."""
    return TruncatedFileError(
        f"The header announces {expected} bytes and the file ends after {found} of them. "
        "Send the whole file again."
    )


def trailing() -> TrailingDataError:
    """The error for bytes that should not be there."""
    return TrailingDataError(
        "The file goes on after the voxels that its header announces. "
        "Check the dimensions, or write the volume again."
    )
