"""`/uploads`: large files in pieces; a broken transfer goes on from the last safe byte."""

from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from service.errors import (
    BodyTooLargeError,
    ChecksumMismatchError,
    ConflictError,
    RequestTimeoutError,
    StorageFullError,
    UnauthenticatedError,
    UploadCompleteError,
    UploadNotFoundError,
    ValidationError,
)
from service.gateway.announcing import announced
from service.gateway.auth import Caller
from service.gateway.desk import AtDesk, Desk
from service.gateway.limits import MIB
from service.gateway.orders import validated
from service.gateway.parts import Parts
from service.gateway.problems import problems
from service.gateway.rest.placement import Placement, placement_of
from service.gateway.rest.views import UploadOrder, UploadView
from service.gateway.spool import Sink, pour
from service.jobs.job import Upload

router = APIRouter(tags=["uploads"])

CHUNK_BYTES = 16 * MIB
PIECE_ERRORS = problems(
    UnauthenticatedError,
    RequestTimeoutError,
    UploadNotFoundError,
    ConflictError,
    UploadCompleteError,
    BodyTooLargeError,
    ChecksumMismatchError,
    ValidationError,
    StorageFullError,
)


def _header(name: str, kind: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "description": description, "schema": {"type": kind}}


PIECE_BODY: dict[str, Any] = {
    "parameters": [
        _header("Content-Range", "string", "`bytes FIRST-LAST/SIZE` of the piece."),
        _header("Upload-Offset", "integer", "Or where it begins: what has been received."),
        _header("Content-Digest", "string", "`sha-256=:BASE64:` of the piece (RFC 9530)."),
    ],
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    },
}
ORDER_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {"$ref": "#/components/schemas/UploadOrder"},
                "example": {"bytes": 28901376},
            }
        },
    }
}


def _show(upload: Upload, response: Response) -> UploadView:
    response.headers["Upload-Offset"] = str(upload.received)
    response.headers["Cache-Control"] = "no-store"
    return UploadView.of(upload, CHUNK_BYTES)


@router.post(
    "/uploads",
    status_code=201,
    responses=problems(UnauthenticatedError, BodyTooLargeError, ValidationError, StorageFullError),
    openapi_extra=ORDER_BODY,
    summary="Announce a file",
)
async def announce(
    request: Request, response: Response, desk: AtDesk, caller: Caller
) -> UploadView:
    """Say how large the file is; then send it to the address in `Location`, whole or in pieces."""
    order = validated(UploadOrder, await request.body())
    upload = await run_in_threadpool(
        announced, desk, caller, order.bytes, order.sha256, field="/bytes"
    )
    response.headers["Location"] = f"/v1/uploads/{upload.id}"
    return _show(upload, response)


@router.get(
    "/uploads/{upload_id}",
    responses=problems(UnauthenticatedError, UploadNotFoundError),
    summary="How much of a file has arrived",
)
def look(upload_id: UUID, desk: AtDesk, caller: Caller, response: Response) -> UploadView:
    """After a break: go on from `received` (also in the header `Upload-Offset`)."""
    return _show(desk.stores.uploads.upload(upload_id, caller), response)


@router.head("/uploads/{upload_id}", include_in_schema=False)
def look_briefly(upload_id: UUID, desk: AtDesk, caller: Caller) -> Response:
    """The header `Upload-Offset` only."""
    response = Response(status_code=200)
    _show(desk.stores.uploads.upload(upload_id, caller), response)
    return response


async def _piece(
    upload_id: UUID, request: Request, response: Response, desk: Desk, caller: str
) -> UploadView:
    """Take one piece, or as much of it as arrives."""
    upload = await run_in_threadpool(desk.stores.uploads.upload, upload_id, caller)
    parts = Parts(desk.stores, upload)
    placement = placement_of(request.headers, upload)
    placement.require_next(upload)
    desk.spool.require_room(placement.length or 0)
    with desk.spool.folder() as folder:
        sink = Sink(folder / "piece")
        try:
            await pour(request.stream(), sink)
        except BaseException:
            # The sender is gone or too slow: what came is kept, unless it was to be checked whole.
            piece = sink.close()
            if not placement.digest:
                await run_in_threadpool(parts.keep, piece, folder)
            raise
        piece = sink.close()
        _check_piece(placement, piece.bytes, piece.sha256)
        upload = await run_in_threadpool(parts.keep, piece, folder)
    return _show(upload, response)


def _check_piece(placement: Placement, received: int, sha256: str) -> None:
    if placement.length is not None and received != placement.length:
        raise ValidationError(
            f"Content-Range announces {placement.length} bytes, the body has {received}.",
            field="Content-Range",
        )
    if placement.digest is not None and placement.digest != sha256:
        raise ChecksumMismatchError(
            "The piece does not fit its Content-Digest; send it again.", field="Content-Digest"
        )


@router.put(
    "/uploads/{upload_id}", responses=PIECE_ERRORS, openapi_extra=PIECE_BODY, summary="Send a file"
)
async def put(
    upload_id: UUID,
    request: Request,
    response: Response,
    desk: AtDesk,
    caller: Caller,
) -> UploadView:
    """The whole file, or the next piece of it as `Content-Range` says.

    When the last byte is there the file is put together and its SHA-256 told; a file that does
    not fit the announced sum is dropped and begins anew. `Content-Digest` (RFC 9530) guards one
    piece.
    """
    return await _piece(upload_id, request, response, desk, caller)


@router.patch(
    "/uploads/{upload_id}",
    responses=PIECE_ERRORS,
    openapi_extra=PIECE_BODY,
    summary="Send the next piece of a file",
)
async def patch(
    upload_id: UUID,
    request: Request,
    response: Response,
    desk: AtDesk,
    caller: Caller,
) -> UploadView:
    """Like PUT; the place is told by `Upload-Offset`."""
    return await _piece(upload_id, request, response, desk, caller)


@router.delete(
    "/uploads/{upload_id}",
    status_code=204,
    responses=problems(UnauthenticatedError, UploadNotFoundError),
    summary="Drop a file",
)
def drop(upload_id: UUID, desk: AtDesk, caller: Caller) -> Response:
    """Jobs that were made with it keep it until they end."""
    Parts(desk.stores, desk.stores.uploads.upload(upload_id, caller)).drop()
    return Response(status_code=204)
