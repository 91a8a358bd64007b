"""The upload store on SQLite and PostgreSQL."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import sqlalchemy as sa

from service.errors import ConflictError, UploadCompleteError, UploadNotFoundError
from service.jobs.job import State, Upload
from service.stores.database import Database
from service.stores.rows import milliseconds, upload_of
from service.stores.tables import job, job_input, upload


class SqlUploadStore:
    """`service.jobs.ports.UploadStore` on a database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def open(self, owner: str, size: int, ttl: timedelta) -> Upload:
        now = self._db.clock()
        upload_id = uuid4()
        adding = sa.insert(upload).values(
            id=upload_id,
            owner=owner,
            key=f"uploads/{upload_id}/data",
            bytes=size,
            received=0,
            created_at=now,
            expires_at=now + milliseconds(ttl),
        )
        with self._db.write() as tx:
            return upload_of(tx.execute(adding.returning(upload)).mappings().one())

    def upload(self, upload_id: UUID, owner: str) -> Upload:
        wanted = sa.select(upload).where(
            upload.c.id == upload_id,
            upload.c.owner == owner,
            upload.c.expires_at > self._db.clock(),
        )
        with self._db.read() as tx:
            return upload_of(_one(tx, wanted))

    def advance(self, upload_id: UUID, received: int, sha256: str | None) -> Upload:
        with self._db.write() as tx:
            wanted = sa.select(upload).where(upload.c.id == upload_id).with_for_update()
            before = upload_of(_one(tx, wanted))
            check_advance(before, received)
            changing = sa.update(upload).where(upload.c.id == upload_id)
            changing = changing.values(received=received, sha256=sha256)
            return upload_of(tx.execute(changing.returning(upload)).mappings().one())

    def expired(self, limit: int = 100) -> list[Upload]:
        reader = (
            sa.select(1)
            .join(job, job.c.id == job_input.c.job_id)
            .where(
                job_input.c.key == upload.c.key,
                job.c.state.in_([State.QUEUED, State.RUNNING]),
            )
        )
        wanted = (
            sa.select(upload)
            .where(upload.c.expires_at <= self._db.clock(), ~reader.exists())
            .order_by(upload.c.expires_at)
            .limit(limit)
        )
        with self._db.read() as tx:
            return [upload_of(row) for row in tx.execute(wanted).mappings()]

    def delete(self, upload_id: UUID) -> None:
        with self._db.write() as tx:
            tx.execute(sa.delete(upload).where(upload.c.id == upload_id))


def check_advance(before: Upload, received: int) -> None:
    """Refuse what is not a step forward.

    Raises:
        UploadCompleteError: If all bytes had arrived before.
        ConflictError: If fewer bytes than before, or more than announced, have arrived.
    """
    if before.is_complete:
        raise UploadCompleteError
    if not before.received <= received <= before.bytes:
        raise ConflictError(
            f"The upload has {before.received} of {before.bytes} bytes; go on from there."
        )


def _one(tx: sa.Connection, wanted: sa.Select[Any]) -> sa.RowMapping:
    row = tx.execute(wanted).mappings().first()
    if row is None:
        raise UploadNotFoundError
    return row
