"""A file that cannot be read as what it was sent as."""

from service.errors.requests import InvalidRequestError


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
