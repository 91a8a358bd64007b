"""A pair as it was sent: read, checked, ready to be registered."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from service.errors import InvalidRequestError, NoContrastError
from service.registration.fields import Affine
from service.registration.files.affine_text import read_affine
from service.registration.files.limits import Limits
from service.registration.files.points_file import read_points
from service.registration.files.volume_file import read_label_map, read_volume
from service.registration.points import WorldPoints
from service.registration.roles import (
    IMAGE_ROLES,
    LABEL_ROLES,
    POINT_ROLES,
    REGISTER_ROLES,
    TRANSFORM_ROLE,
)
from service.registration.volume import Volume, require_same_grid


@dataclass(frozen=True)
class Pair:
    """What was sent. Labels and masks lie on the grid of their image.

    `initial` replaces the headers' placement: fixed world to moving world.
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


def read_pair(files: Mapping[str, Path], limits: Limits, warnings: list[str]) -> Pair:
    """Read every file of a pair, two at a time, and check that they belong together.

    Args:
        files: Path by role; `fixed` and `moving` are needed, see roles.REGISTER_ROLES.
        limits: What is refused as too large.
        warnings: What is odd but not wrong is added here.

    Raises:
        InvalidRequestError: If a needed role is missing or a role is unknown.
        InvalidFileError: If a file cannot be read; `field` names its role.
        NoContrastError: If an image is constant.
        GridMismatchError: If labels or a mask lie elsewhere than their image.
    """
    _require_roles(files)
    with ThreadPoolExecutor(2) as pool:
        loading = {role: pool.submit(_read, role, path, limits) for role, path in files.items()}
        loaded = {role: task.result() for role, task in loading.items()}
    parts = {}
    for role, (part, found) in loaded.items():
        warnings.extend(f"{role}: {warning}" for warning in found)
        parts["initial" if role == TRANSFORM_ROLE else role] = part
    pair = Pair(**parts)  # type: ignore[arg-type]
    _require_contrast(pair)
    for role in LABEL_ROLES:
        if (labels := getattr(pair, role)) is not None:
            image = pair.fixed if role.startswith("fixed") else pair.moving
            require_same_grid(labels, image, role)
    return pair


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


def _read(role: str, path: Path, limits: Limits) -> tuple[Volume | WorldPoints | Affine, list[str]]:
    warnings: list[str] = []
    if role in IMAGE_ROLES:
        image = read_volume(path, limits, role, warnings)
        # In the order that kernels walk, once and for all: in files i runs fastest.
        return image.with_data(np.ascontiguousarray(image.data)), warnings
    if role in LABEL_ROLES:
        return read_label_map(path, limits, role, warnings), warnings
    if role in POINT_ROLES:
        return read_points(path, role), warnings
    return read_affine(path, role), warnings


def _require_contrast(pair: Pair) -> None:
    for role in IMAGE_ROLES:
        data = getattr(pair, role).data
        if data.min() == data.max():
            raise NoContrastError(
                f"Every voxel of the {role} image has the same value: there is nothing to align. "
                "Check that the right file was sent.",
                field=role,
            )
