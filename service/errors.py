"""Every error that leaves Warpline, once.

    WarplineError
      InvalidRequestError      the caller must change something          4xx
        InvalidFileError         a file that we cannot register          415, 413, 422
        InvalidPairError         good files that do not make a pair      422
      AccessError              who is asking                             401, 403
      NotFoundError            no such thing, or not yours               404
      ConflictError            not in this state                         409
      LimitError               slow down, or too much                    408, 413, 429
      UnavailableError         ours to mend; a retry may help            503, 507
      JobEndedError            why a job has no result
      InternalError            a defect of ours                          500

A class states what both faces show: `slug` (the stable code), `http_status`, `grpc_code`,
`retryable`. `detail` is a sentence for the caller: what is wrong, where, and what to do. It never
holds a path, a file name or anything out of a file's text fields, which may name a patient.
"""

from typing import Any, ClassVar


class WarplineError(Exception):
    """Something went wrong."""

    slug: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    grpc_code: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False

    def __init__(
        self,
        detail: str | None = None,
        *,
        field: str | None = None,
        retry_after_s: float | None = None,
        errors: tuple[dict[str, Any], ...] = (),
    ) -> None:
        """Make an error.

        Args:
            detail: A sentence for the caller; the class's first docstring line when omitted.
            field: The part of the request that is at fault, such as `fixed` or `/options/refine`.
            retry_after_s: When a retry may help, the seconds to wait first.
            errors: Several faults at once, each `{"field": ..., "detail": ...}`.
        """
        self.detail = detail or (type(self).__doc__ or "").strip().splitlines()[0]
        self.field = field
        self.retry_after_s = retry_after_s
        self.errors = errors
        super().__init__(self.detail)

    @property
    def title(self) -> str:
        """What this kind of error is, the same for each of its occurrences."""
        return (type(self).__doc__ or "").strip().splitlines()[0]

    def problem(self) -> dict[str, Any]:
        """The body of `application/problem+json` (RFC 9457), also stored with a failed job."""
        body: dict[str, Any] = {
            "type": f"urn:warpline:error:{self.slug}",
            "title": self.title,
            "status": self.http_status,
            "code": self.slug,
            "detail": self.detail,
            "retryable": self.retryable,
        }
        if self.field is not None:
            body["field"] = self.field
        if self.errors:
            body["errors"] = list(self.errors)
        return body


# --- the caller must change something -------------------------------------------------------


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


class InvalidFileError(InvalidRequestError):
    """The file cannot be read as a volume."""

    slug = "invalid-file"


class UnsupportedFormatError(InvalidFileError):
    """The file is in no format that this service reads."""

    slug, http_status = "unsupported-format", 415


class UnsupportedDatatypeError(InvalidFileError):
    """The voxels are of a type that this service does not register."""

    slug, http_status = "unsupported-datatype", 415


class VolumeTooLargeError(InvalidFileError):
    """The file announces more voxels than this service accepts."""

    slug, http_status, grpc_code = "volume-too-large", 413, "RESOURCE_EXHAUSTED"


class TruncatedFileError(InvalidFileError):
    """The file ends before its voxels do."""

    slug, grpc_code = "truncated-file", "DATA_LOSS"


class TrailingDataError(InvalidFileError):
    """The file goes on after its voxels end."""

    slug = "trailing-data"


class GzipChecksumError(InvalidFileError):
    """The gzip checksum does not fit the data."""

    slug, grpc_code = "gzip-checksum", "DATA_LOSS"


class CorruptFileError(InvalidFileError):
    """The file is damaged."""

    slug, grpc_code = "corrupt-file", "DATA_LOSS"


class HeaderInconsistentError(InvalidFileError):
    """Two fields of the header contradict each other."""

    slug = "header-inconsistent"


class BadDimensionsError(InvalidFileError):
    """The header's dimensions are not those of a volume."""

    slug = "bad-dimensions"


class NotOneVolumeError(InvalidFileError):
    """The file holds more than one volume, or fewer than three dimensions."""

    slug = "not-one-volume"


class BadSpacingError(InvalidFileError):
    """The voxel spacing is zero, not finite, or absurd."""

    slug = "bad-spacing"


class BadScalingError(InvalidFileError):
    """The header's intensity scaling is not usable."""

    slug = "bad-scaling"


class BadOffsetError(InvalidFileError):
    """The header says that the voxels begin where they cannot."""

    slug = "bad-offset"


class BadAffineError(InvalidFileError):
    """The voxel-to-world matrix cannot be inverted or is not finite."""

    slug = "bad-affine"


class ShearedAffineError(InvalidFileError):
    """The voxel-to-world matrix is sheared."""

    slug = "sheared-affine"


class NoOrientationError(InvalidFileError):
    """The file does not say how its voxels lie in space."""

    slug = "no-orientation"


class AmbiguousOrientationError(InvalidFileError):
    """The file says twice, and differently, how its voxels lie in space."""

    slug = "ambiguous-orientation"


class NonFiniteVoxelsError(InvalidFileError):
    """The volume holds values that are not finite."""

    slug = "non-finite-voxels"


class BadLabelsError(InvalidFileError):
    """The label map is not one of whole, non-negative numbers."""

    slug = "bad-labels"


class BadPointsError(InvalidFileError):
    """The file is not a list of points."""

    slug = "bad-points"


class BadTransformError(InvalidFileError):
    """The file is not a transform that this service reads."""

    slug = "bad-transform"


class InvalidArchiveError(InvalidFileError):
    """The archive cannot be unpacked: it is damaged, encrypted, or neither zip nor tar.gz."""

    slug = "invalid-archive"


class ArchivePathError(InvalidArchiveError):
    """A member of the archive would be unpacked outside its folder, or twice."""

    slug = "archive-path"


class ArchiveMemberError(InvalidArchiveError):
    """The archive holds a link, a device or another thing that is neither file nor folder."""

    slug = "archive-member"


class ArchiveNestedError(InvalidArchiveError):
    """The archive holds another archive."""

    slug = "archive-nested"


class ArchiveTooManyFilesError(InvalidArchiveError):
    """The archive holds more files than this service accepts."""

    slug, http_status = "archive-too-many-files", 413


class ArchiveTooLargeError(InvalidArchiveError):
    """The archive is larger, once unpacked, than this service accepts."""

    slug, http_status = "archive-too-large", 413


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


# --- who is asking ---------------------------------------------------------------------------


class AccessError(WarplineError):
    """Access is denied."""

    slug, http_status, grpc_code, retryable = "access-denied", 403, "PERMISSION_DENIED", False


class UnauthenticatedError(AccessError):
    """A valid API key is needed."""

    slug, http_status, grpc_code = "unauthenticated", 401, "UNAUTHENTICATED"


class SignedUrlError(AccessError):
    """The signed URL is wrong or has expired; ask for a new one."""

    slug = "signed-url-invalid"


# --- no such thing, or not yours -------------------------------------------------------------


class NotFoundError(WarplineError):
    """There is no such resource."""

    slug, http_status, grpc_code, retryable = "not-found", 404, "NOT_FOUND", False


class MethodNotAllowedError(NotFoundError):
    """This resource does not answer to that method."""

    slug, http_status, grpc_code = "method-not-allowed", 405, "UNIMPLEMENTED"


class JobNotFoundError(NotFoundError):
    """There is no such job."""

    slug = "job-not-found"


class UploadNotFoundError(NotFoundError):
    """There is no such upload; it may have expired."""

    slug = "upload-not-found"


class DatasetNotFoundError(NotFoundError):
    """There is no such data set of yours."""

    slug = "dataset-not-found"


class ModelNotFoundError(NotFoundError):
    """There is no such model."""

    slug = "model-not-found"


class ResultNotFoundError(NotFoundError):
    """The job has no such result file."""

    slug = "result-not-found"


# --- not in this state -----------------------------------------------------------------------


class ConflictError(WarplineError):
    """The resource is not in a state that allows this."""

    slug, http_status, grpc_code, retryable = "conflict", 409, "ABORTED", False


class CheckpointInvalidError(ConflictError):
    """The checkpoint cannot be used to go on with this training."""

    slug = "checkpoint-invalid"


class TrainingExistsError(ConflictError):
    """The folder holds a training already."""

    slug = "training-exists"


class JobNotFinishedError(ConflictError):
    """The job has no result yet."""

    slug, retryable = "job-not-finished", True


class JobHasNoResultError(ConflictError):
    """The job ended without a result."""

    slug = "job-has-no-result"


class PromotionRefusedError(ConflictError):
    """The version may not go into production as things stand."""

    slug, grpc_code = "promotion-refused", "FAILED_PRECONDITION"


class NotComparedError(PromotionRefusedError):
    """The version was never measured beside the one in production."""

    slug = "not-compared"


class ComparisonOutdatedError(PromotionRefusedError):
    """The version was measured beside another one than is in production now."""

    slug = "comparison-outdated"


class ModelWorseError(PromotionRefusedError):
    """The version did worse than the one in production, on the same pairs."""

    slug = "model-worse"


class NothingToRollBackError(ConflictError):
    """The alias was never moved, so there is nothing to go back to."""

    slug = "nothing-to-roll-back"


class UploadIncompleteError(ConflictError):
    """The upload's bytes have not all arrived."""

    slug = "upload-incomplete"


class UploadCompleteError(ConflictError):
    """The upload is complete and cannot be written again."""

    slug = "upload-complete"


# --- slow down, or too much ------------------------------------------------------------------


class LimitError(WarplineError):
    """A limit of this service was passed."""

    slug, http_status, grpc_code, retryable = "limit", 429, "RESOURCE_EXHAUSTED", True


class RateLimitedError(LimitError):
    """Too many requests; slow down."""

    slug = "rate-limited"


class QuotaExceededError(LimitError):
    """Too many unfinished jobs for this key."""

    slug = "quota-exceeded"


class BodyTooLargeError(LimitError):
    """The request body is larger than this service accepts."""

    slug, http_status, retryable = "body-too-large", 413, False


class HeadersTooLargeError(LimitError):
    """The request's headers are larger than this service accepts."""

    slug, http_status, retryable = "headers-too-large", 431, False


class RequestTimeoutError(LimitError):
    """The request arrived too slowly."""

    slug, http_status, grpc_code = "request-timeout", 408, "DEADLINE_EXCEEDED"


# --- ours to mend ----------------------------------------------------------------------------


class UnavailableError(WarplineError):
    """The service cannot take this now; try again later."""

    slug, http_status, grpc_code, retryable = "unavailable", 503, "UNAVAILABLE", True


class QueueFullError(UnavailableError):
    """The queue is full; try again later."""

    slug = "queue-full"


class TrainingNotOfferedError(UnavailableError):
    """This service does not train."""

    slug, http_status, grpc_code, retryable = "training-not-offered", 501, "UNIMPLEMENTED", False


class TrainingInterruptedError(UnavailableError):
    """The training process was killed."""

    slug = "training-interrupted"


class StoreUnavailableError(UnavailableError):
    """The database or the object store does not answer; try again later."""

    slug = "store-unavailable"


class StorageFullError(UnavailableError):
    """There is no room left to store this."""

    slug, http_status, grpc_code = "storage-full", 507, "RESOURCE_EXHAUSTED"


# --- why a job has no result -----------------------------------------------------------------


class JobEndedError(WarplineError):
    """The job ended without a result."""

    slug, http_status, grpc_code, retryable = "job-ended", 409, "ABORTED", False


class JobCancelledError(JobEndedError):
    """The job was cancelled."""

    slug, grpc_code = "job-cancelled", "CANCELLED"


class JobExpiredError(JobEndedError):
    """The job did not finish before its deadline."""

    slug, http_status, grpc_code = "job-expired", 504, "DEADLINE_EXCEEDED"


class WorkerLostError(JobEndedError):
    """The job's worker died each time it was tried."""

    slug, http_status, grpc_code = "worker-lost", 500, "INTERNAL"


class TrainingFailedError(JobEndedError):
    """The training stopped with an error."""

    slug, http_status, grpc_code = "training-failed", 500, "INTERNAL"


class TrainingDivergedError(JobEndedError):
    """A loss is no longer a finite number; the last checkpoint is kept."""

    slug, http_status, grpc_code, retryable = "training-diverged", 422, "FAILED_PRECONDITION", False


class TrainingStoppedError(JobEndedError):
    """The training was asked to stop and wrote a checkpoint; it goes on with --resume."""

    slug, http_status, grpc_code, retryable = "training-stopped", 503, "UNAVAILABLE", True


class TrainingMemoryError(JobEndedError):
    """The training took more memory than this service gives one."""

    slug, http_status, grpc_code = "training-memory", 413, "RESOURCE_EXHAUSTED"


class TrainingTimeError(JobEndedError):
    """The training took longer than this service gives one."""

    slug, http_status, grpc_code = "training-time", 413, "DEADLINE_EXCEEDED"


class FencedOutError(JobEndedError):
    """Another worker has taken this job over."""

    slug = "fenced-out"


# --- defects and set-up ----------------------------------------------------------------------


class InternalError(WarplineError):
    """Something went wrong inside the service; this is a defect of ours."""

    slug, http_status, grpc_code, retryable = "internal", 500, "INTERNAL", False


class ModelInvalidError(InternalError):
    """The model does not keep what its card promises and was refused."""

    slug = "model-invalid"


class ProviderUnavailableError(InternalError):
    """The execution provider that was asked for cannot start on this machine."""

    slug = "provider-unavailable"


class ConfigurationError(InternalError):
    """The service is not set up correctly."""

    slug = "configuration"


class MissingExtraError(ConfigurationError):
    """A part of Warpline that this needs is not installed."""

    slug = "missing-extra"
