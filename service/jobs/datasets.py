"""What may be trained on: files named once, used by many trainings.

The inputs of a training, and so of a data set, have one of three forms:

    archive      one zip or tar.gz, unpacked by the worker
    listing      the address of a bucket's listing; everything it names is fetched
    data/PATH    a file by address, put at PATH in the training's data folder
"""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Protocol
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from service.errors import ArchivePathError
from service.jobs.job import InputFile

ARCHIVE, LISTING, FILE_PREFIX = "archive", "listing", "data/"
NAME = r"^[a-z0-9][a-z0-9._-]{0,62}$"

_LONGEST_PATH, _DEEPEST_PATH, _LONGEST_PART_BYTES = 240, 16, 200
_FORBIDDEN = re.compile(r'[\x00-\x1f\x7f<>:"|?*\\]|[\u200e\u200f\u202a-\u202e\u2066-\u2069]')


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


def checked_path(path: str) -> PurePosixPath:
    """A relative path that stays in its folder on every system.

    Raises:
        ArchivePathError: If it is absolute, goes up, or holds characters that deceive.
    """
    pure = PurePosixPath(path)
    is_plain = (
        0 < len(path) <= _LONGEST_PATH
        and not pure.is_absolute()
        and 0 < len(pure.parts) <= _DEEPEST_PATH
        and not _FORBIDDEN.search(path)
        and all(_is_plain_part(part) for part in pure.parts)
    )
    if not is_plain:
        raise ArchivePathError(
            "A file of the data has a path that is absolute, goes up with `..`, or holds "
            "characters that file systems do not share. Use plain relative paths."
        )
    return pure


def _is_plain_part(part: str) -> bool:
    is_short = len(part.encode(errors="surrogatepass")) <= _LONGEST_PART_BYTES
    return part != ".." and part == part.strip() and is_short and part.isprintable()


def data_paths(inputs: Mapping[str, InputFile]) -> dict[str, PurePosixPath]:
    """The files by address among a training's inputs, and where each is to lie."""
    return {
        role: checked_path(role.removeprefix(FILE_PREFIX))
        for role in inputs
        if role.startswith(FILE_PREFIX)
    }
