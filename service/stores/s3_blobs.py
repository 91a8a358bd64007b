"""Objects in S3, or in a server that speaks it, through obstore."""

import hashlib
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import S3Store

from service.errors import ConflictError, ResultNotFoundError, StoreUnavailableError
from service.stores.keys import checked_key

if TYPE_CHECKING:
    from obstore.store import S3Config

CHUNK = 1 << 20
# One request, which S3 can make conditional, and whose bytes are in memory; larger objects go in
# parts, which it cannot, a few at a time.
LARGEST_SINGLE_PUT = 128 << 20
PART_BYTES, PARTS_AT_A_TIME = 8 << 20, 2

MEDIA_TYPES = {
    ".gz": "application/gzip",
    ".json": "application/json",
    ".html": "text/html; charset=utf-8",
    ".csv": "text/csv; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
}


@dataclass(frozen=True)
class Bucket:
    """Where the objects are, and the key pair that may write there."""

    name: str
    prefix: str
    region: str
    endpoint: str | None
    public_endpoint: str | None
    access_key: str | None
    secret_key: str | None


class S3BlobStore:
    """`service.jobs.ports.BlobStore` in a bucket.

    URLs are signed by a second client: the host is part of a signature, and clients often reach
    the server under another name than we do.
    """

    def __init__(self, bucket: Bucket) -> None:
        self._store = _client(bucket, bucket.endpoint)
        self._signing = _client(bucket, bucket.public_endpoint or bucket.endpoint)

    # --- writing ---

    def put_file(self, key: str, source: Path) -> None:
        if source.stat().st_size <= LARGEST_SINGLE_PUT:
            with _mapped(source) as data:
                self._put(key, data)
            return
        if self.size(key) is not None:
            with _mapped(source) as data:
                self._require_same(key, data)
            return
        with _translated():
            obstore.put(
                self._store,
                checked_key(key),
                source,
                attributes=_attributes(key),
                chunk_size=PART_BYTES,
                max_concurrency=PARTS_AT_A_TIME,
            )

    def take_file(self, key: str, source: Path) -> None:
        self.put_file(key, source)

    def share_file(self, key: str, source: Path) -> bool:  # noqa: ARG002
        """An object in S3 cannot grow."""
        return False

    def put_bytes(self, key: str, data: bytes) -> None:
        self._put(key, data)

    def _put(self, key: str, data: "bytes | mmap.mmap") -> None:
        try:
            with _translated():
                obstore.put(
                    self._store,
                    checked_key(key),
                    data,
                    attributes=_attributes(key),
                    mode="create",
                    use_multipart=False,
                )
        except AlreadyExistsError as error:
            self._require_same(key, data, error)

    def _require_same(
        self, key: str, data: "bytes | mmap.mmap", cause: Exception | None = None
    ) -> None:
        """Refuse other bytes; the same may be written again, for the answer may have been lost."""
        if self._sha256(key) != hashlib.sha256(data).digest():
            raise ConflictError("An object is written once.") from cause

    def _sha256(self, key: str) -> bytes:
        digest = hashlib.sha256()
        for chunk in self.stream(key):
            digest.update(chunk)
        return digest.digest()

    # --- reading ---

    def get_file(self, key: str, target: Path) -> None:
        chunks = self.stream(key)
        with target.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)

    def get_bytes(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        return b"".join(self.stream(key, start, end))

    def stream(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        whole = self.size(key)
        if whole is None:
            raise ResultNotFoundError
        stop = whole if end is None else min(end, whole)
        if start >= stop:
            return
        with _translated():
            got = obstore.get(self._store, checked_key(key), options={"range": (start, stop)})
            for chunk in got.stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

    def size(self, key: str) -> int | None:
        try:
            with _translated():
                return int(obstore.head(self._store, checked_key(key))["size"])
        except ResultNotFoundError:
            return None

    def list(self, prefix: str) -> list[str]:
        # obstore lists whole segments; what follows the last slash is compared here.
        folder = prefix.rpartition("/")[0]
        with _translated():
            pages = obstore.list(self._store, folder or None)
            keys = [str(entry["path"]) for page in pages for entry in page]
        return sorted(key for key in keys if key.startswith(prefix))

    # --- the rest ---

    def delete(self, keys: Sequence[str]) -> None:
        if keys:  # S3 itself does not mind keys that are gone
            with _translated():
                obstore.delete(self._store, [checked_key(key) for key in keys])

    def delete_stale_parts(self, older_than: timedelta) -> int:  # noqa: ARG002
        """Half-written objects are the bucket's to remove: give it a life-cycle rule."""
        return 0

    def signed_url(
        self,
        key: str,
        ttl: timedelta,
        *,
        name: str | None = None,  # noqa: ARG002 (obstore signs no response headers: the key's
        media_type: str | None = None,  # noqa: ARG002 last segment and stored type serve)
    ) -> str:
        with _translated():
            return str(obstore.sign(self._signing, "GET", checked_key(key), ttl))


@contextmanager
def _mapped(source: Path) -> "Iterator[bytes | mmap.mmap]":
    """A file's bytes where the kernel has them: not a copy of them in this process."""
    with source.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            yield b""  # nothing cannot be mapped
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            yield data


def _client(bucket: Bucket, endpoint: str | None) -> S3Store:
    config: "S3Config" = {"region": bucket.region, "virtual_hosted_style_request": False}
    if endpoint is not None:
        config["endpoint"] = endpoint
    if bucket.access_key is not None and bucket.secret_key is not None:
        config["access_key_id"] = bucket.access_key
        config["secret_access_key"] = bucket.secret_key
    return S3Store(
        bucket.name,
        prefix=bucket.prefix or None,
        config=config,
        client_options={
            "allow_http": (endpoint or "").startswith("http://"),
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(minutes=10),
        },
        retry_config={"max_retries": 4, "retry_timeout": timedelta(seconds=30)},
    )


def _attributes(key: str) -> dict[str, str]:
    suffix = PurePosixPath(key).suffix
    return {"Content-Type": MEDIA_TYPES.get(suffix, "application/octet-stream")}


@contextmanager
def _translated() -> Iterator[None]:
    """Say obstore's failures in our words; its own hold addresses and keys."""
    try:
        yield
    except AlreadyExistsError:
        raise
    except (NotFoundError, FileNotFoundError) as error:
        raise ResultNotFoundError from error
    except BaseError as error:
        raise StoreUnavailableError("The object store does not answer; try again later.") from error
