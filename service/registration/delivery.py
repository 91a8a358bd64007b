"""Writing what a registration delivers: the result folder of design and report."""

from collections.abc import Callable, Mapping
from pathlib import Path

from service.checksums import sha256_of
from service.registration.files.affine_text import write_affine
from service.registration.files.field_file import write_field
from service.registration.files.points_file import write_points
from service.registration.files.volume_file import write_volume
from service.registration.kernels.launch import threads_beside
from service.registration.products import Products
from service.registration.report import FileReport, Report, WarpReport

MEDIA_TYPES = {
    ".gz": "application/gzip",
    ".txt": "text/plain",
    ".csv": "text/csv",
    ".json": "application/json",
    ".html": "text/html",
    ".png": "image/png",
    ".dcm": "application/dicom",
    ".zip": "application/zip",
}

# Writes a file, and gives its SHA-256 if it happens to know.
Writer = Callable[[Path], str | None]


def deliver(products: Products, folder: Path) -> dict[str, FileReport]:
    """Write every file of the result but the report, and tell their sizes and checksums.

    Args:
        products: What to write.
        folder: An existing one; files of the same names are replaced.
    """
    jobs: dict[str, Writer] = {  # the longest first
        "ddf.nii.gz": lambda path: write_field(path, products.ddf),
        "inverse_ddf.nii.gz": lambda path: write_field(path, products.inverse_ddf),
        "warped.nii.gz": lambda path: write_volume(path, products.warped),
        "affine.txt": lambda path: write_affine(path, products.affine),
    }
    if (labels := products.warped_labels) is not None:
        jobs["warped_labels.nii.gz"] = lambda path: write_volume(path, labels)
    if (points := products.points) is not None:
        jobs["points.csv"] = lambda path: write_points(path, points)
    if (points_in_fixed := products.points_in_fixed) is not None:
        jobs["points_in_fixed.csv"] = lambda path: write_points(path, points_in_fixed)
    return write_all(jobs, folder)


def write_all(jobs: Mapping[str, Writer], folder: Path) -> dict[str, FileReport]:
    """Write files by name, two at a time; each appears whole or not at all."""
    with threads_beside(2) as pool:
        writing = {name: pool.submit(_write, write, folder, name) for name, write in jobs.items()}
        return {name: task.result() for name, task in writing.items()}


def _write(write: Writer, folder: Path, name: str) -> FileReport:
    part = folder / f".part-{name}"
    report = describe(part, name, sha256=write(part))
    part.replace(folder / name)
    return report


def write_report(report: Report | WarpReport, folder: Path) -> None:
    """Write `report.json`, the last file of a result."""
    (folder / "report.json").write_text(report.model_dump_json(indent=1), encoding="utf-8")


def describe(path: Path, name: str, *, sha256: str | None = None) -> FileReport:
    """Size, checksum (read from the file if it is not known) and media type of a written file."""
    media_type = MEDIA_TYPES.get(Path(name).suffix, "application/octet-stream")
    return FileReport(
        bytes=path.stat().st_size, sha256=sha256 or sha256_of(path), media_type=media_type
    )
