"""The audit log cannot be written, or is not whole."""

from service.errors.answers import UnavailableError
from service.errors.tree import WarplineError


class AuditUnavailableError(UnavailableError):
    """What is done here must be recorded, and the audit log cannot be written; try again later."""

    slug = "audit-unavailable"


class AuditChainError(WarplineError):
    """The audit log is not whole."""

    slug, http_status, grpc_code = "audit-chain-broken", 500, "DATA_LOSS"
