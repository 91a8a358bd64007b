"""An upload's pieces: objects of their own until the last one is there, then one object.

A piece is acknowledged by the upload's row and by nothing else: one that was stored when the
process died before the row knew of it is sent again. A piece may still grow at its end while it is
an object; its name says how many of its bytes count.
"""

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from service.errors import (
    BodyTooLargeError,
    ChecksumMismatchError,
    ConflictError,
    UploadIncompleteError,
)
from service.gateway.spool import BATCH_BYTES, Arrival, Sink
from service.jobs.job import Upload
from service.stores.build import Stores

PART = re.compile(r"part-(\d{16})-(\d+)-[0-9a-f]{16}")


@dataclass(frozen=True)
class Parts:
    """The pieces of one upload, `uploads/ID/part-OFFSET-LENGTH-RANDOM`."""

    stores: Stores
    upload: Upload

    @property
    def _folder(self) -> str:
        return self.upload.key.rpartition("/")[0]

    def announce(self, sha256: str) -> None:
        """Remember what the whole file's sum is to be."""
        self.stores.blobs.put_bytes(f"{self._folder}/sha256", sha256.encode())

    def keep(self, piece: Arrival, folder: Path) -> Upload:
        """Store a piece and acknowledge it; the last one finishes the upload.

        Args:
            piece: The bytes that follow the last acknowledged one.
            folder: Scratch space.

        Raises:
            BodyTooLargeError: If it goes beyond the announced size.
            ConflictError: If another request was faster.
            ChecksumMismatchError: If the whole does not fit its sum; the upload is then dropped.
        """
        received = self.upload.received + piece.bytes
        if received > self.upload.bytes:
            raise BodyTooLargeError(
                f"{self.upload.bytes} bytes were announced; the body goes on after them."
            )
        if piece.bytes == self.upload.bytes:
            return self._finish(piece)
        if received == self.upload.bytes:
            return self._finish(self._join(piece, folder / "whole"))
        if piece.bytes:
            self._store(piece)
        return self.stores.uploads.advance(self.upload.id, received, None)

    def drop(self) -> None:
        """Forget the upload; its objects go too, unless a job still reads them."""
        self.stores.uploads.delete(self.upload.id)
        prefix = f"{self._folder}/"
        if not self.stores.jobs.live_keys([prefix]):
            self.stores.blobs.delete(self.stores.blobs.list(prefix))

    def _store(self, piece: Arrival) -> None:
        offset = self.upload.received
        key = self.piece_key(piece.bytes)
        self.stores.blobs.take_file(key, piece.path)
        now = self.stores.uploads.upload(self.upload.id, self.upload.owner)
        if now.received != offset:
            self.stores.blobs.delete([key])
            raise ConflictError(
                f"Another request has sent these bytes; {now.received} have arrived.",
                field="Upload-Offset",
            )

    def piece_key(self, length: int) -> str:
        """A new name for the `length` bytes that follow the last acknowledged one."""
        nonce = secrets.token_hex(8)
        return f"{self._folder}/part-{self.upload.received:016d}-{length}-{nonce}"

    def _chain(self) -> Iterator[tuple[str, int]]:
        """The pieces that make up the received bytes, last first, and how much of each.

        Each piece began where the row stood, so every one that holds the right last byte has
        others before it, down to the first byte. One that ends there was the last to be
        acknowledged; a longer one may have been stored without anybody knowing.
        """
        pieces = self._stored()
        end = self.upload.received
        while end > 0:
            fitting = [piece for piece in pieces if piece[0] < end <= piece[1]]
            if not fitting:
                raise UploadIncompleteError("A piece is lost; announce the file again.")
            start, _, key = min(fitting, key=lambda piece: (piece[1], -piece[0]))
            yield key, end - start
            end = start

    def _stored(self) -> list[tuple[int, int, str]]:
        """Every piece: its first byte, the byte after its last one, its key."""
        found = []
        for key in self.stores.blobs.list(f"{self._folder}/part-"):
            if named := PART.fullmatch(key.rpartition("/")[2]):
                start, length = int(named[1]), int(named[2])
                found.append((start, start + length, key))
        return found

    def _join(self, last: Arrival, target: Path) -> Arrival:
        sink = Sink(target)
        for key, length in reversed(list(self._chain())):
            before = sink.size
            for chunk in self.stores.blobs.stream(key, 0, length):
                sink.write(chunk)
            if sink.size - before != length:  # the power was cut before the disk had it
                raise UploadIncompleteError("A piece is damaged; announce the file again.")
        with last.path.open("rb") as file:
            while chunk := file.read(BATCH_BYTES):
                sink.write(chunk)
        return sink.close()

    def _finish(self, whole: Arrival) -> Upload:
        announced = f"{self._folder}/sha256"
        if self.stores.blobs.size(announced) is not None:
            wanted = self.stores.blobs.get_bytes(announced).decode()
            if wanted != whole.sha256:
                self.drop()
                raise ChecksumMismatchError(
                    "The file does not fit the SHA-256 that was announced for it, so it was "
                    "dropped; announce it again.",
                    field="/sha256",
                )
        self.stores.blobs.take_file(self.upload.key, whole.path)
        done = self.stores.uploads.advance(self.upload.id, self.upload.bytes, whole.sha256)
        rest = set(self.stores.blobs.list(f"{self._folder}/")) - {self.upload.key}
        self.stores.blobs.delete(sorted(rest))
        return done
