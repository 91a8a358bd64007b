"""What follows an upload's last acknowledged byte, while it arrives: one file that grows.

Where the store can share the file, an acknowledgement is a second name for it, and no byte is
written twice; elsewhere the new bytes are stored as a piece of their own.
"""

from collections.abc import Sequence
from pathlib import Path
from secrets import token_hex

from service.gateway.limits import MIB
from service.gateway.parts import Parts
from service.gateway.spool import Sink
from service.jobs.job import Upload
from service.stores.build import Stores

# Of one object, where a store keeps pieces in objects of their own: it passes through memory.
LARGEST_PIECE_BYTES = 32 * MIB


class Growing:
    """The bytes of one sender. Methods wait for disks; `acknowledge` may run beside others."""

    def __init__(self, stores: Stores, upload: Upload, folder: Path) -> None:
        """Begin after the bytes that the upload has.

        Args:
            stores: Where pieces and the whole go.
            upload: As it is now.
            folder: Of the spool; the file lies there as long as the folder does.
        """
        self.upload = upload
        self._stores = stores
        self._folder = folder
        self._begun = upload  # as it was before this sender's first byte
        self._sink = Sink(
            folder / f"growing-{token_hex(8)}", expected=upload.bytes - upload.received
        )
        self._shared: str | None = None  # the newest name that the store has for the file

    @property
    def end(self) -> int:
        """Bytes of the upload that are written, acknowledged or not."""
        return self._begun.received + self._sink.size

    @property
    def unacknowledged(self) -> int:
        """Bytes that would be lost with this process."""
        return self.end - self.upload.received

    @property
    def path(self) -> Path | None:
        """The whole file, if it is complete and all of it came from this sender."""
        is_here = self.upload.is_complete and self._begun.received == 0
        return self._sink.path if is_here else None

    def write(self, chunks: Sequence[bytes | memoryview]) -> None:
        """Write these bytes after those that are there; `sum_up` wants them too."""
        self._sink.put(chunks)

    def sum_up(self, chunks: Sequence[bytes | memoryview]) -> None:
        """Count these bytes in the file's SHA-256; it may run beside `write`.

        Of a file that began elsewhere the sum is taken when it is put together.
        """
        if self._begun.received == 0:
            self._sink.sum_up(chunks)

    def acknowledge(self) -> Upload:
        """Make what has been written survive this process and, on a local disk, a power cut.

        A file's last byte is left to `finish`.

        Raises:
            ConflictError: If another sender was faster.
            UploadNotFoundError: If it was dropped.
        """
        end = min(self.end, self.upload.bytes - 1)
        if end <= self.upload.received:
            return self.upload
        self._sink.flush()
        if not self._share(end):
            end = self._store(end)
        self.upload = self._stores.uploads.advance(self.upload.id, end, None)
        return self.upload

    def _share(self, end: int) -> bool:
        key = Parts(self._stores, self._begun).piece_key(end - self._begun.received)
        if not self._stores.blobs.share_file(key, self._sink.path):
            return False
        before, self._shared = self._shared, key
        if before is not None:  # the longer piece holds its bytes too
            self._stores.blobs.delete([before])
        return True

    def _store(self, end: int) -> int:
        """Store the next bytes as a piece; gives where it ends."""
        length = min(end - self.upload.received, LARGEST_PIECE_BYTES)
        piece = self._sink.path.with_suffix(".piece")
        with self._sink.path.open("rb") as file:
            file.seek(self.upload.received - self._begun.received)
            piece.write_bytes(file.read(length))
        try:
            self._stores.blobs.take_file(Parts(self._stores, self.upload).piece_key(length), piece)
        finally:
            piece.unlink()
        return self.upload.received + length

    def finish(self) -> Upload:
        """Put the whole file together, check it and acknowledge it.

        Raises:
            ChecksumMismatchError: If it does not fit its sum; the upload is then dropped.
            ConflictError: If another sender was faster.
        """
        arrival = self._sink.close()
        self.upload = Parts(self._stores, self._begun).keep(arrival, self._folder)
        return self.upload

    def close(self) -> None:
        """Nothing more will come."""
        self._sink.close()
