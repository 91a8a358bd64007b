"""A small data set on awkward grids, written as files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.registration.files.points_file import write_points
from service.registration.files.volume_file import write_volume
from service.registration.grid import Grid
from service.registration.points import WorldPoints
from service.registration.volume import Volume

pytest.importorskip("torch")

MakeGrid = Callable[..., Grid]


@pytest.fixture
def write_case(make_grid: MakeGrid) -> Callable[..., Volume]:
    """Writes a blob with its label map (1 inside, 2 in its core), mask and centre."""

    def write(
        image: Path,
        labels: Path | None = None,
        points: Path | None = None,
        mask: Path | None = None,
        *,
        seed: int = 0,
        orientation: str = "LPS",
        shape: tuple[int, int, int] = (16, 12, 10),
        spacing_mm: tuple[float, float, float] = (1.5, 2.0, 2.5),
    ) -> Volume:
        draw = np.random.default_rng(seed)
        grid = make_grid(orientation, shape, spacing_mm)
        centre = (np.array(shape) - 1) / 2 + draw.uniform(-1, 1, 3)
        index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
        far = np.linalg.norm((index - centre) * np.array(spacing_mm), axis=-1)
        data = (100 * np.exp(-((far / 6) ** 2)) + draw.random(shape)).astype(np.float32)
        for path in (image, labels, points, mask):
            if path is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(image, Volume(data, grid))
        inside = (far < 7).astype(np.uint8) + (far < 4)
        if labels is not None:
            write_volume(labels, Volume(inside, grid))
        if mask is not None:
            write_volume(mask, Volume((far < 9).astype(np.uint8), grid))
        if points is not None:
            corners = centre + np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0]])
            write_points(points, WorldPoints(grid.to_world(corners), ("c", "i", "j")))
        return Volume(data, grid)

    return write


@pytest.fixture
def paired_folder(tmp_path: Path, write_case: Callable[..., Volume]) -> Path:
    """A root with `train/` of three pairs, the images of different sizes and axes."""
    root = tmp_path / "root"
    for number, name in enumerate(("a", "b", "c")):
        for role, orientation in (("fixed", "oblique"), ("moving", "LPS")):
            write_case(
                root / f"train/{role}_images/{name}.nii.gz",
                root / f"train/{role}_labels/{name}.nii.gz",
                root / f"train/{role}_points/{name}.csv",
                root / f"train/{role}_masks/{name}.nii.gz",
                seed=number + 10 * (role == "moving"),
                orientation=orientation,
                shape=(16 + number, 12, 10),
            )
    return root


@pytest.fixture
def unpaired_folder(tmp_path: Path, write_case: Callable[..., Volume]) -> Path:
    """A root with `images/` and `labels/` of seven cases."""
    root = tmp_path / "root"
    for number in range(7):
        write_case(
            root / f"images/case{number}.nii.gz",
            root / f"labels/case{number}.nii.gz",
            seed=number,
        )
    return root
