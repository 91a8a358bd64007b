"""From what was ordered to a job, whichever face the order came through."""

from collections.abc import Mapping
from pathlib import Path

from service.errors import (
    JobHasNoResultError,
    ModelNotFoundError,
    PacsUnknownError,
    ValidationError,
)
from service.gateway.desk import Desk
from service.gateway.door import check_files, check_pair
from service.gateway.handing_out import manifest_of
from service.gateway.inputs import referred
from service.gateway.orders import RegisterOrder, Submission, WarpOrder
from service.gateway.recording import submission
from service.gateway.submitting import Taken, job_of, local_paths, submit, ticket_of
from service.jobs import job as jobs
from service.jobs.job import InputFile, Kind
from service.registration.files.header import Header
from service.stores.library import ModelLibrary

TRANSFORMS = {"ddf": "ddf.nii.gz", "inverse_ddf": "inverse_ddf.nii.gz"}


@submission("register", job_of)
def take_in_registration(
    desk: Desk, owner: str, order: Submission[RegisterOrder], key: str | None, folder: Path
) -> Taken:
    """Check a registration's files and make the job; `folder` is room for copies of them.

    Raises:
        ValidationError: If a file is missing.
        ModelNotFoundError: If there is no such model.
        InvalidFileError, InvalidPairError: If the files will not do.
        UploadNotFoundError, UploadIncompleteError: If an upload will not do.
        UrlNotAllowedError: If an address may not be fetched from.
        QueueFullError, QuotaExceededError, IdempotencyKeyReusedError: From the intake.
    """
    order.require("fixed", "moving")
    require_model(desk.models, order.order.options.model)
    require_archive(desk, owner, order.order.store_to, "/store_to")
    inputs = _referred(desk, owner, order)
    wanted = order.order.options
    series = {"fixed": wanted.fixed_series, "moving": wanted.moving_series}
    headers = check_files(local_paths(desk, order, inputs, folder), desk.file_limits, series)
    if order.order.store_to is not None:
        _require_dicom(headers)
    check_pair(headers, order.order.options, is_placed="initial_transform" in order.roles)
    options = order.order.options.model_dump(mode="json")
    return submit(
        desk,
        owner,
        ticket_of(order.order, key),
        order.arrivals,
        lambda kept: jobs.Request(
            kind=Kind.REGISTER,
            inputs=inputs | kept,
            options=options,
            store_to=order.order.store_to,
        ),
    )


def require_archive(desk: Desk, owner: str, name: str | None, field: str) -> None:
    """Refuse an archive that this caller may not use; None is no archive.

    Raises:
        PacsUnknownError: If there is no such one.
    """
    try:
        if name is not None:
            desk.peers.peer(name, owner)
    except PacsUnknownError as error:
        error.field = field
        raise


def _require_dicom(headers: Mapping[str, Header]) -> None:
    """Only two DICOM images make DICOM objects; what is fetched later is seen later."""
    for role in ("fixed", "moving"):
        if role in headers and headers[role].format != "dicom":
            raise ValidationError(
                "A result can be stored in an archive where both images are DICOM; this one is "
                "not.",
                field=f"/inputs/{role}",
            )


def _referred(
    desk: Desk, owner: str, order: Submission[RegisterOrder] | Submission[WarpOrder]
) -> dict[str, InputFile]:
    references = {str(role): reference for role, reference in order.order.inputs.items()}
    return referred(desk, owner, references)


def require_model(models: ModelLibrary, ref: str) -> None:
    """Refuse a model that is not there, unless this process was given no models to look at.

    Raises:
        ModelNotFoundError: If there is no such model.
    """
    try:
        models.card(ref)
    except ModelNotFoundError as error:
        if models.folder.list():
            error.field = "/options/model"
            raise


@submission("warp", job_of)
def take_in_warp(
    desk: Desk, owner: str, order: Submission[WarpOrder], key: str | None, folder: Path
) -> Taken:
    """Check what is to be warped and make the job; `folder` is room for copies of the files.

    Raises:
        JobNotFoundError: If there is no such registration of the owner's.
        JobNotFinishedError, JobHasNoResultError: If it has no transform.
        WarplineError: As in `take_in_registration`.
    """
    transforms = _transforms(desk, owner, order.order)
    inputs = _referred(desk, owner, order)
    check_files(local_paths(desk, order, inputs, folder), desk.file_limits)
    return submit(
        desk,
        owner,
        ticket_of(order.order, key),
        order.arrivals,
        lambda kept: _warp_request(order.order, inputs | kept, transforms),
    )


def require_warp_files(order: Submission[WarpOrder]) -> None:
    """Raises ValidationError if there is nothing to warp, or points of no known space."""
    if not order.roles:
        raise ValidationError("Send at least one of image, labels and points.", field="/inputs")
    if "points" in order.roles and order.order.points_from is None:
        raise ValidationError(
            "Say with `from` whether the points lie in fixed or in moving space: the two move by "
            "opposite fields.",
            field="/from",
        )


def _transforms(desk: Desk, owner: str, order: WarpOrder) -> dict[str, InputFile]:
    """The fields of the source job as inputs."""
    files = manifest_of(desk.stores.jobs.job(order.job_id, owner)).files
    found = {role: files[name] for role, name in TRANSFORMS.items() if name in files}
    if "ddf" not in found:
        raise JobHasNoResultError("That job made no transform; name a registration.")
    return {
        role: InputFile(key=file.key, sha256=file.sha256, bytes=file.bytes)
        for role, file in found.items()
    }


def _warp_request(
    order: WarpOrder, inputs: Mapping[str, InputFile], transforms: dict[str, InputFile]
) -> jobs.Request:
    """The job: an image is a moving one, points are named after the space they lie in."""
    roles = {
        "image": "moving",
        "labels": "moving_labels",
        "points": f"{order.points_from or 'fixed'}_points",
    }
    return jobs.Request(
        kind=Kind.WARP,
        inputs={roles[role]: file for role, file in inputs.items()} | transforms,
        options=order.options.model_dump(mode="json"),
    )
