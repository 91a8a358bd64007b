"""The caller must change something: the request, or the pair."""

from service.errors.tree import WarplineError


class InvalidRequestError(WarplineError):
    """The request cannot be carried out as it stands."""

    slug, http_status, grpc_code, retryable = "invalid-request", 422, "INVALID_ARGUMENT", False


class ValidationError(InvalidRequestError):
    """The request does not fit its schema."""

    slug = "validation-failed"


class IdempotencyKeyReusedError(InvalidRequestError):
    """This Idempotency-Key was used before with another request."""

    slug = "idempotency-key-reused"


class UrlNotAllowedError(InvalidRequestError):
    """This service does not fetch from that address."""

    slug = "url-not-allowed"


class UrlFetchError(InvalidRequestError):
    """The object behind the URL could not be fetched."""

    slug = "url-fetch-failed"


class ChecksumMismatchError(InvalidRequestError):
    """The bytes that arrived are not the bytes that were announced."""

    slug, grpc_code = "checksum-mismatch", "DATA_LOSS"


class RangeNotSatisfiableError(InvalidRequestError):
    """The file has no such range of bytes."""

    slug, http_status, grpc_code = "range-not-satisfiable", 416, "OUT_OF_RANGE"


class InvalidPairError(InvalidRequestError):
    """These volumes cannot be registered to each other."""

    slug = "invalid-pair"


class NoContrastError(InvalidPairError):
    """The volume is constant: there is nothing to align."""

    slug = "no-contrast"


class NoOverlapError(InvalidPairError):
    """The two volumes do not overlap in space."""

    slug = "no-overlap"


class GridMismatchError(InvalidPairError):
    """Labels or a mask lie on another grid than their image."""

    slug = "grid-mismatch"


class FieldError(InvalidRequestError):
    """The displacement field is not usable."""

    slug = "invalid-field"


class TrainingDataError(InvalidRequestError):
    """The training data are not usable as they are."""

    slug = "training-data-invalid"
