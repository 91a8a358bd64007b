"""Archives (PACS) that are away, refuse, send half, or are not set up."""

from service.errors.answers import ConflictError, LimitError, NotFoundError, UnavailableError
from service.errors.requests import InvalidRequestError


class PacsUnknownError(InvalidRequestError):
    """This service knows no archive of that name, or not for this key."""

    slug = "pacs-unknown"


class PacsSeriesNotFoundError(NotFoundError):
    """The archive has no such series."""

    slug = "pacs-series-not-found"


class PacsSeriesTooLargeError(LimitError):
    """The archive's series is larger than this service takes."""

    slug, http_status, retryable = "pacs-series-too-large", 413, False


class PacsUnavailableError(UnavailableError):
    """The archive does not answer, or not in time."""

    slug = "pacs-unavailable"


class PacsIncompleteError(PacsUnavailableError):
    """The archive sent only a part of the series."""

    slug = "pacs-incomplete"


class PacsRefusedError(PacsUnavailableError):
    """The archive refused the request; its operator has to let this service in."""

    slug = "pacs-refused"


class StorageNotCommittedError(PacsUnavailableError):
    """The archive has not committed itself to keep what was sent to it."""

    slug = "storage-not-committed"


class PacsObjectRefusedError(ConflictError):
    """The archive does not take objects of this kind."""

    slug = "pacs-object-refused"


class NothingToStoreError(ConflictError):
    """The job has no DICOM objects that an archive could keep."""

    slug = "nothing-to-store"
