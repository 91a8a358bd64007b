"""Compressed bytes, decompressed in small pieces and checked to the last one.

A wrong checksum, a wrong length or bytes behind the end are errors, where other readers stop as
soon as they have their voxels and never see them.

Source: RFC 1950 (zlib), RFC 1951 (deflate), RFC 1952 (gzip).
"""

from typing import Protocol

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
    """Where bytes come from, in order."""

    def piece(self, most: int) -> bytes:
        """Some bytes, at most so many; none at the end, and then all checksums were right."""
        ...

    def most_bytes(self) -> int:
        """How many bytes can be left at most; nothing larger must be allocated for them."""
        ...


class _Input:
    """Compressed bytes, some of which may have been read too far."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.pending = b""

    @property
    def left(self) -> int:
        return self._source.most_bytes() + len(self.pending)

    def fill(self) -> bool:
        """Make sure that bytes are pending; False at the end of the file."""
        if not self.pending:
            self.pending = self._source.piece(INPUT_CHUNK)
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

    def __init__(self, source: Source) -> None:
        self._input = _Input(source)
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

    def __init__(self, source: Source) -> None:
        self._input = _Input(source)
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
