"""Uploads, objects and doorbells in memory: fakes for tests, under the same suites."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

from service.errors import ConflictError, ResultNotFoundError, UploadNotFoundError
from service.jobs.job import Queue, Upload
from service.stores.keys import checked_key
from service.stores.signing import UrlSigner
from service.stores.sql_uploads import check_advance


class MemoryUploadStore:
    """`service.jobs.ports.UploadStore` in one process."""

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        is_read: Callable[[str], bool] = lambda _key: False,
    ) -> None:
        """Start empty.

        Args:
            clock: Seconds since 1970.
            is_read: Whether an unfinished job has an object key among its inputs.
        """
        self._clock = clock
        self._is_read = is_read
        self._uploads: dict[UUID, Upload] = {}
        self._lock = threading.Lock()

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    def open(self, owner: str, size: int, ttl: timedelta) -> Upload:
        upload_id, now = uuid4(), self._now()
        upload = Upload(
            id=upload_id,
            owner=owner,
            key=f"uploads/{upload_id}/data",
            bytes=size,
            created_at=now,
            expires_at=now + ttl,
        )
        with self._lock:
            self._uploads[upload_id] = upload
        return upload

    def upload(self, upload_id: UUID, owner: str) -> Upload:
        upload = self._uploads.get(upload_id)
        if upload is None or upload.owner != owner or upload.expires_at <= self._now():
            raise UploadNotFoundError
        return upload

    def advance(self, upload_id: UUID, received: int, sha256: str | None) -> Upload:
        with self._lock:
            before = self._uploads.get(upload_id)
            if before is None:
                raise UploadNotFoundError
            check_advance(before, received)
            after = before.model_copy(update={"received": received, "sha256": sha256})
            self._uploads[upload_id] = after
            return after

    def expired(self, limit: int = 100) -> list[Upload]:
        now = self._now()
        with self._lock:
            old = [
                upload
                for upload in self._uploads.values()
                if upload.expires_at <= now and not self._is_read(upload.key)
            ]
        return sorted(old, key=lambda upload: upload.expires_at)[:limit]

    def delete(self, upload_id: UUID) -> None:
        with self._lock:
            self._uploads.pop(upload_id, None)

    def exists(self, upload_id: UUID) -> bool:
        """Whether it is known, expired or not."""
        return upload_id in self._uploads


class MemoryBlobStore:
    """`service.jobs.ports.BlobStore` in one process."""

    def __init__(self, signer: UrlSigner) -> None:
        self.signer = signer
        self._objects: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def put_file(self, key: str, source: Path) -> None:
        self.put_bytes(key, source.read_bytes())

    def take_file(self, key: str, source: Path) -> None:
        self.put_file(key, source)

    def share_file(self, key: str, source: Path) -> bool:  # noqa: ARG002
        """Nothing here survives the process."""
        return False

    def put_bytes(self, key: str, data: bytes) -> None:
        with self._lock:
            if self._objects.setdefault(checked_key(key), data) != data:
                raise ConflictError("An object is written once.")

    def get_file(self, key: str, target: Path) -> None:
        target.write_bytes(self._object(key))

    def get_bytes(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        return self._object(key)[start:end]

    def stream(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        yield self._object(key)[start:end]

    def _object(self, key: str) -> bytes:
        data = self._objects.get(checked_key(key))
        if data is None:
            raise ResultNotFoundError
        return data

    def size(self, key: str) -> int | None:
        data = self._objects.get(checked_key(key))
        return None if data is None else len(data)

    def list(self, prefix: str) -> list[str]:
        return sorted(key for key in self._objects if key.startswith(prefix))

    def delete(self, keys: Sequence[str]) -> None:
        with self._lock:
            for key in keys:
                self._objects.pop(checked_key(key), None)

    def signed_url(
        self, key: str, ttl: timedelta, *, name: str | None = None, media_type: str | None = None
    ) -> str:
        return self.signer.url(checked_key(key), ttl, name=name, media_type=media_type)

    def delete_stale_parts(self, older_than: timedelta) -> int:  # noqa: ARG002
        """Nothing is ever half written here."""
        return 0


class MemoryDoorbell:
    """Remembers who was rung for."""

    def __init__(self) -> None:
        self.rings: list[tuple[UUID, Queue]] = []

    def ring(self, job_id: UUID, queue: Queue) -> None:
        self.rings.append((job_id, queue))

    def close(self) -> None:
        """Nothing is pending."""
