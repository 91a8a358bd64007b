"""What may be trained on: files named once, used by many trainings.

The inputs of a training, and so of a data set, have one of three forms:

    archive      one zip or tar.gz, unpacked by the worker
    listing      the address of a bucket's listing; everything it names is fetched
    data/PATH    a file by address, put at PATH in the training's data folder
"""

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Protocol
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from service.jobs.job import InputFile
from service.paths import checked_path

ARCHIVE, LISTING, FILE_PREFIX = "archive", "listing", "data/"
NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NewDataset(_Frozen):
    """What a face hands to the store."""

    owner: str
    name: str = Field(pattern=NAME)
    inputs: dict[str, InputFile]
    sha256: str | None = None
    bytes: int | None = None
    files: int | None = None

    @property
    def key(self) -> str | None:
        """The object that it keeps; files by address are not ours to keep."""
        archive = self.inputs.get(ARCHIVE)
        return None if archive is None else archive.key


class Dataset(NewDataset):
    """A data set as it was when read. Sizes and digest are unknown for files by address."""

    id: UUID
    created_at: AwareDatetime


class DatasetPage(_Frozen):
    """A piece of a list; `cursor` continues it."""

    datasets: list[Dataset]
    cursor: str | None = None


class DatasetStore(Protocol):
    """Data sets by owner."""

    def add(self, new: NewDataset, upload_id: UUID | None = None) -> Dataset:
        """Store a data set; the upload that it was made of becomes its own in the same step.

        Raises:
            ConflictError: If the owner has one of that name.
        """
        ...

    def dataset(self, dataset_id: UUID, owner: str) -> Dataset:
        """One data set.

        Raises:
            DatasetNotFoundError: If there is none, or it is another owner's.
        """
        ...

    def page(self, owner: str, *, limit: int = 50, cursor: str | None = None) -> DatasetPage:
        """Newest first."""
        ...

    def delete(self, dataset_id: UUID, owner: str) -> Dataset:
        """Forget a data set; unfinished jobs that read it keep its object until they end.

        Raises:
            DatasetNotFoundError: If there is none, or it is another owner's.
        """
        ...


def data_paths(inputs: Mapping[str, InputFile]) -> dict[str, PurePosixPath]:
    """The files by address among a training's inputs, and where each is to lie."""
    return {
        role: checked_path(role.removeprefix(FILE_PREFIX))
        for role in inputs
        if role.startswith(FILE_PREFIX)
    }
