"""`POST /inspect`: what a file holds, what is odd about it and what would be done about that."""

from typing import Any

from fastapi import APIRouter, Request

from service.errors import (
    BodyTooLargeError,
    DicomParsingLimitError,
    InvalidArchiveError,
    InvalidFileError,
    RateLimitedError,
    RequestTimeoutError,
    StorageFullError,
    StoreUnavailableError,
    UnauthenticatedError,
    UnsupportedFormatError,
    UploadIncompleteError,
    UploadNotFoundError,
    ValidationError,
    VolumeTooLargeError,
)
from service.gateway.auth import Caller
from service.gateway.desk import AtDesk
from service.gateway.inspecting import FILE_FIELD, InspectOrder, InspectView, inspected
from service.gateway.problems import problems

router = APIRouter(tags=["register"])

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {FILE_FIELD: {"type": "string", "format": "binary"}},
                    "required": [FILE_FIELD],
                }
            },
            "application/json": {"schema": InspectOrder.model_json_schema()},
        },
    }
}


@router.post(
    "/inspect",
    responses=problems(
        UnauthenticatedError,
        UploadNotFoundError,
        RequestTimeoutError,
        UploadIncompleteError,
        BodyTooLargeError,
        VolumeTooLargeError,
        DicomParsingLimitError,
        UnsupportedFormatError,
        ValidationError,
        InvalidFileError,
        InvalidArchiveError,
        RateLimitedError,
        StoreUnavailableError,
        StorageFullError,
    ),
    openapi_extra=BODY,
    summary="What a file holds",
)
async def inspect(request: Request, desk: AtDesk, caller: Caller) -> InspectView:
    """Send a volume, a DICOM file or a zip of DICOM; get the volumes in it, by number.

    Each comes with its geometry, with what is odd about it and what a registration does about
    that, or with the problem that a registration would end with. Nothing is kept, and nothing of
    the patient is in the answer.
    """
    return await inspected(request, desk, caller)
