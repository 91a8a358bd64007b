"""Who is asking, what there is, what state it is in, how much is too much, what is away."""

from service.errors.tree import WarplineError


class AccessError(WarplineError):
    """Access is denied."""

    slug, http_status, grpc_code, retryable = "access-denied", 403, "PERMISSION_DENIED", False


class UnauthenticatedError(AccessError):
    """A valid API key is needed."""

    slug, http_status, grpc_code = "unauthenticated", 401, "UNAUTHENTICATED"


class SignedUrlError(AccessError):
    """The signed URL is wrong or has expired; ask for a new one."""

    slug = "signed-url-invalid"


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


class CohortNotFoundError(NotFoundError):
    """There is no such cohort of yours."""

    slug = "cohort-not-found"


class DatasetNotFoundError(NotFoundError):
    """There is no such data set of yours."""

    slug = "dataset-not-found"


class ModelNotFoundError(NotFoundError):
    """There is no such model."""

    slug = "model-not-found"


class ResultNotFoundError(NotFoundError):
    """The job has no such result file."""

    slug = "result-not-found"


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


class ModelInUseError(ConflictError):
    """The version cannot be deleted while something needs it."""

    slug, grpc_code = "model-in-use", "FAILED_PRECONDITION"


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


class LimitError(WarplineError):
    """A limit of this service was passed."""

    slug, http_status, grpc_code, retryable = "limit", 429, "RESOURCE_EXHAUSTED", True


class RateLimitedError(LimitError):
    """Too many requests; slow down."""

    slug = "rate-limited"


class QuotaExceededError(LimitError):
    """Too many unfinished jobs for this key."""

    slug = "quota-exceeded"


class TooManyCallsError(LimitError):
    """Too many calls of this key are open at once."""

    slug = "too-many-calls"


class BodyTooLargeError(LimitError):
    """The request body is larger than this service accepts."""

    slug, http_status, retryable = "body-too-large", 413, False


class HeadersTooLargeError(LimitError):
    """The request's headers are larger than this service accepts."""

    slug, http_status, retryable = "headers-too-large", 431, False


class RequestTimeoutError(LimitError):
    """The request arrived too slowly."""

    slug, http_status, grpc_code = "request-timeout", 408, "DEADLINE_EXCEEDED"


class UnavailableError(WarplineError):
    """The service cannot take this now; try again later."""

    slug, http_status, grpc_code, retryable = "unavailable", 503, "UNAVAILABLE", True


class QueueFullError(UnavailableError):
    """The queue is full; try again later."""

    slug = "queue-full"


class TrainingNotOfferedError(UnavailableError):
    """This service does not train."""

    slug, http_status, grpc_code, retryable = "training-not-offered", 501, "UNIMPLEMENTED", False


class LiveNotOfferedError(UnavailableError):
    """This service has no live sessions."""

    slug, http_status, grpc_code, retryable = "live-not-offered", 501, "UNIMPLEMENTED", False


class TrainingInterruptedError(UnavailableError):
    """The training process was killed."""

    slug = "training-interrupted"


class StoreUnavailableError(UnavailableError):
    """The database or the object store does not answer; try again later."""

    slug = "store-unavailable"


class StorageFullError(UnavailableError):
    """There is no room left to store this."""

    slug, http_status, grpc_code = "storage-full", 507, "RESOURCE_EXHAUSTED"
