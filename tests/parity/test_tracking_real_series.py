"""Real 4-D series, frame by frame: the answers of files, and warm starts that keep up with them."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from service.registration.engine import Engine
from service.registration.files.field_file import read_field
from service.registration.files.limits import Limits
from service.registration.files.volume_file import read_volume, write_volume
from service.registration.grid import Grid
from service.registration.models_folder import ModelFolder
from service.registration.options import RegisterOptions
from service.registration.pipeline import register_files
from service.registration.points import WorldPoints
from service.registration.tracked import Reference, Role, Tracked, Wanted
from service.registration.tracking import Tracker
from service.registration.volume import Volume

pytestmark = pytest.mark.real_data

OPTIONS = RegisterOptions()
MODELS = ModelFolder(provider="cpu")
LPS = np.array([-1.0, -1.0, 1.0])
# A quarter of the liver's voxels, so that each registration takes a second.
CROP = (slice(20, 140), slice(30, 150), slice(0, 25))


@pytest.fixture(scope="module")
def engine() -> Engine:
    return MODELS.load("discrete")


@pytest.fixture
def heart(shared_data: Path) -> list[Volume]:
    """Seven frames of one beat."""
    image = nib.load(shared_data / "heart_tee_4d" / "greedy_img4d.nii.gz")
    values = np.asarray(image.dataobj, dtype=np.float32)
    grid = Grid(values.shape[:3], image.affine)
    return [Volume(np.ascontiguousarray(values[..., t]), grid) for t in range(values.shape[3])]


@pytest.fixture
def liver(shared_data: Path) -> tuple[Volume, list[Volume], list[np.ndarray]]:
    """End-exhale, two states of inhaling, and landmark pairs of each in RAS+ mm."""
    folder = shared_data / "liver_4dmri_eth" / "dataset19"

    def cropped(name: str) -> Volume:
        whole = read_volume(folder / f"{name}.force_direction.mha", Limits(), "fixed")
        affine = whole.grid.affine.copy()
        affine[:3, 3] = whole.grid.to_world([part.start for part in CROP])
        data = np.ascontiguousarray(whole.data[CROP])
        return Volume(data, Grid(data.shape, affine))

    fixed, cycles = cropped("exhMaster_unmasked"), ("cyc_1_6", "cyc_1_9")
    pairs = []
    for cycle in cycles:
        path = folder / f"pairs_exhMaster_{cycle}_liver.csv"
        rows = np.loadtxt(path, delimiter=",", skiprows=1)[:, :6] * np.tile(LPS, 2)
        voxels = fixed.grid.to_voxel(rows[:, :3])
        pairs.append(rows[((voxels > 4) & (voxels < np.array(fixed.grid.shape) - 5)).all(axis=1)])
    return fixed, [cropped(cycle) for cycle in cycles], pairs


def by_files(fixed: Volume, moving: Volume, folder: Path) -> tuple[dict[str, Volume], np.ndarray]:
    """The images as files hold them, and the field that the command line's pipeline writes."""
    folder.mkdir()
    files = {"fixed": folder / "fixed.nii.gz", "moving": folder / "moving.nii.gz"}
    write_volume(files["fixed"], fixed)
    write_volume(files["moving"], moving)
    register_files(files, OPTIONS, folder / "out", MODELS)
    images = {role: read_volume(path, Limits(), role) for role, path in files.items()}
    return images, read_field(folder / "out" / "ddf.nii.gz", Limits()).vectors_mm


def agree(tracker: Tracker, frame: Volume, expected: np.ndarray) -> None:
    answer = tracker.step(frame)
    assert answer.field is not None
    apart = np.linalg.norm(answer.field.vectors_mm - expected, axis=-1)
    assert apart.max() < 0.01 * float(answer.field.grid.spacing_mm.min())


@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_the_heart_frame_by_frame_is_what_files_give(
    heart: list[Volume], engine: Engine, role: Role, tmp_path: Path
) -> None:
    tracker = None
    for number in (1, 2, 6):
        pair = (heart[4], heart[number]) if role == "fixed" else (heart[number], heart[4])
        images, expected = by_files(*pair, tmp_path / str(number))
        other = images["moving" if role == "fixed" else "fixed"]
        if tracker is None:
            tracker = Tracker(
                Reference(images[role]),
                other.grid,
                engine,
                OPTIONS,
                role=role,
                wanted=Wanted(),
                warm_start=False,
            )
        agree(tracker, other, expected)


def test_a_liver_is_followed_warm_with_fewer_steps_and_no_larger_errors(
    liver: tuple[Volume, list[Volume], list[np.ndarray]], engine: Engine, tmp_path: Path
) -> None:
    fixed, frames, pairs = liver
    warm = _follows(fixed, frames[0].grid, pairs[1], engine, warm=True)
    images, expected = by_files(fixed, frames[1], tmp_path / "files")
    cold = _follows(images["fixed"], frames[1].grid, pairs[1], engine, warm=False)
    anew = cold.step(images["moving"])
    assert anew.field is not None
    apart = np.linalg.norm(anew.field.vectors_mm - expected, axis=-1)
    assert apart.max() < 0.01 * float(fixed.grid.spacing_mm.min())
    for number in (0, 1, 0, 1):
        followed = warm.step(frames[number])
    assert followed.is_warm
    assert followed.steps < 0.3 * anew.steps
    start = np.linalg.norm(pairs[1][:, :3] - pairs[1][:, 3:], axis=1).mean()
    errors = {name: _tre(answer, pairs[1]) for name, answer in (("c", anew), ("w", followed))}
    assert start > 4
    assert errors["w"] < errors["c"] + 0.15, errors


def _follows(
    fixed: Volume, frames: Grid, rows: np.ndarray, engine: Engine, *, warm: bool
) -> Tracker:
    reference = Reference(fixed, points=WorldPoints(rows[:, :3]))
    return Tracker(
        reference,
        frames,
        engine,
        OPTIONS,
        role="fixed",
        wanted=Wanted(points=True),
        warm_start=warm,
    )


def _tre(answer: Tracked, rows: np.ndarray) -> float:
    assert answer.points is not None
    return float(np.linalg.norm(answer.points.positions_mm - rows[:, 3:], axis=1).mean())
