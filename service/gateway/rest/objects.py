"""`GET /objects/{key}`: the file store's signed URLs. Object stores serve their own."""

import hashlib
import re
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field
from starlette.responses import Response, StreamingResponse

from service.errors import (
    NotFoundError,
    RangeNotSatisfiableError,
    ResultNotFoundError,
    SignedUrlError,
)
from service.gateway.desk import AtDesk
from service.gateway.problems import problems
from service.gateway.recording import SIGNED_URL

router = APIRouter(tags=["objects"])

# One range only: several in one answer are what amplification attacks are made of.
RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
MEDIA_TYPE = re.compile(r"[a-z]+/[a-z0-9.+-]{1,60}")
SERVED: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The file.",
        "content": {"application/octet-stream": {"schema": {"type": "string"}}},
    },
    206: {"description": "The part that `Range` asked for."},
}


class Signature(BaseModel):
    """The query of a signed URL, as the service wrote it."""

    expires: str = Field("", max_length=20)
    sig: str = Field("", max_length=128)
    name: str | None = Field(None, max_length=255)
    media_type: str | None = Field(None, alias="type", max_length=100)


@router.head("/objects/{key:path}", include_in_schema=False)
@router.get(
    "/objects/{key:path}",
    response_class=Response,
    responses=SERVED | problems(SignedUrlError, ResultNotFoundError, RangeNotSatisfiableError),
    summary="Read a result by its signed URL",
)
def read_object(
    key: str,
    request: Request,
    desk: AtDesk,
    given: Annotated[Signature, Query()],
) -> Response:
    """The URL is the credential: it names one object, ends, and cannot be altered."""
    signer = desk.stores.signer
    if signer is None:
        raise NotFoundError("This service keeps its files in an object store of its own.")
    signer.verify(
        key, expires=given.expires, sig=given.sig, name=given.name, media_type=given.media_type
    )
    size = desk.stores.blobs.size(key)
    if size is None:
        raise ResultNotFoundError("The file is gone: the job was deleted or its time was over.")
    headers = _headers(key, given.name)
    part = _wanted(request, headers["ETag"], size)
    start, end = part or (0, size)
    headers["Content-Length"] = str(end - start)
    if part is not None:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    status, shown = 200 if part is None else 206, _known(given.media_type)
    if request.method == "HEAD":
        return Response(None, status, headers, media_type=shown)
    desk.audit.note(SIGNED_URL, "read", {"object": key, "start": start, "end": end})
    return StreamingResponse(
        desk.stores.blobs.stream(key, start, end),
        status,
        headers,
        media_type=shown,
    )


def _headers(key: str, name: str | None) -> dict[str, str]:
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-store",
        "Content-Disposition": "attachment",
        # An object never changes under its key, so the key is as good as its content's digest.
        "ETag": f'"{hashlib.sha256(key.encode()).hexdigest()[:32]}"',
        "Content-Security-Policy": "sandbox",
    }
    if name:
        headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
    return headers


def _known(media_type: str | None) -> str:
    if media_type is not None and MEDIA_TYPE.fullmatch(media_type):
        return media_type
    return "application/octet-stream"


def _wanted(request: Request, etag: str, size: int) -> tuple[int, int] | None:
    """The part of the file that is asked for, as [start, end); None for all of it.

    Raises:
        RangeNotSatisfiableError: If the file has no such part.
    """
    found = RANGE.fullmatch(request.headers.get("range", "").strip())
    if found is None or request.headers.get("if-range", etag) != etag:
        return None
    first, last = found.groups()
    if first == last == "":
        return None
    if first == "":  # the last so many bytes
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), min(size, int(last) + 1 if last else size)
    if start >= end:
        raise RangeNotSatisfiableError(f"The file has {size} bytes.")
    return start, end
