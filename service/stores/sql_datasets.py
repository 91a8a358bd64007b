"""The store of data sets on SQLite and PostgreSQL."""

from uuid import UUID, uuid4

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from service.errors import ConflictError, DatasetNotFoundError
from service.jobs.datasets import Dataset, DatasetPage, NewDataset
from service.jobs.job import InputFile
from service.stores.database import Database
from service.stores.rows import moment
from service.stores.sql_listing import cursor_after, number_before
from service.stores.tables import dataset, upload

NAME_TAKEN = "You have a data set of that name; choose another, or delete the old one."
_SAME = ("id", "owner", "name", "sha256", "bytes", "files")


class SqlDatasetStore:
    """`service.jobs.datasets.DatasetStore` on a database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def add(self, new: NewDataset, upload_id: UUID | None = None) -> Dataset:
        adding = sa.insert(dataset).values(
            **new.model_dump(mode="json"),
            id=uuid4(),
            key=new.key,
            created_at=self._db.clock(),
        )
        try:
            with self._db.write() as tx:
                row = tx.execute(adding.returning(dataset)).mappings().one()
                if upload_id is not None:
                    tx.execute(sa.delete(upload).where(upload.c.id == upload_id))
                return _dataset_of(row)
        except IntegrityError as error:
            raise ConflictError(NAME_TAKEN, field="/name") from error

    def dataset(self, dataset_id: UUID, owner: str) -> Dataset:
        with self._db.read() as tx:
            return _dataset_of(_row(tx, dataset_id, owner))

    def page(self, owner: str, *, limit: int = 50, cursor: str | None = None) -> DatasetPage:
        wanted = sa.select(dataset).where(dataset.c.owner == owner)
        if cursor is not None:
            wanted = wanted.where(dataset.c.number < number_before(cursor))
        wanted = wanted.order_by(dataset.c.number.desc()).limit(limit + 1)
        with self._db.read() as tx:
            rows = tx.execute(wanted).mappings().all()
        more = cursor_after(rows[limit - 1]["number"]) if len(rows) > limit else None
        return DatasetPage(datasets=[_dataset_of(row) for row in rows[:limit]], cursor=more)

    def delete(self, dataset_id: UUID, owner: str) -> Dataset:
        with self._db.write() as tx:
            found = _dataset_of(_row(tx, dataset_id, owner))
            tx.execute(sa.delete(dataset).where(dataset.c.id == dataset_id))
            return found


def _row(tx: sa.Connection, dataset_id: UUID, owner: str) -> sa.RowMapping:
    wanted = sa.select(dataset).where(dataset.c.id == dataset_id, dataset.c.owner == owner)
    row = tx.execute(wanted).mappings().first()
    if row is None:
        raise DatasetNotFoundError
    return row


def _dataset_of(row: sa.RowMapping) -> Dataset:
    return Dataset(
        **{name: row[name] for name in _SAME},
        inputs={role: InputFile.model_validate(file) for role, file in row["inputs"].items()},
        created_at=moment(row["created_at"]),
    )
