"""Where a piece of an upload belongs, as its headers say."""

import base64
import binascii
import re
from dataclasses import dataclass

from starlette.datastructures import Headers

from service.errors import ConflictError, UploadCompleteError, ValidationError
from service.jobs.job import Upload

CONTENT_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15}|\*)")
CONTENT_DIGEST = re.compile(r"(?:^|,)\s*sha-256=:([A-Za-z0-9+/=]{44}):")


@dataclass(frozen=True)
class Placement:
    """A piece's first byte; its length and SHA-256 where the sender told them."""

    offset: int
    length: int | None = None
    digest: str | None = None

    def require_next(self, upload: Upload) -> None:
        """Pieces come in order, so that what was received is one number.

        Raises:
            UploadCompleteError: If nothing is missing.
            ConflictError: If the piece begins elsewhere; names the right place.
        """
        if upload.is_complete:
            raise UploadCompleteError
        if self.offset != upload.received:
            raise ConflictError(
                f"{upload.received} bytes have arrived, so the next piece begins at byte "
                f"{upload.received}, not {self.offset}.",
                field="Upload-Offset",
            )


def placement_of(headers: Headers, upload: Upload) -> Placement:
    """The piece's place: `Content-Range`, `Upload-Offset`, or the beginning.

    Raises:
        ValidationError: If a header cannot be read or does not fit the announced size.
    """
    digest = _digest(headers.get("content-digest"))
    if "content-range" in headers:
        found = CONTENT_RANGE.fullmatch(headers["content-range"].strip())
        if found is None:
            raise ValidationError("Write `bytes FIRST-LAST/SIZE`.", field="Content-Range")
        first, last = int(found[1]), int(found[2])
        if found[3] not in ("*", str(upload.bytes)) or not first <= last < upload.bytes:
            raise ValidationError(
                f"The range does not lie in the {upload.bytes} bytes that were announced.",
                field="Content-Range",
            )
        return Placement(first, last - first + 1, digest)
    offset = headers.get("upload-offset", "0").strip()
    if not offset.isdecimal() or len(offset) > 15:
        raise ValidationError("It must be a number of bytes.", field="Upload-Offset")
    return Placement(int(offset), None, digest)


def _digest(header: str | None) -> str | None:
    """The hex SHA-256 of a `Content-Digest` (RFC 9530); other algorithms are passed over."""
    found = CONTENT_DIGEST.search(header or "")
    if found is None:
        return None
    try:
        return base64.b64decode(found[1], validate=True).hex()
    except binascii.Error:
        raise ValidationError("The digest is not base64.", field="Content-Digest") from None
