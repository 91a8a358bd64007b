"""From an order of a training or a data set to what is stored of it, whichever face it came by."""

from uuid import UUID

from service.archives import ArchiveLimits, Contents, look_through
from service.errors import InvalidArchiveError, TrainingNotOfferedError
from service.gateway.desk import Desk
from service.gateway.inputs import from_upload
from service.gateway.recording import submission
from service.gateway.submitting import Taken, job_of, submit, ticket_of
from service.gateway.training import (
    DatasetOrder,
    DataSource,
    TrainOrder,
    checked_config,
    files_by_address,
    listed,
)
from service.jobs import job as jobs
from service.jobs.datasets import ARCHIVE, Dataset, NewDataset
from service.jobs.job import InputFile, Kind
from service.jobs.model import NewModel


def require_training(desk: Desk) -> None:
    """Raises TrainingNotOfferedError if nobody would take the job."""
    if not desk.settings.training:
        raise TrainingNotOfferedError(
            "No worker of this service trains. Its operator can install the extra `trainer`, or "
            "start a trainer worker and set WARPLINE_TRAINING."
        )


@submission("train", job_of)
def take_in_training(desk: Desk, owner: str, order: TrainOrder, key: str | None) -> Taken:
    """Check a configuration and its data and make the job.

    Raises:
        ValidationError: Every fault by its JSON pointer.
        InvalidArchiveError: If the data are unusable.
        WarplineError: From the stores and the intake.
    """
    config = checked_config(order, desk.settings)
    inputs = _inputs(desk, owner, order.data)
    wanted = NewModel(name=config.name, above=desk.models.last_shipped_number(config.name))
    asked = jobs.Request(kind=Kind.TRAIN, inputs=inputs, options={"config": order.config})
    return submit(desk, owner, ticket_of(order, key), {}, lambda _kept: asked, publishes=wanted)


def _inputs(desk: Desk, owner: str, source: DataSource | None) -> dict[str, InputFile]:
    """Where the worker finds the data; an archive is looked through first."""
    if source is None:
        return {}
    if source.dataset_id is not None:
        return desk.stores.datasets.dataset(source.dataset_id, owner).inputs
    if source.upload_id is not None:
        file = from_upload(desk.stores, owner, source.upload_id, "data", field="/data/upload_id")
        check_archive(desk, file, "/data/upload_id")
        return {ARCHIVE: file}
    if source.listing is not None:
        return listed(desk.settings, source.listing, "/data/listing")
    return files_by_address(desk.settings, source.urls, "/data/urls")


def check_archive(desk: Desk, file: InputFile, field: str) -> Contents:
    """Look through a stored archive before a job or a data set is made of it.

    Raises:
        InvalidArchiveError: Its subclass says what is wrong.
        StorageFullError: If there is no room to look at it.
    """
    settings = desk.settings
    limits = ArchiveLimits(settings.max_dataset_files, settings.max_dataset_mib << 20)
    desk.spool.require_room(file.bytes or 0)
    with desk.spool.folder() as folder:
        copy = folder / "archive"
        desk.stores.blobs.get_file(str(file.key), copy)
        try:
            return look_through(copy, limits)
        except InvalidArchiveError as error:
            error.field = field
            raise


def add_dataset(desk: Desk, owner: str, order: DatasetOrder) -> Dataset:
    """Make a data set: an upload becomes its own, addresses are noted.

    Raises:
        ConflictError: If the owner has one of that name.
        WarplineError: As in `take_in_training`.
    """
    with desk.audit.action(owner, "dataset") as what:
        made = _added(desk, owner, order)
        what["dataset"] = str(made.id)
    return made


def _added(desk: Desk, owner: str, order: DatasetOrder) -> Dataset:
    if order.upload_id is None:
        inputs = (
            listed(desk.settings, order.listing, "/listing")
            if order.listing is not None
            else files_by_address(desk.settings, order.urls, "/urls")
        )
        count = len(inputs) if order.listing is None else None
        new = NewDataset(owner=owner, name=order.name, inputs=inputs, files=count)
        return desk.stores.datasets.add(new)
    file = from_upload(desk.stores, owner, order.upload_id, "data", field="/upload_id")
    contents = check_archive(desk, file, "/upload_id")
    new = NewDataset(
        owner=owner,
        name=order.name,
        inputs={ARCHIVE: file},
        sha256=file.sha256,
        bytes=file.bytes,
        files=contents.files,
    )
    return desk.stores.datasets.add(new, order.upload_id)


def delete_dataset(desk: Desk, dataset_id: UUID, owner: str) -> None:
    """Forget a data set; trainings that were ordered with it keep it until they end.

    Raises:
        DatasetNotFoundError: If there is none, or it is another owner's.
    """
    with desk.audit.action(owner, "delete", dataset=str(dataset_id)):
        gone = desk.stores.datasets.delete(dataset_id, owner)
    if gone.key is not None:
        folder = f"{gone.key.rpartition('/')[0]}/"
        if folder not in desk.stores.jobs.live_keys([folder]):
            desk.stores.blobs.delete([gone.key])
