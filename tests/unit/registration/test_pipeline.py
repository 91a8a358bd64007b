"""Files in, a registered pair out: what is delivered, what is refused, what is told."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from service.errors import (
    GridMismatchError,
    InvalidRequestError,
    JobCancelledError,
    NoContrastError,
    NoOverlapError,
)
from service.registration.engine import Seen
from service.registration.fields import Affine, DisplacementField
from service.registration.files.affine_text import write_affine
from service.registration.files.field_file import read_field
from service.registration.files.limits import Limits
from service.registration.files.points_file import read_points, write_points
from service.registration.files.volume_file import read_label_map, read_volume, write_volume
from service.registration.grid import Grid
from service.registration.kernels.launch import set_threads
from service.registration.models_folder import ModelFolder
from service.registration.options import RegisterOptions, WarpOptions
from service.registration.pipeline import register_files
from service.registration.points import WorldPoints
from service.registration.report import Report
from service.registration.volume import Volume
from service.registration.warping import warp_files
from tests.phantoms import PhantomPair, phantom_pair

LIMITS = Limits()
QUICK = RegisterOptions(refine="fast", initialise="none")


@pytest.fixture(scope="module")
def models() -> ModelFolder:
    """The shipped models; the network is always asked, so that it is under test."""
    folder = ModelFolder(provider="cpu")
    engine = folder.load("discrete")  # which is kept
    engine.card = engine.card.model_copy(update={"spared_from": None})
    return folder


@pytest.fixture(scope="module")
def phantom() -> PhantomPair:
    fixed = Grid((44, 40, 36), np.diag([-2.0, 2.0, 2.5, 1.0]))
    moving = Grid((40, 48, 38), np.diag([2.1, 1.9, 2.4, 1.0])).affine.copy()
    moving[:3, 3] = fixed.centre_mm - moving[:3, :3] @ ((np.array((40, 48, 38)) - 1) / 2)
    return phantom_pair(fixed, Grid((40, 48, 38), moving), most_mm=6.0)


@pytest.fixture(scope="module")
def sent(phantom: PhantomPair, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every file that a caller can send, by role."""
    folder = tmp_path_factory.mktemp("sent")
    files = {}
    for role in ("fixed", "moving", "fixed_labels", "moving_labels"):
        files[role] = folder / f"{role}.nii.gz"
        write_volume(files[role], getattr(phantom, role))
    points = _inner_points(phantom)
    for role, moved in (("fixed_points", points), ("moving_points", points.moved(phantom.truth))):
        files[role] = folder / f"{role}.csv"
        write_points(files[role], moved)
    return files


def _inner_points(phantom: PhantomPair) -> WorldPoints:
    rng = np.random.default_rng(3)
    inside = rng.uniform(0.3, 0.7, (80, 3)) * np.array(phantom.fixed.grid.shape)
    return WorldPoints(phantom.fixed.grid.to_world(inside))


@pytest.fixture(scope="module")
def result(
    sent: dict[str, Path], models: ModelFolder, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Report, Path]:
    folder = tmp_path_factory.mktemp("result")
    return register_files(sent, QUICK, folder, models), folder


def test_every_promised_file_is_there_with_the_size_and_checksum_that_the_report_tells(
    result: tuple[Report, Path],
) -> None:
    report, folder = result
    assert set(report.files) == {
        "warped.nii.gz",
        "warped_labels.nii.gz",
        "ddf.nii.gz",
        "inverse_ddf.nii.gz",
        "affine.txt",
        "points.csv",
        "points_in_fixed.csv",
        "overlay.png",
    }
    for name, told in report.files.items():
        data = (folder / name).read_bytes()
        assert (len(data), hashlib.sha256(data).hexdigest()) == (told.bytes, told.sha256), name
    left = {path.name for path in folder.iterdir()}
    assert left == set(report.files) | {"report.json", "report.html"}


def test_the_report_on_disk_is_the_report_that_is_returned(result: tuple[Report, Path]) -> None:
    report, folder = result
    assert Report.model_validate_json((folder / "report.json").read_text("utf-8")) == report
    assert "NaN" not in (folder / "report.json").read_text("utf-8")
    assert report.provenance.settings["deidentify"] is False
    assert report.provenance.settings["seed"] == 0


def test_the_known_truth_is_found(result: tuple[Report, Path], phantom: PhantomPair) -> None:
    report, folder = result
    metrics = report.metrics
    assert metrics.tre_mm_before is not None
    assert metrics.tre_mm_after is not None
    assert metrics.tre_mm_before > 2.5
    assert metrics.tre_mm_after < 1.2, metrics
    assert metrics.mean_dice_after is not None
    assert metrics.mean_dice_before is not None
    assert metrics.mean_dice_after > max(0.88, metrics.mean_dice_before)
    assert metrics.folding_fraction == 0
    assert report.verdict.status == "pass", report.verdict
    ddf = read_field(folder / "ddf.nii.gz", LIMITS)
    points = _inner_points(phantom)
    apart = ddf.move(points.positions_mm) - phantom.truth.move(points.positions_mm)
    assert np.linalg.norm(apart, axis=1).mean() < 1.2


def test_points_go_where_the_delivered_fields_say(
    result: tuple[Report, Path], sent: dict[str, Path]
) -> None:
    _, folder = result
    for given, moved, field in (
        ("fixed_points", "points.csv", "ddf.nii.gz"),
        ("moving_points", "points_in_fixed.csv", "inverse_ddf.nii.gz"),
    ):
        expected = read_field(folder / field, LIMITS).move(read_points(sent[given]).positions_mm)
        np.testing.assert_allclose(read_points(folder / moved).positions_mm, expected, atol=1e-3)


def test_the_same_pair_gives_the_same_bytes(
    result: tuple[Report, Path], sent: dict[str, Path], models: ModelFolder, tmp_path: Path
) -> None:
    first, _ = result
    again = register_files(sent, QUICK, tmp_path, models)
    assert again.files == first.files
    assert again.metrics == first.metrics


def test_the_number_of_threads_changes_no_byte(
    sent: dict[str, Path], models: ModelFolder, tmp_path: Path
) -> None:
    """With a search, whose sums are the longest; fields are compared, and all figures."""
    chosen = RegisterOptions(refine="fast", interpolation="cubic")
    told = []
    try:
        for threads in (1, 2, None):
            set_threads(threads)
            report = register_files(sent, chosen, tmp_path, models)
            told.append((report.metrics, {name: one.sha256 for name, one in report.files.items()}))
    finally:
        set_threads(None)
    assert told[0] == told[1] == told[2]


def test_an_initial_transform_places_the_pair(
    phantom: PhantomPair, models: ModelFolder, tmp_path: Path
) -> None:
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]]
    turn[:3, 3] = (40.0, -25.0, 10.0)
    away = Volume(
        phantom.moving.data, Grid(phantom.moving.grid.shape, turn @ phantom.moving.grid.affine)
    )
    files = {name: tmp_path / f"{name}.nii" for name in ("fixed", "moving")}
    write_volume(files["fixed"], phantom.fixed)
    write_volume(files["moving"], away)
    files["initial_transform"] = tmp_path / "affine.txt"
    write_affine(files["initial_transform"], Affine(turn))
    report = register_files(files, QUICK, tmp_path / "out", models)
    ddf = read_field(tmp_path / "out" / "ddf.nii.gz", LIMITS)
    points = _inner_points(phantom).positions_mm
    expected = Affine(turn).move(phantom.truth.move(points))
    assert np.linalg.norm(ddf.move(points) - expected, axis=1).mean() < 1.2
    assert report.metrics.ncc_before == pytest.approx(
        np.corrcoef(phantom.fixed.data.ravel(), _before(phantom).ravel())[0, 1], abs=0.02
    )


def _before(phantom: PhantomPair) -> np.ndarray:
    """The moving image on the fixed grid by scipy, nearest voxel at the border."""
    from scipy import ndimage

    grid = phantom.fixed.grid
    centres = grid.to_world(np.stack(np.indices(grid.shape), axis=-1))
    index = np.moveaxis(phantom.moving.grid.to_voxel(centres), -1, 0)
    return np.asarray(ndimage.map_coordinates(phantom.moving.data, index, order=1, mode="nearest"))


def test_a_field_that_makes_things_worse_is_dropped_with_a_warning(
    sent: dict[str, Path], models: ModelFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Astray:
        """An engine whose network is outside its training."""

        card, provider, has_started = models.load("discrete").card, "cpu", True

        def grid(self, fixed: Grid) -> Grid:
            return fixed.resampled(8.0)

        def show_fixed(self, fixed: Volume) -> np.ndarray:
            return fixed.data

        def predict_seen(self, pair: Seen, *_: object) -> DisplacementField:
            return DisplacementField(np.full((*pair.grid.shape, 3), 15.0, np.float32), pair.grid)

    monkeypatch.setattr(models, "load", lambda _ref: Astray())
    files = {role: sent[role] for role in ("fixed", "moving")}
    options = RegisterOptions(refine="none", initialise="none")
    report = register_files(files, options, tmp_path, models)
    assert report.answered_by == "initialise"
    assert any("dropped" in warning for warning in report.warnings)
    assert report.metrics.max_displacement_mm == pytest.approx(0.0, abs=1e-4)
    Astray.card = Astray.card.model_copy(update={"accept": "always"})
    report = register_files(files, options, tmp_path, models)
    assert report.answered_by == "network"
    assert report.metrics.max_displacement_mm == pytest.approx(15 * 3**0.5, abs=1e-3)


def test_a_network_is_not_asked_about_a_pair_that_is_alike_unless_nothing_follows(
    sent: dict[str, Path], tmp_path: Path
) -> None:
    class Unasked:
        """The discrete model, for which any pair is alike enough."""

        def load(self, ref: str) -> object:
            engine = ModelFolder(provider="cpu", is_late=True).load(ref)
            engine.card = engine.card.model_copy(update={"spared_from": 0.01})
            self.engine = engine
            return engine

        def folder(self, ref: str) -> Path:
            return ModelFolder().folder(ref)

    files, models = {role: sent[role] for role in ("fixed", "moving")}, Unasked()
    for refine in ("fast", "none"):
        options = QUICK.model_copy(update={"refine": refine})
        report = register_files(files, options, tmp_path / refine, models)
        predict = next(stage for stage in report.stages if stage.name == "predict")
        is_asked = refine == "none"
        assert predict.detail.startswith("not needed") != is_asked
        assert models.engine.has_started == is_asked
        assert report.answered_by == ("network" if is_asked else "refine")


def test_a_watcher_that_raises_stops_the_work_and_leaves_no_report(
    sent: dict[str, Path], models: ModelFolder, tmp_path: Path
) -> None:
    def watch(stage: str, _fraction: float) -> None:
        if stage == "refine":
            raise JobCancelledError

    with pytest.raises(JobCancelledError):
        register_files(sent, QUICK, tmp_path, models, watch=watch)
    assert not (tmp_path / "report.json").exists()


def test_progress_only_goes_up_and_ends_near_one(
    sent: dict[str, Path], models: ModelFolder, tmp_path: Path
) -> None:
    seen: list[tuple[str, float]] = []
    register_files(sent, QUICK, tmp_path, models, watch=lambda *told: seen.append(told))
    fractions = [fraction for _, fraction in seen]
    assert fractions == sorted(fractions)
    assert 0.9 < fractions[-1] <= 1.0
    stages = list(dict.fromkeys(stage for stage, _ in seen))
    assert stages == ["read", "initialise", "predict", "refine", "warp", "measure", "draw", "write"]


def _refused(
    models: ModelFolder, files: dict[str, Path], folder: Path, options: RegisterOptions = QUICK
) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        register_files(files, options, folder, models)
    return caught.value


def test_a_missing_role_is_named(
    sent: dict[str, Path], models: ModelFolder, tmp_path: Path
) -> None:
    assert _refused(models, {"fixed": sent["fixed"]}, tmp_path).field == "moving"
    stranger = {**sent, "fixd_labels": sent["fixed_labels"]}
    assert "fixed_labels" in _refused(models, stranger, tmp_path).detail


def test_a_constant_image_is_refused(
    sent: dict[str, Path], phantom: PhantomPair, models: ModelFolder, tmp_path: Path
) -> None:
    flat = tmp_path / "flat.nii"
    write_volume(flat, phantom.moving.with_data(np.full(phantom.moving.data.shape, 7, np.int16)))
    error = _refused(models, {"fixed": sent["fixed"], "moving": flat}, tmp_path)
    assert isinstance(error, NoContrastError)
    assert error.field == "moving"


def test_volumes_that_do_not_meet_are_refused_unless_they_are_aligned(
    sent: dict[str, Path], phantom: PhantomPair, models: ModelFolder, tmp_path: Path
) -> None:
    far_affine = phantom.moving.grid.affine.copy()
    far_affine[0, 3] += 500
    far = tmp_path / "far.nii"
    write_volume(far, Volume(phantom.moving.data, Grid(phantom.moving.grid.shape, far_affine)))
    files = {"fixed": sent["fixed"], "moving": far}
    assert isinstance(_refused(models, files, tmp_path), NoOverlapError)
    report = register_files(
        files, RegisterOptions(initialise="centre", refine="none"), tmp_path / "out", models
    )
    assert report.metrics.overlap_fraction is not None
    assert report.metrics.overlap_fraction > 0.8


def test_labels_on_another_grid_than_their_image_are_refused(
    sent: dict[str, Path], models: ModelFolder, tmp_path: Path
) -> None:
    error = _refused(models, {**sent, "fixed_labels": sent["moving_labels"]}, tmp_path)
    assert isinstance(error, GridMismatchError)
    assert error.field == "fixed_labels"


def test_a_stored_transform_carries_more_things_over(
    result: tuple[Report, Path], sent: dict[str, Path], tmp_path: Path
) -> None:
    _, folder = result
    files = {
        "moving": sent["moving"],
        "moving_labels": sent["moving_labels"],
        "fixed_points": sent["fixed_points"],
        "moving_points": sent["moving_points"],
        "ddf": folder / "ddf.nii.gz",
        "inverse_ddf": folder / "inverse_ddf.nii.gz",
    }
    report = warp_files(files, WarpOptions(), tmp_path)
    np.testing.assert_allclose(
        read_volume(tmp_path / "warped.nii.gz", LIMITS).data,
        read_volume(folder / "warped.nii.gz", LIMITS).data,
        atol=1e-2,
    )
    ours = read_label_map(tmp_path / "warped_labels.nii.gz", LIMITS).data
    theirs = read_label_map(folder / "warped_labels.nii.gz", LIMITS).data
    assert (ours == theirs).mean() > 0.9999
    for name in ("points.csv", "points_in_fixed.csv"):
        np.testing.assert_allclose(
            read_points(tmp_path / name).positions_mm,
            read_points(folder / name).positions_mm,
            atol=1e-3,
        )
    assert json.loads((tmp_path / "report.json").read_text("utf-8"))["files"].keys() == set(
        report.files
    )


@pytest.mark.parametrize(
    ("roles", "field"),
    [
        (("ddf",), None),
        (("moving",), "ddf"),
        (("moving_points", "ddf"), "inverse_ddf"),
        (("moving", "ddf", "fixed"), "inputs"),
    ],
)
def test_a_warp_without_what_it_needs_is_refused(
    roles: tuple[str, ...],
    field: str | None,
    sent: dict[str, Path],
    result: tuple[Report, Path],
    tmp_path: Path,
) -> None:
    there = sent | {"ddf": result[1] / "ddf.nii.gz"}
    with pytest.raises(InvalidRequestError) as caught:
        warp_files({role: there[role] for role in roles}, WarpOptions(), tmp_path)
    assert caught.value.field == field
