"""What a caller's file holds, before a job is made of it."""

from pathlib import Path
from typing import Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from service.errors import UnsupportedFormatError, ValidationError
from service.gateway.desk import Desk
from service.gateway.forms import read_form
from service.gateway.inputs import from_upload
from service.gateway.orders import validated
from service.registration.files import facts

FILE_FIELD = "file"
Vector = tuple[float, float, float]


class InspectOrder(BaseModel):
    """A file that was uploaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    upload_id: UUID = Field(description="From `POST /v1/uploads`; it must be complete.")


class VolumeProblem(BaseModel):
    """Why this volume would be refused."""

    code: str
    detail: str


class VolumeFacts(BaseModel):
    """One volume. Geometry is missing where its slices make none."""

    number: int = Field(description="What `fixed_series` and `moving_series` take.")
    modality: str = ""
    what: str = Field("", description="What tells it apart from the others.")
    slices: int | None = Field(None, description="Of DICOM: as they are in the files.")
    datatype: str = Field(description="Of the voxels as they are read.")
    encoding: str = ""
    frame_of_reference: str = Field(
        "", description="A digest: equal where two volumes share a frame of reference."
    )
    shape: tuple[int, int, int] | None = Field(None, description="Along i, j and k.")
    spacing_mm: Vector | None = None
    field_of_view_mm: Vector | None = None
    centre_mm: Vector | None = Field(None, description="World, RAS+.")
    orientation: str = Field("", description="Where i, j and k run to, such as `LPS`.")
    affine: list[list[float]] | None = Field(None, description="Voxel to world, RAS+ mm, 4x4.")
    warnings: list[str] = Field(
        default_factory=list, description="What is odd, and what is done about it."
    )
    problem: VolumeProblem | None = None


class InspectView(BaseModel):
    """What a file holds. Nothing in it is of the patient."""

    format: Literal["nifti-1", "nifti-2", "nrrd", "metaimage", "dicom"]
    verdict: str
    volumes: list[VolumeFacts]
    volume_count: int = Field(1, description="The list holds the first 50.")
    files: int | None = Field(None, description="Of an archive.")
    dicom_files: int | None = None
    warnings: list[str]


async def inspected(request: Request, desk: Desk, owner: str) -> InspectView:
    """Take the file in, or look the upload up, and read it.

    Raises:
        UnsupportedFormatError: If the body is neither a form nor JSON, or the file no image.
        ValidationError: If the form has no file.
        InvalidFileError: If there is no volume.
        UploadNotFoundError, UploadIncompleteError: If an upload will not do.
    """
    desk.spool.require_room()
    with desk.spool.folder() as folder:
        path = await _arrived(request, desk, owner, folder)
        found = await run_in_threadpool(facts.report, path, desk.file_limits, FILE_FIELD)
    return InspectView(**found)


async def _arrived(request: Request, desk: Desk, owner: str, folder: Path) -> Path:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        form = await read_form(request, folder, (FILE_FIELD,), ())
        if FILE_FIELD not in form.files:
            raise ValidationError("Send the file as the form's part `file`.", field=FILE_FIELD)
        return form.files[FILE_FIELD].path
    if media_type == "application/json":
        order = validated(InspectOrder, await request.body())
        return await run_in_threadpool(stored, desk, owner, order.upload_id, folder)
    raise UnsupportedFormatError(
        "Send multipart/form-data with the part `file`, or application/json with an upload id."
    )


def stored(desk: Desk, owner: str, upload_id: UUID, folder: Path) -> Path:
    """A copy of a complete upload of the caller's.

    Raises:
        UploadNotFoundError, UploadIncompleteError: If it will not do.
    """
    upload = from_upload(desk.stores, owner, upload_id, FILE_FIELD, field="/upload_id")
    path = folder / "stored"
    desk.stores.blobs.get_file(upload.key or "", path)
    return path


def report_of(desk: Desk, owner: str, upload_id: UUID) -> InspectView:
    """What an upload holds, for a face without forms; raises as `inspected`."""
    desk.spool.require_room()
    with desk.spool.folder() as folder:
        path = stored(desk, owner, upload_id, folder)
        return InspectView(**facts.report(path, desk.file_limits, FILE_FIELD))
