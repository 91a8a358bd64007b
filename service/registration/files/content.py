"""A file's bytes in order, decompressed where they are compressed, never more than asked for.

Nothing here trusts a length that the file announces. Compressed content is checked to its last
byte: a wrong checksum, a wrong length or bytes behind the end are errors. Readers elsewhere stop
as soon as they have their voxels and so never see a wrong checksum.

Source: RFC 1950 (zlib), RFC 1951 (deflate), RFC 1952 (gzip).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np
from isal import isal_zlib

from service.errors import (
    CorruptFileError,
    GzipChecksumError,
    TrailingDataError,
    TruncatedFileError,
)

INPUT_CHUNK = 1 << 17
OUTPUT_CHUNK = 1 << 18
GZIP_MAGIC = b"\x1f\x8b"
# Deflate's longest match is 258 bytes in two bits, so it cannot expand any further.
MOST_EXPANSION = 1032
# Block-gzip tools write members of up to 64 KiB; far smaller ones only serve to waste time.
FREE_MEMBERS, LEAST_MEMBER_BYTES = 64, 1024
# Writers pad files to whole blocks, so a little may follow the end.
PADDING_BYTES = 1024


class Source(Protocol):
    """Where content comes from; the methods are those of Content."""

    def piece(self, most: int) -> bytes: ...

    def most_bytes(self) -> int: ...


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


class _Input:
    """Compressed bytes, some of which may have been read too far."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._left = stream, size
        self.pending = b""

    @property
    def left(self) -> int:
        return self._left + len(self.pending)

    def fill(self) -> bool:
        """Make sure that bytes are pending; False at the end of the file."""
        if not self.pending:
            self.pending = self._stream.read(INPUT_CHUNK)
            self._left -= len(self.pending)
        return bool(self.pending)

    def take(self, count: int) -> bytes:
        """Exactly so many bytes."""
        taken = b""
        while len(taken) < count:
            if not self.fill():
                raise TruncatedFileError(
                    "The compressed data ends too early. Send the whole file again."
                )
            wanted = count - len(taken)
            taken, self.pending = taken + self.pending[:wanted], self.pending[wanted:]
        return taken

    def pass_text(self) -> None:
        """Pass over a text that ends in a zero byte."""
        while self.take(1) != b"\0":
            continue


class _Inflater:
    """One deflate stream."""

    def __init__(self, source: _Input) -> None:
        self._source = source
        self._inflate = isal_zlib.decompressobj(wbits=-15)

    def piece(self, most: int) -> bytes:
        """Some bytes; none when the deflate stream is complete."""
        while not self._inflate.eof:
            at_end = not self._source.fill()
            try:
                data: bytes = self._inflate.decompress(self._source.pending, most)
            except isal_zlib.IsalError:  # type: ignore[misc]  # the stub takes it for an instance
                raise CorruptFileError(
                    "The compressed data is damaged. Send the file again."
                ) from None
            inflate = self._inflate
            self._source.pending = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
            if data:
                return data
            if at_end and not inflate.eof:
                raise TruncatedFileError(
                    "The compressed data ends too early. Send the whole file again."
                )
        return b""


class GzipSource:
    """The decompressed bytes of a gzip file; several members count as one content."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._input = _Input(stream, size)
        self._member: _Inflater | None = None
        self._members, self._total = 0, 0
        self._crc, self._size = 0, 0

    def piece(self, most: int) -> bytes:
        while (member := self._member or self._open_member()) is not None:
            if data := member.piece(min(most, OUTPUT_CHUNK)):
                self._crc = isal_zlib.crc32(data, self._crc)
                self._size += len(data)
                self._total += len(data)
                return data
            self._close_member()
        return b""

    def most_bytes(self) -> int:
        return (self._input.left + INPUT_CHUNK) * MOST_EXPANSION

    def _open_member(self) -> _Inflater | None:
        if not self._input.fill():
            return None
        if self._members and self._input.pending[:1] != GZIP_MAGIC[:1]:
            _pass_padding(self._input)
            return None
        _pass_gzip_header(self._input)
        self._members += 1
        if self._members > FREE_MEMBERS + self._total // LEAST_MEMBER_BYTES:
            raise CorruptFileError(
                "The gzip file is cut into very many tiny members. Compress it again in one piece."
            )
        self._member = _Inflater(self._input)
        self._crc, self._size = 0, 0
        return self._member

    def _close_member(self) -> None:
        self._member = None
        trailer = self._input.take(8)
        crc, size = (int.from_bytes(trailer[i : i + 4], "little") for i in (0, 4))
        if crc != self._crc:
            raise GzipChecksumError(
                "The gzip checksum does not fit the data: the file was damaged on its way. "
                "Send it again."
            )
        if size != self._size % 2**32:
            raise GzipChecksumError(
                "The length in the gzip trailer does not fit the data: the file was damaged on "
                "its way. Send it again."
            )


class ZlibSource:
    """The decompressed bytes of a zlib stream, as MetaImage holds them."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._input = _Input(stream, size)
        header = self._input.take(2)
        if header[0] & 0x0F != 8 or header[1] & 0x20 or int.from_bytes(header, "big") % 31:
            raise CorruptFileError("The compressed data is damaged. Send the file again.")
        self._inflater = _Inflater(self._input)
        self._adler, self._is_done = 1, False

    def piece(self, most: int) -> bytes:
        if data := self._inflater.piece(min(most, OUTPUT_CHUNK)):
            self._adler = isal_zlib.adler32(data, self._adler)
            return data
        if not self._is_done:
            self._is_done = True
            if int.from_bytes(self._input.take(4), "big") != self._adler:
                raise CorruptFileError(
                    "The checksum of the compressed data does not fit: the file was damaged on "
                    "its way. Send it again."
                )
            _pass_padding(self._input)
        return b""

    def most_bytes(self) -> int:
        return (self._input.left + INPUT_CHUNK) * MOST_EXPANSION


def _pass_gzip_header(source: _Input) -> None:
    """Pass over a member's header; its name and comment are never looked at. RFC 1952, 2.3."""
    header = source.take(10)
    flags = header[3]
    if header[:2] != GZIP_MAGIC or header[2] != 8 or flags & 0xE0:
        raise CorruptFileError("The gzip header is damaged. Send the file again.")
    if flags & 4:
        source.take(int.from_bytes(source.take(2), "little"))
    for has_text in (flags & 8, flags & 16):
        if has_text:
            source.pass_text()
    if flags & 2:
        source.take(2)


def _pass_padding(source: _Input) -> None:
    """Accept a few zeros behind compressed data, as gzip does, and nothing else."""
    rest = source.pending[: PADDING_BYTES + 1] if source.fill() else b""
    if rest.strip(b"\0") or source.left > PADDING_BYTES:
        raise TrailingDataError(
            "The file goes on after its compressed data. Send the volume alone, as it was written."
        )
    source.take(source.left)


class Content:
    """A file's bytes in order, with a look ahead for the gate that reads its header."""

    def __init__(self, source: Source) -> None:
        self._source, self._held = source, b""
        self.position = 0

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

    def pass_over(self, count: int) -> None:
        """Read and forget.

        Raises:
            TruncatedFileError: If the content ends first.
        """
        done = 0
        while done < count:
            data = self.piece(count - done)
            if not data:
                raise truncated(count, done)
            done += len(data)

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
                raise TrailingDataError(
                    "The file goes on after the voxels that its header announces. "
                    "Check the dimensions, or write the volume again."
                )


@contextmanager
def opened(path: Path) -> Iterator[tuple[Content, bool]]:
    """The content of a file, and whether it is gzipped."""
    with path.open("rb") as stream:
        size = path.stat().st_size
        is_gzipped = stream.read(2) == GZIP_MAGIC
        stream.seek(0)
        source = GzipSource(stream, size) if is_gzipped else PlainSource(stream, size)
        yield Content(source), is_gzipped


def truncated(expected: int, found: int) -> TruncatedFileError:
    """The error for bytes that are not there."""
    return TruncatedFileError(
        f"The header announces {expected} bytes and the file ends after {found} of them. "
        "Send the whole file again."
    )
