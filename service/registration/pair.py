"""A pair as it was sent: read, checked, ready to be registered."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from service.errors import InvalidPairError, InvalidRequestError, NoContrastError
from service.registration.fields import Affine
from service.registration.files.affine_text import read_affine
from service.registration.files.dicom.asking import Tick, untold
from service.registration.files.dicom.source import (
    OriginJson,
    is_dicom_source,
    read_dicom_labels,
)
from service.registration.files.file_order import turned
from service.registration.files.header import faults_of
from service.registration.files.limits import Limits
from service.registration.files.points_file import read_points
from service.registration.files.volume_file import read_image, read_label_map
from service.registration.kernels.launch import threads_beside
from service.registration.options import RegisterOptions
from service.registration.points import WorldPoints
from service.registration.roles import (
    IMAGE_ROLES,
    LABEL_ROLES,
    POINT_ROLES,
    REGISTER_ROLES,
    TRANSFORM_ROLE,
)
from service.registration.tempering import Tempering
from service.registration.volume import Volume, as_label_map, require_same_grid

READ_AT_ONCE = 3  # files; mostly two images and labels, which are smaller

OUTLIERS = (
    "A few voxels lie far beyond the values of all others. They were cut off where images are "
    "compared, and are in the warped image as they came."
)


@dataclass(frozen=True)
class Pair:
    """What was sent. Labels and masks lie on the grid of their image.

    `initial` replaces the headers' placement: fixed world to moving world. The origins say where
    images that came as DICOM come from; see files/dicom/origin.py.
    """

    fixed: Volume
    moving: Volume
    fixed_labels: Volume | None = None
    moving_labels: Volume | None = None
    fixed_mask: Volume | None = None
    moving_mask: Volume | None = None
    fixed_points: WorldPoints | None = None
    moving_points: WorldPoints | None = None
    initial: Affine = field(default_factory=Affine.identity)
    fixed_origin: OriginJson | None = field(default=None, repr=False)
    moving_origin: OriginJson | None = field(default=None, repr=False)

    @cached_property
    def fixed_tempering(self) -> Tempering:
        """How the fixed image's values are looked at."""
        return Tempering.of(self.fixed)

    @cached_property
    def moving_tempering(self) -> Tempering:
        """How the moving image's values are looked at, warped or not."""
        return Tempering.of(self.moving)


def read_pair(
    files: Mapping[str, Path],
    options: RegisterOptions,
    limits: Limits,
    warnings: list[str],
    *,
    known: "Mapping[str, Read] | None" = None,
    tick: Tick = untold,
) -> Pair:
    """Read every file of a pair, a few at a time, and check that they belong together.

    Args:
        files: Path by role; `fixed` and `moving` are needed, see roles.REGISTER_ROLES.
        options: Say which series of DICOM, and whether patients may differ.
        limits: What is refused as too large.
        warnings: What is odd but not wrong is added here.
        known: Files that were read before, by role; see `read_files`.
        tick: Called while DICOM is read; may raise to stop it.

    Raises:
        InvalidRequestError: If a needed role is missing or a role is unknown.
        InvalidFileError: If a file cannot be read; `field` names its role.
        NoContrastError: If an image is constant.
        GridMismatchError: If labels or a mask lie elsewhere than their image.
        InvalidPairError: If a mask marks nothing.
        PatientMismatchError: If DICOM images are of different patients, and that is not allowed.
    """
    _require_roles(files)
    loaded = read_files(files, options, limits, known=known, tick=tick)
    parts: dict[str, Any] = {}
    for role, read in loaded.items():
        warnings.extend(f"{role}: {warning}" for warning in read.warnings)
        parts["initial" if role == TRANSFORM_ROLE else role] = read.part
        if read.origin is not None:
            parts[f"{role}_origin"] = read.origin
    pair = Pair(**parts)
    if not options.allow_different_patients:
        _require_same_patient(pair)
    require_contrast(pair)
    for role, tempering in (("fixed", pair.fixed_tempering), ("moving", pair.moving_tempering)):
        if tempering.cuts:
            warnings.append(f"{role}: {OUTLIERS}")
    for role in LABEL_ROLES:
        if (labels := getattr(pair, role)) is not None:
            require_same_grid(labels, _image_of(pair, role), role)
            if role.endswith("_mask") and not labels.data.any():
                raise InvalidPairError(
                    "The mask marks no voxel, so nothing could be matched. Send one that is above "
                    "0 where its image counts, or none.",
                    field=role,
                )
    for role in POINT_ROLES:
        if (points := getattr(pair, role)) is not None:
            left = points.unmoved_in(_image_of(pair, role).grid)
            warnings.extend([] if left is None else [f"{role}: {left}"])
    return pair


def _image_of(pair: Pair, role: str) -> Volume:
    """The image that labels, a mask or points belong to."""
    return pair.fixed if role.startswith("fixed") else pair.moving


def read_files(
    files: Mapping[str, Path],
    options: RegisterOptions,
    limits: Limits,
    *,
    known: "Mapping[str, Read] | None" = None,
    tick: Tick = untold,
) -> "dict[str, Read]":
    """Read files, a few at a time, but for those that are known; raises as `read_pair`."""
    series = {"fixed": options.fixed_series, "moving": options.moving_series}
    loaded = dict(known or {})
    drawn = {role for role in files if role in LABEL_ROLES and is_dicom_source(files[role])}
    with threads_beside(READ_AT_ONCE) as pool:
        loading = {
            role: pool.submit(_read, role, path, limits, series.get(role), tick)
            for role, path in files.items()
            if role not in drawn and role not in loaded
        }
        loaded.update({role: task.result() for role, task in loading.items()})
        drawing = {
            role: pool.submit(_read_drawn, role, files[role], limits, loaded)
            for role in drawn
            if role not in loaded
        }
        loaded.update({role: task.result() for role, task in drawing.items()})
    return {role: loaded[role] for role in files}


def _require_roles(files: Mapping[str, Path]) -> None:
    for role in IMAGE_ROLES:
        if role not in files:
            raise InvalidRequestError(f"The {role} image is missing.", field=role)
    for role in files:
        if role not in REGISTER_ROLES:
            raise InvalidRequestError(
                "There is no such role; use one of " + ", ".join(REGISTER_ROLES) + ".",
                field="inputs",
            )


def _require_same_patient(pair: Pair) -> None:
    if pair.fixed_origin is None or pair.moving_origin is None:
        return
    from service.registration.files.dicom.origin import Origin, require_same_patient

    require_same_patient(Origin.from_json(pair.fixed_origin), Origin.from_json(pair.moving_origin))


@dataclass(frozen=True)
class Read:
    """One file, with what is odd about it and, of DICOM, where it comes from."""

    part: Volume | WorldPoints | Affine
    warnings: list[str]
    origin: OriginJson | None = field(default=None, repr=False)


def _read(role: str, path: Path, limits: Limits, series: str | None, tick: Tick) -> Read:
    warnings: list[str] = []
    if role in IMAGE_ROLES:
        image, origin = read_image(path, limits, role, warnings, series=series, tick=tick)
        return Read(_for_kernels(image), warnings, origin)
    if role in LABEL_ROLES:
        return Read(_for_kernels(read_label_map(path, limits, role, warnings)), warnings)
    if role in POINT_ROLES:
        return Read(read_points(path, role), warnings)
    return Read(read_affine(path, role), warnings)


def _read_drawn(role: str, path: Path, limits: Limits, loaded: Mapping[str, Read]) -> Read:
    """Labels that came as DICOM, which says where they lie but not on which grid."""
    image = loaded[role.partition("_")[0]].part
    if not isinstance(image, Volume):
        raise InvalidRequestError("Labels need an image.", field=role)
    warnings: list[str] = []
    with faults_of(role):
        labels = read_dicom_labels(path, image.grid, limits, warnings)
    return Read(_for_kernels(as_label_map(labels, role)), warnings)


def _for_kernels(volume: Volume) -> Volume:
    """In the order that kernels walk, once and for all: in files i runs fastest."""
    return volume.with_data(turned(volume.data.T))


def require_contrast(pair: Pair) -> None:
    """Refuse an image in which all is the same.

    Raises:
        NoContrastError: If one is.
    """
    for role, tempering in (("fixed", pair.fixed_tempering), ("moving", pair.moving_tempering)):
        if tempering.is_flat:
            raise NoContrastError(
                f"Every voxel of the {role} image has the same value: there is nothing to align. "
                "Check that the right file was sent.",
                field=role,
            )
