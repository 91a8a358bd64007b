"""Packs a folder of data as one zip, the same bytes each time."""

import zipfile
from collections.abc import Callable
from pathlib import Path

from service.errors import InvalidRequestError

# The beginning of time for zip; when a file was written is nobody's business.
WRITTEN_AT = (1980, 1, 1, 0, 0, 0)
PACKED_ALREADY = (".gz", ".png", ".jpg", ".zip", ".h5", ".hdf5")
ARCHIVES = (".zip", ".tar.gz", ".tgz")
CHUNK = 1 << 20

Tell = Callable[[float], object]


def is_archive(path: Path) -> bool:
    """Whether the server takes the file as it is."""
    return path.is_file() and path.name.lower().endswith(ARCHIVES)


def pack(
    folder: Path,
    target: Path,
    tell: Tell = lambda _fraction: None,
    *,
    are_names_kept: bool = True,
) -> Path:
    """Write every file below a folder to a zip, hidden ones left out.

    Args:
        folder: Paths in the archive begin here.
        target: The zip.
        tell: Called with the share of bytes that is packed.
        are_names_kept: Otherwise files are numbered; names of DICOM files may name the patient.

    Raises:
        InvalidRequestError: If the folder is not there or is empty.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [path for path in files if not _is_hidden(path.relative_to(folder))]
    if not files:
        raise InvalidRequestError(
            f"There is no folder {folder} with files, and no .zip or .tar.gz of that name.",
            field="data",
        )
    total, done = sum(path.stat().st_size for path in files) or 1, 0
    with zipfile.ZipFile(target, "w") as archive:
        for number, path in enumerate(files, start=1):
            name = path.relative_to(folder).as_posix() if are_names_kept else f"{number:08d}"
            entry = zipfile.ZipInfo(name, WRITTEN_AT)
            is_packed = path.name.lower().endswith(PACKED_ALREADY)
            entry.compress_type = zipfile.ZIP_STORED if is_packed else zipfile.ZIP_DEFLATED
            entry.file_size = path.stat().st_size
            with path.open("rb") as source, archive.open(entry, "w") as packed:
                while chunk := source.read(CHUNK):
                    packed.write(chunk)
                    done += len(chunk)
                    tell(done / total)
    return target


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
