"""What a library makes of bytes that are wrong, said in our words.

pydicom converts values when they are asked for, and raises whatever the conversion raises: the
kinds are many, and their texts hold the values. So whoever touches a data set does it in here.
"""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from service.errors import (
    DicomParsingLimitError,
    InvalidDicomError,
    MissingExtraError,
    StorageFullError,
    WarplineError,
)

# What decoders in Rust raise where they index beyond an end; not an Exception, on purpose.
PANIC = "PanicException"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextmanager
def parsing(
    otherwise: WarplineError | None = None,
) -> Iterator[None]:
    """Translate every failure that leaves the block; our own errors pass as they are.

    Args:
        otherwise: What to raise for a failure of no special kind; an InvalidDicomError if omitted.

    Raises:
        DicomParsingLimitError: If memory ran out, or sequences nest too deep for the parser.
        StorageFullError: If there is no room on the disk.
        MissingExtraError: If pydicom is not installed.
        InvalidDicomError: For everything else.
    """
    try:
        yield
    except WarplineError:
        raise
    except (MemoryError, RecursionError):
        raise DicomParsingLimitError from None
    except ModuleNotFoundError:
        raise MissingExtraError("Reading DICOM needs the extra `warpline[dicom]`.") from None
    except OSError as error:
        if error.errno in NO_ROOM:
            raise StorageFullError from None
        raise (otherwise or _unreadable()) from None
    except Exception:
        raise (otherwise or _unreadable()) from None
    except BaseException as error:
        if type(error).__name__ != PANIC:
            raise
        raise (otherwise or _unreadable()) from None


def _unreadable() -> WarplineError:
    return InvalidDicomError("The DICOM file cannot be parsed; export it again.")
