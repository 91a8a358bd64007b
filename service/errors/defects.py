"""Defects and set-up: ours to mend."""

from service.errors.tree import WarplineError


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
