"""The files of one call, one after the other: begun or gone on with, taken, kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.concurrency import run_in_threadpool

from service.errors import ConflictError, UploadIncompleteError, ValidationError, WarplineError
from service.gateway.announcing import announced
from service.gateway.desk import Desk
from service.gateway.growing import Growing
from service.gateway.parts import Parts
from service.gateway.rpc.chunks import Chunk
from service.gateway.rpc.clerk import uuid_of
from service.gateway.rpc.messages import timestamp
from service.gateway.rpc.receiving import Receiving
from service.jobs.job import Upload
from service.pb import warpline_pb2 as pb

Told = Callable[[pb.FileOpened | pb.FileReceived | Exception], None]


def received_message(upload: Upload) -> pb.FileReceived:
    """What has arrived of an upload."""
    sha256 = bytes.fromhex(upload.sha256) if upload.is_complete and upload.sha256 else b""
    return pb.FileReceived(
        upload_id=str(upload.id),
        received_bytes=upload.received,
        is_complete=upload.is_complete,
        sha256=sha256,
    )


def opened_message(upload: Upload, role: str) -> pb.FileOpened:
    """That a file is taken, and from where."""
    return pb.FileOpened(
        role=role,
        upload_id=str(upload.id),
        received_bytes=upload.received,
        expires_at=timestamp(upload.expires_at),
    )


class Filing:
    """Takes the files of one call; each is an upload of the caller, as over REST."""

    def __init__(self, desk: Desk, owner: str, folder: Path, told: Told) -> None:
        """Begin without a file.

        Args:
            desk: The gateway's.
            owner: Who calls.
            folder: Of the spool, for as long as the files are needed.
            told: Hears of each file that is opened, of each acknowledgement, and of what goes
                wrong between two chunks.
        """
        self.uploads: dict[str, Upload] = {}  # complete ones, by role
        self.paths: dict[str, Path] = {}  # where one came whole in this call
        self.sent: list[Upload] = []  # those of which bytes came in this call
        self._desk = desk
        self._owner = owner
        self._folder = folder
        self._told = told
        self._role = ""
        self._receiving: Receiving | None = None

    @property
    def is_open(self) -> bool:
        """Whether bytes of a file are missing."""
        return self._receiving is not None

    async def start(self, start: pb.FileStart) -> None:
        """Begin a file, or go on with one.

        Raises:
            UploadNotFoundError: If there is no such upload, or it is another caller's.
            ValidationError: If it does not fit the upload that it goes on with.
            BodyTooLargeError, StorageFullError: If there is no room for it.
        """
        self.require_whole()
        self._role = start.role
        with self._role_told():
            upload = await run_in_threadpool(self._upload, start)
        self._told(opened_message(upload, start.role))
        if upload.is_complete:
            self.uploads[self._role] = upload
            self._told(received_message(upload))
            return
        growing = Growing(self._desk.stores, upload, self._folder)
        self._receiving = Receiving(growing, self._heard)

    def _heard(self, news: Upload | Exception) -> None:
        self._told(received_message(news) if isinstance(news, Upload) else news)

    def _upload(self, start: pb.FileStart) -> Upload:
        if len(start.sha256) not in (0, 32):
            raise ValidationError("A SHA-256 has 32 bytes.", field="sha256")
        sha256 = start.sha256.hex() or None
        if start.upload_id:
            return self._found(start, sha256)
        if start.size_bytes < 1:
            raise ValidationError("A file has at least one byte.", field="size_bytes")
        return announced(self._desk, self._owner, start.size_bytes, sha256, field="size_bytes")

    def _found(self, start: pb.FileStart, sha256: str | None) -> Upload:
        upload_id = uuid_of(start.upload_id, "upload_id")
        upload = self._desk.stores.uploads.upload(upload_id, self._owner)
        if start.size_bytes not in (0, upload.bytes):
            raise ValidationError(
                f"The upload was announced with {upload.bytes} bytes.", field="size_bytes"
            )
        if sha256 is not None:
            self._require_same(upload, sha256)
        self._desk.spool.require_room(upload.bytes - upload.received)
        return upload

    def _require_same(self, upload: Upload, sha256: str) -> None:
        try:
            if upload.is_complete and upload.sha256 != sha256:
                raise ConflictError
            if not upload.is_complete:
                Parts(self._desk.stores, upload).announce(sha256)
        except ConflictError:
            raise ValidationError(
                "The upload is of a file with another SHA-256.", field="sha256"
            ) from None

    async def take(self, chunk: Chunk) -> int:
        """Take a chunk of the file that was started last and give its size.

        Raises:
            ValidationError: If there is none that misses bytes.
            WarplineError: From `Receiving`.
        """
        if self._receiving is None:
            raise ValidationError(
                "This chunk belongs to no file: send FileStart first, and nothing after a "
                "file's last byte.",
                field="chunk",
            )
        with self._role_told():
            size = await self._receiving.take(chunk)
            if self._receiving.is_whole:
                await self._finish(self._receiving)
        return size

    @contextmanager
    def _role_told(self) -> Iterator[None]:
        """Name the role in errors, where there is one: a call may bring many files."""
        try:
            yield
        except WarplineError as error:
            error.field = self._role or error.field
            raise

    async def _finish(self, receiving: Receiving) -> None:
        await receiving.finish()
        self._receiving = None
        growing = receiving.growing
        self.uploads[self._role] = growing.upload
        self.sent.append(growing.upload)
        if growing.path is not None:
            self.paths[self._role] = growing.path

    def require_whole(self) -> None:
        """Raises UploadIncompleteError if bytes of the last file are missing."""
        if self._receiving is not None:
            upload = self._receiving.growing.upload
            raise UploadIncompleteError(
                f"Bytes of this file's {upload.bytes} are missing; go on with its upload id.",
                field=self._role or None,
            )

    async def keep(self) -> None:
        """The call ends: acknowledge what has come of the last file."""
        if self._receiving is not None:
            await self._receiving.keep()
            self._receiving = None
