"""Why a job has no result."""

from service.errors.tree import WarplineError


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
