"""Applying the transform of an earlier registration to more images, labels or points."""

from collections.abc import Mapping
from pathlib import Path

from service.errors import InvalidRequestError
from service.registration.delivery import Writer, write_all, write_report
from service.registration.fields import DisplacementField
from service.registration.files.field_file import read_field
from service.registration.files.limits import Limits
from service.registration.files.points_file import read_points, write_points
from service.registration.files.volume_file import read_label_map, read_volume, write_volume
from service.registration.options import WarpOptions
from service.registration.progress import StageClock, Watch, unwatched
from service.registration.provenance import checksums, provenance
from service.registration.report import WarpReport
from service.registration.resample import warp, warp_labels

TRANSFORM_ROLES = ("ddf", "inverse_ddf")
# What each role becomes and which field carries it there.
CARRIED = {
    "moving": ("warped.nii.gz", "ddf"),
    "moving_labels": ("warped_labels.nii.gz", "ddf"),
    "fixed_points": ("points.csv", "ddf"),
    "moving_points": ("points_in_fixed.csv", "inverse_ddf"),
}


def warp_files(
    files: Mapping[str, Path],
    options: WarpOptions,
    folder: Path,
    *,
    limits: Limits | None = None,
    watch: Watch = unwatched,
    job_id: str | None = None,
) -> WarpReport:
    """Carry moving images and labels onto the fixed grid, and points either way.

    Args:
        files: Path by role: what to carry (see CARRIED) and the fields that carry it, `ddf` for
            images, labels and fixed points, `inverse_ddf` for moving points.
        options: How values are interpolated.
        folder: Made if missing; files of the same names are replaced.
        limits: What is refused as too large.
        watch: Told the stage and the fraction of the whole; may raise to stop the work.
        job_id: Goes into the report.

    Raises:
        InvalidRequestError: If there is nothing to carry, or no field to carry it.
        InvalidFileError: If a file cannot be read; `field` names its role.
    """
    clock, bounds = StageClock(watch), limits or Limits()
    warnings: list[str] = []
    carried = _require_roles(files)
    folder.mkdir(parents=True, exist_ok=True)
    with clock.stage("read"):
        needed = {CARRIED[role][1] for role in carried}
        fields = {role: read_field(files[role], bounds, role) for role in needed}
    with clock.stage("warp"):
        jobs = {
            CARRIED[role][0]: _carry(
                role, files[role], fields[CARRIED[role][1]], options, bounds, warnings
            )
            for role in carried
        }
    with clock.stage("write"):
        written = write_all(jobs, folder)
    report = WarpReport(
        job_id=job_id,
        stages=clock.stages,
        warnings=warnings,
        files=written,
        provenance=provenance(checksums(files), options, provider="cpu"),
    )
    write_report(report, folder)
    return report


def _require_roles(files: Mapping[str, Path]) -> list[str]:
    carried = [role for role in CARRIED if role in files]
    for role in files:
        if role not in CARRIED and role not in TRANSFORM_ROLES:
            raise InvalidRequestError(
                "There is no such role; use one of "
                + ", ".join((*CARRIED, *TRANSFORM_ROLES))
                + ".",
                field="inputs",
            )
    if not carried:
        raise InvalidRequestError("There is nothing to warp: send an image, labels or points.")
    for role in carried:
        if CARRIED[role][1] not in files:
            raise InvalidRequestError(
                f"{role} needs the {CARRIED[role][1]} of a registration.", field=CARRIED[role][1]
            )
    return carried


def _carry(
    role: str,
    path: Path,
    field: DisplacementField,
    options: WarpOptions,
    limits: Limits,
    warnings: list[str],
) -> Writer:
    """Read one thing, carry it over, and say how to write it."""
    if role == "moving":
        image = warp(
            read_volume(path, limits, role, warnings),
            field,
            interpolation=options.interpolation,
            fill=options.fill,
        )
        return lambda part: write_volume(part, image)
    if role == "moving_labels":
        labels = warp_labels(
            read_label_map(path, limits, role, warnings),
            field,
            interpolation=options.label_interpolation,
        )
        return lambda part: write_volume(part, labels)
    given = read_points(path, role)
    if (left := given.unmoved_in(field.grid)) is not None:
        warnings.append(left)
    points = given.moved(field)
    return lambda part: write_points(part, points)
