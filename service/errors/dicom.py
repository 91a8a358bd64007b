"""DICOM that cannot be read as a volume, or is not allowed to be."""

from service.errors.files import InvalidFileError
from service.errors.requests import InvalidPairError


class InvalidDicomError(InvalidFileError):
    """The DICOM files cannot be read as a volume."""

    slug = "invalid-dicom"


class NoDicomError(InvalidDicomError):
    """There is no DICOM image inside."""

    slug, http_status = "no-dicom", 415


class TransferSyntaxError(InvalidDicomError):
    """The pixels are encoded in a way that this service does not decode."""

    slug, http_status = "transfer-syntax-unsupported", 415


class ExecutablePreambleError(InvalidDicomError):
    """The file is a program and a DICOM file at once."""

    slug = "executable-preamble"


class DicomTooDeepError(InvalidDicomError):
    """Sequences are nested deeper than any real DICOM object."""

    slug = "dicom-too-deep"


class DicomTooComplexError(InvalidDicomError):
    """The file has more elements than any real DICOM object."""

    slug, http_status, grpc_code = "dicom-too-complex", 413, "RESOURCE_EXHAUSTED"


class DicomParsingLimitError(InvalidDicomError):
    """Parsing the DICOM files took more time or memory than this service gives it."""

    slug, http_status, grpc_code = "dicom-parsing-limit", 413, "RESOURCE_EXHAUSTED"


class SeriesAmbiguousError(InvalidDicomError):
    """The files hold several volumes, and none was chosen."""

    slug = "series-ambiguous"


class SeriesNotFoundError(InvalidDicomError):
    """The files hold no such volume."""

    slug = "series-not-found"


class LocaliserError(InvalidDicomError):
    """The images are localisers, not a volume."""

    slug = "localiser-only"


class MixedSeriesError(InvalidDicomError):
    """The slices do not belong to one volume."""

    slug = "mixed-series"


class DuplicateSlicesError(InvalidDicomError):
    """Several slices lie in the same place."""

    slug = "duplicate-slices"


class MissingSlicesError(InvalidDicomError):
    """Slices are missing."""

    slug = "missing-slices"


class SliceTiltError(InvalidDicomError):
    """The slices are tilted further than this service puts right."""

    slug = "slice-tilt"


class PatientMismatchError(InvalidPairError):
    """The two images are of different patients."""

    slug = "patient-mismatch"
