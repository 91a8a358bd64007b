"""Data sets in memory: a fake for tests, under the same suite as the real store."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from uuid import UUID, uuid4

from service.errors import ConflictError, DatasetNotFoundError
from service.jobs.datasets import Dataset, DatasetPage, NewDataset
from service.stores.sql_datasets import NAME_TAKEN


class MemoryDatasetStore:
    """`service.jobs.datasets.DatasetStore` in one process."""

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        drop_upload: Callable[[UUID], None] = lambda _id: None,
    ) -> None:
        """Start empty.

        Args:
            clock: Seconds since 1970.
            drop_upload: Forgets the upload that became a data set.
        """
        self._clock = clock
        self._drop_upload = drop_upload
        self._datasets: list[Dataset] = []

    def add(self, new: NewDataset, upload_id: UUID | None = None) -> Dataset:
        if any((old.owner, old.name) == (new.owner, new.name) for old in self._datasets):
            raise ConflictError(NAME_TAKEN, field="/name")
        now = datetime.fromtimestamp(self._clock(), UTC)
        made = Dataset(**dict(new), id=uuid4(), created_at=now)
        self._datasets.append(made)
        if upload_id is not None:
            self._drop_upload(upload_id)
        return made

    def dataset(self, dataset_id: UUID, owner: str) -> Dataset:
        for found in self._datasets:
            if (found.id, found.owner) == (dataset_id, owner):
                return found
        raise DatasetNotFoundError

    def keeps(self, upload_id: UUID) -> bool:
        """Whether a data set was this upload."""
        return any(found.key == f"uploads/{upload_id}/data" for found in self._datasets)

    def page(self, owner: str, *, limit: int = 50, cursor: str | None = None) -> DatasetPage:
        mine = [found for found in reversed(self._datasets) if found.owner == owner]
        start = 0 if cursor is None else int(cursor)
        more = str(start + limit) if len(mine) > start + limit else None
        return DatasetPage(datasets=mine[start : start + limit], cursor=more)

    def delete(self, dataset_id: UUID, owner: str) -> Dataset:
        found = self.dataset(dataset_id, owner)
        self._datasets.remove(found)
        return found
