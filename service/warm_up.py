"""Compile every kernel before it is needed, by registering a tiny pair. A second run is quick."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from service.registration.files.volume_file import write_volume
from service.registration.grid import Grid
from service.registration.models_folder import ModelFolder
from service.registration.options import RegisterOptions
from service.registration.pipeline import register_files
from service.registration.volume import Volume

SHAPE = (40, 36, 32)
SPACING_MM = 4.0


def compile_kernels(
    models: ModelFolder | None = None, watch: Callable[[str, float], None] = lambda *_: None
) -> None:
    """Register a tiny pair with labels, so that numba keeps the compiled kernels on disk."""
    with tempfile.TemporaryDirectory(prefix="warpline-") as name:
        folder = Path(name)
        files = {}
        for role, shift_mm in (("fixed", 0.0), ("moving", 6.0)):
            image = _blobs(shift_mm)
            labels = image.with_data((image.data > 60).astype(np.uint8))
            for part, volume in ((role, image), (f"{role}_labels", labels)):
                files[part] = folder / f"{part}.nii.gz"
                write_volume(files[part], volume)
        register_files(
            files,
            RegisterOptions(interpolation="cubic"),
            folder / "out",
            models or ModelFolder(),
            watch=watch,
        )


def _blobs(shift_mm: float) -> Volume:
    """A few Gaussian blobs in a shell, moved along x."""
    affine = np.diag([SPACING_MM, SPACING_MM, SPACING_MM, 1.0])
    affine[0, 3] = shift_mm
    grid = Grid(SHAPE, affine)
    at = grid.to_world(np.moveaxis(np.indices(SHAPE), 0, -1)) / 10
    centre = Grid(SHAPE, np.diag([SPACING_MM] * 3 + [1.0])).centre_mm / 10
    shell = np.linalg.norm(at - centre, axis=-1) < 5.5
    data = 40.0 * shell
    for offset in ((2.0, 1.0, 0.0), (-2.0, 1.5, 1.0), (0.0, -2.5, -1.0), (1.0, 0.0, 2.5)):
        data = data + 60 * np.exp(-((at - centre - offset) ** 2).sum(axis=-1))
    return Volume(data.astype(np.float32), grid)
