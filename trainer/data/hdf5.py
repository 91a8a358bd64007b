"""Cases from HDF5 files in DeepReg's layout: a file for each role, a data set for each image.

A data set is an array of axes i, j, k (labels also i, j, k, label); an attribute `affine`, 4x4,
says where its voxels lie (RAS+, mm), else the configuration's spacing does. Points are (n, 3), mm,
RAS+. Grouped images are called `group-X-Y`.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

from service.errors import BadDimensionsError, CorruptFileError, NonFiniteVoxelsError
from service.registration.files.limits import Limits
from service.registration.grid import Grid
from trainer.config.data import DataConfig
from trainer.data.cases import KINDS, Case, Index, Kind, Problems, Source
from trainer.data.folders import wanted_kinds
from trainer.data.inside import inside

Keys = dict[Kind, dict[str, Source]]
GROUPED_KEY = re.compile(r"group-(?P<group>[^-]+)-(?P<number>[^-]+)")


def read_hdf5(root: Path, name: str, config: DataConfig, problems: Problems) -> Index:
    """The cases of a folder of HDF5 files."""
    folder = inside(root, name, problems)
    if folder is None:
        return Index(())
    names = config.folders
    if config.pairing != "paired":
        files = (names.images, names.labels, names.points, names.masks)
        keys = _keys(root, folder, files, config, problems)
        return Index(tuple(_cases(keys, config, problems)))
    fixed_files = (names.fixed_images, names.fixed_labels, names.fixed_points, names.fixed_masks)
    moving_files = (
        names.moving_images,
        names.moving_labels,
        names.moving_points,
        names.moving_masks,
    )
    fixed = _keys(root, folder, fixed_files, config, problems)
    moving = _keys(root, folder, moving_files, config, problems)
    for lonely in sorted(set(fixed["image"]) ^ set(moving["image"])):
        role = "moving" if lonely in fixed["image"] else "fixed"
        problems.add(f"{name}:{lonely}", f"The {role} image of the same key is missing.")
    for keys in (fixed, moving):
        keys["image"] = {k: s for k, s in keys["image"].items() if k in fixed["image"]}
        keys["image"] = {k: s for k, s in keys["image"].items() if k in moving["image"]}
    cases: list[Case] = []
    for one, other in zip(
        _cases(fixed, config, problems), _cases(moving, config, problems), strict=True
    ):
        cases += [one, other]
    return Index(tuple(cases), tuple((n, n + 1) for n in range(0, len(cases), 2)))


def _keys(
    root: Path, folder: Path, files: tuple[str, ...], config: DataConfig, problems: Problems
) -> Keys:
    found: Keys = {}
    wanted = wanted_kinds(config)
    for kind, file in zip(KINDS, files, strict=True):
        found[kind] = {}
        path = folder / f"{file}.h5"
        if wanted[kind] == "none" or (not path.exists() and wanted[kind] == "optional"):
            continue
        name = path.relative_to(root).as_posix()
        if inside(root, name, problems) is None:
            continue
        try:
            with _opened(path) as content:
                keys = sorted(content.keys())
        except CorruptFileError as error:
            problems.add(name, error.detail)
            continue
        found[kind] = {key: Source(path, f"{name}:{key}", key) for key in keys}
    return found


def _cases(keys: Keys, config: DataConfig, problems: Problems) -> list[Case]:
    cases = []
    for key, image in keys["image"].items():
        sources = {kind: keys[kind][key] for kind in KINDS if key in keys[kind]}
        for kind, wanted in wanted_kinds(config).items():
            if wanted == "required" and kind not in sources:
                problems.add(image.name, f"Its {kind} are required and missing.")
        group = f"{image.path.parent}:{key}"
        if config.pairing == "grouped":
            match = GROUPED_KEY.fullmatch(key)
            if match is None:
                problems.add(image.name, "Keys of grouped images are called group-X-Y.")
            else:
                group = f"{image.path.parent}:{match['group']}"
        cases.append(
            Case(
                image.name,
                group,
                image,
                sources.get("labels"),
                sources.get("points"),
                sources.get("mask"),
            )
        )
    for kind in KINDS[1:]:
        for key in sorted(set(keys[kind]) - set(keys["image"])):
            problems.add(keys[kind][key].name, "The image of the same key is missing.")
    return cases


def _opened(path: Path) -> Any:
    import h5py  # only where data come so

    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise CorruptFileError("The file is not HDF5, or damaged.") from error


def hdf5_header(
    source: Source, spacing_mm: tuple[float, float, float], limits: Limits
) -> tuple[Grid, int]:
    """Where a data set's voxels lie, and how many labels it has along a fourth axis.

    Raises:
        InvalidFileError: If it is no array of numbers with three or four axes, or too large.
    """
    with _opened(source.path) as content:
        return _header(content.get(source.key), spacing_mm, limits)


def _header(array: Any, spacing_mm: tuple[float, float, float], limits: Limits) -> tuple[Grid, int]:
    shape = tuple(int(n) for n in getattr(array, "shape", ()))
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) not in (3, 4) or min(shape) < 1 or array.dtype.kind not in "iufb":
        raise BadDimensionsError("The data set is no array of numbers with three or four axes.")
    count = shape[3] if len(shape) == 4 else 1
    limits.require(shape[:3], array.dtype.itemsize * count)
    affine = array.attrs.get("affine")
    if affine is None:
        affine = np.diag([*spacing_mm, 1.0])
    return Grid((shape[0], shape[1], shape[2]), np.asarray(affine, dtype=np.float64)), count


def hdf5_values(
    source: Source, spacing_mm: tuple[float, float, float], limits: Limits
) -> tuple[np.ndarray, Grid]:
    """The values, (i, j, k, n), and their grid.

    Raises:
        InvalidFileError: As `hdf5_header`, or if a value is not finite.
    """
    with _opened(source.path) as content:
        array = content.get(source.key)
        grid, count = _header(array, spacing_mm, limits)
        values = np.asarray(array[()]).reshape(*grid.shape, count)
    if values.dtype.kind == "f":
        values = values.astype(np.float32)
        if not np.isfinite(values).all():
            raise NonFiniteVoxelsError("The data set holds values that are not finite.")
    return values.astype(np.uint8) if values.dtype == np.bool_ else values, grid


def hdf5_points(source: Source) -> np.ndarray:
    """(n, 3) positions, mm, RAS+."""
    with _opened(source.path) as content:
        array = content.get(source.key)
        if len(getattr(array, "shape", ())) != 2:
            raise BadDimensionsError("Points are an array of three columns.")
        return np.asarray(array[()], dtype=np.float64)
