"""Frames registered to one reference: as files are, only what is wanted, warm where it helps."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.errors import GridMismatchError, InvalidRequestError, NoContrastError
from service.registration.engine import Engine
from service.registration.files.field_file import read_field
from service.registration.files.limits import Limits
from service.registration.files.points_file import read_points, write_points
from service.registration.files.volume_file import read_label_map, read_volume, write_volume
from service.registration.grid import Grid
from service.registration.models_folder import ModelFolder
from service.registration.options import RegisterOptions
from service.registration.pipeline import register_files
from service.registration.points import WorldPoints
from service.registration.tracked import Reference, Role, Wanted, in_half_precision
from service.registration.tracking import Tracker
from service.registration.volume import Volume
from tests.phantoms import PhantomPair, phantom_pair

MakeGrid = Callable[..., Grid]
OPTIONS = RegisterOptions(refine="fast", initialise="affine")
ALL = Wanted(warped_image=True, warped_labels=True, points=True)
MODELS = ModelFolder(provider="cpu")


@pytest.fixture(scope="module")
def engine() -> Engine:
    return MODELS.load("discrete")


def pair_on(make_grid: MakeGrid, orientation: str) -> PhantomPair:
    fixed = make_grid(orientation, (30, 26, 22), (2.0, 2.3, 3.1))
    moving = make_grid("LPS", (28, 30, 24), (2.2, 2.0, 2.9)).affine.copy()
    moving[:3, 3] = fixed.centre_mm - moving[:3, :3] @ ((np.array((28, 30, 24)) - 1) / 2)
    return phantom_pair(fixed, Grid((28, 30, 24), moving), most_mm=5.0)


def inner_points(grid: Grid) -> WorldPoints:
    inside = np.random.default_rng(3).uniform(0.3, 0.7, (20, 3)) * np.array(grid.shape)
    return WorldPoints(grid.to_world(inside), tuple(f"p{n}" for n in range(20)))


def by_files(
    pair: PhantomPair, points: WorldPoints, role: Role, folder: Path
) -> tuple[Path, dict[str, Volume]]:
    """The same pair through the command line's pipeline, and its images as files hold them.

    A file's matrix is in single precision, and a descent that ends a step earlier ends elsewhere.
    """
    images = ("fixed", "moving", "moving_labels")
    files = {name: folder / f"{name}.nii.gz" for name in images}
    for name, path in files.items():
        write_volume(path, getattr(pair, name))
    files[f"{role}_points"] = folder / f"{role}_points.csv"
    write_points(files[f"{role}_points"], points)
    register_files(files, OPTIONS, folder / "out", MODELS)
    return folder / "out", {name: read_volume(files[name], Limits(), "fixed") for name in images}


@pytest.mark.parametrize("orientation", ["oblique", "oblique-left-handed", "LAS"])
@pytest.mark.parametrize("role", ["fixed", "moving"])
def test_a_cold_answer_is_what_files_give(
    make_grid: MakeGrid, engine: Engine, orientation: str, role: Role, tmp_path: Path
) -> None:
    pair = pair_on(make_grid, orientation)
    points = inner_points(pair.fixed.grid if role == "fixed" else pair.moving.grid)
    out, read = by_files(pair, points, role, tmp_path)
    if role == "fixed":
        reference, frame = Reference(read["fixed"], points=points), read["moving"]
        wanted = Wanted(warped_image=True, points=True)
    else:
        reference = Reference(read["moving"], labels=read["moving_labels"], points=points)
        frame, wanted = read["fixed"], ALL
    tracker = Tracker(
        reference, frame.grid, engine, OPTIONS, role=role, wanted=wanted, warm_start=False
    )
    tracker.step(frame.with_data(frame.data[::-1].copy()))  # leaves no trace
    answer = tracker.step(frame)
    assert answer.field is not None
    voxel_mm = float(pair.fixed.grid.spacing_mm.min())
    told = read_field(out / "ddf.nii.gz", Limits())
    assert answer.field.grid.is_same(told.grid)
    apart = np.linalg.norm(answer.field.vectors_mm - told.vectors_mm, axis=-1)
    assert apart.max() < 0.01 * voxel_mm
    assert answer.warped_image is not None
    warped = read_volume(out / "warped.nii.gz", Limits(), "warped").data
    np.testing.assert_allclose(answer.warped_image.data, warped, atol=0.01 * float(warped.max()))
    name = "points.csv" if role == "fixed" else "points_in_fixed.csv"
    moved = read_points(out / name, "points")
    assert answer.points is not None
    assert answer.points.ids == points.ids
    apart = np.linalg.norm(answer.points.positions_mm - moved.positions_mm, axis=1)
    # Ours are exact; the pipeline's go through a field interpolated between voxels of its grid.
    assert apart.max() < 0.05 * voxel_mm
    if role == "moving":
        labels = read_label_map(out / "warped_labels.nii.gz", Limits(), "labels").data
        assert answer.warped_labels is not None
        assert (answer.warped_labels.data != labels).mean() < 1e-3
    assert answer.verdict.status == "pass", answer.verdict.reasons
    assert answer.similarity_after > answer.similarity_before


@pytest.fixture
def pair(make_grid: MakeGrid) -> PhantomPair:
    return pair_on(make_grid, "oblique")


def navigator(pair: PhantomPair, engine: Engine, wanted: Wanted) -> Tracker:
    reference = Reference(
        pair.moving, labels=pair.moving_labels, points=inner_points(pair.moving.grid)
    )
    return Tracker(
        reference,
        pair.fixed.grid,
        engine,
        OPTIONS,
        role="moving",
        wanted=wanted,
        warm_start=False,
    )


def test_only_what_is_wanted_comes(pair: PhantomPair, engine: Engine) -> None:
    answer = navigator(pair, engine, Wanted(field="none")).step(pair.fixed)
    assert answer.field is answer.warped_image is answer.warped_labels is answer.points is None
    assert [name for name, _ in answer.stages][:3] == ["initialise", "predict", "refine"]


def test_the_half_field_is_every_second_vector_of_the_full_one(
    pair: PhantomPair, engine: Engine
) -> None:
    full = navigator(pair, engine, Wanted()).step(pair.fixed).field
    half = navigator(pair, engine, Wanted(field="half")).step(pair.fixed).field
    assert full is not None
    assert half is not None
    np.testing.assert_allclose(half.vectors_mm, full.vectors_mm[::2, ::2, ::2], atol=1e-4)
    index = np.array([3, 4, 5])
    np.testing.assert_allclose(half.grid.to_world(index), full.grid.to_world(2 * index))
    sent = in_half_precision(half)
    assert sent.dtype == np.float16
    np.testing.assert_allclose(sent.astype(np.float32), half.vectors_mm, atol=0.01)


def test_a_frame_of_another_shape_without_contrast_or_with_nan_is_refused(
    pair: PhantomPair, engine: Engine
) -> None:
    tracker = navigator(pair, engine, Wanted())
    with pytest.raises(InvalidRequestError, match="announced"):
        tracker.step(pair.moving)
    with pytest.raises(NoContrastError):
        tracker.step(pair.fixed.with_data(np.ones_like(pair.fixed.data)))
    broken = pair.fixed.data.copy()
    broken[3, 4, 5] = np.nan
    with pytest.raises(InvalidRequestError, match="finite"):
        tracker.step(pair.fixed.with_data(broken))


def test_what_does_not_fit_together_is_refused_at_once(pair: PhantomPair, engine: Engine) -> None:
    def made(reference: Reference, role: Role, wanted: Wanted) -> Tracker:
        return Tracker(
            reference,
            pair.fixed.grid,
            engine,
            OPTIONS,
            role=role,
            wanted=wanted,
            warm_start=False,
        )

    with pytest.raises(InvalidRequestError, match="points"):
        made(Reference(pair.moving), "moving", Wanted(points=True))
    with pytest.raises(InvalidRequestError, match="labels"):
        made(Reference(pair.moving), "moving", Wanted(warped_labels=True))
    with_labels = Reference(pair.moving, labels=pair.moving_labels)
    with pytest.raises(InvalidRequestError, match="labels"):
        made(with_labels, "fixed", Wanted(warped_labels=True))
    with pytest.raises(GridMismatchError):
        made(Reference(pair.moving, labels=pair.fixed_labels), "moving", Wanted())
    flat = Reference(Volume(np.zeros(pair.moving.grid.shape), pair.moving.grid))
    with pytest.raises(NoContrastError):
        made(flat, "moving", Wanted())


def test_calibration_is_measured_on_frames_of_the_announced_grid(
    pair: PhantomPair, engine: Engine
) -> None:
    found = navigator(pair, engine, Wanted()).calibrate(frames=2)
    assert 0 < found.p50_s <= found.p95_s
