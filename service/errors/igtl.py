"""What a peer that speaks OpenIGTLink can do wrong. The bridge tells it by STATUS and goes on."""

from service.errors.requests import InvalidRequestError


class IgtlMessageError(InvalidRequestError):
    """The OpenIGTLink message cannot be used."""

    slug = "igtl-message"


class IgtlChecksumError(IgtlMessageError):
    """The body of the OpenIGTLink message does not have the checksum that its header states."""

    slug = "igtl-checksum"


class IgtlLengthError(IgtlMessageError):
    """The lengths that the OpenIGTLink message states do not fit together."""

    slug = "igtl-length"


class IgtlVersionError(IgtlMessageError):
    """The OpenIGTLink header has a version that is not known here."""

    slug = "igtl-version"


class IgtlImageError(IgtlMessageError):
    """The OpenIGTLink image cannot be a frame."""

    slug = "igtl-image"


class IgtlStreamError(IgtlMessageError):
    """What follows cannot be told apart into OpenIGTLink messages; the connection ends."""

    slug = "igtl-stream"


class IgtlTooLargeError(IgtlStreamError):
    """The OpenIGTLink message announces more bytes than are taken."""

    slug, http_status, grpc_code = "igtl-too-large", 413, "RESOURCE_EXHAUSTED"


class IgtlTruncatedError(IgtlStreamError):
    """The peer went away, or fell silent, in the middle of an OpenIGTLink message."""

    slug = "igtl-truncated"
