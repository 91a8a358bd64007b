"""Every kind of model is served: affines, labels, slices; geometry by points, on oblique grids."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from service.errors import InvalidPairError
from service.registration.card import ModelGrid
from service.registration.engine import Engine
from service.registration.fields import Affine
from service.registration.files.affine_text import read_affine, write_affine
from service.registration.files.field_file import read_field
from service.registration.files.limits import Limits
from service.registration.files.volume_file import read_label_map, write_volume
from service.registration.grid import Grid
from service.registration.models_folder import ModelFolder
from service.registration.options import RegisterOptions
from service.registration.pipeline import register_files
from service.registration.volume import Volume
from tests.phantoms import Scene

pytest.importorskip("onnx")

from tests import graphs

MakeGrid = Callable[..., Grid]
MATRIX = np.array([[0.98, -0.12, 0.03, 1.5], [0.10, 1.04, -0.05, -0.8], [-0.02, 0.06, 0.95, 0.4]])
ALONE = RegisterOptions(model="known", refine="none", initialise="none")


def _places(grid: Grid) -> np.ndarray:
    return np.asarray(grid.to_world(np.stack(np.indices(grid.shape), axis=-1)))


def _by_hand(matrix: np.ndarray, padded: tuple[int, ...], index: np.ndarray) -> np.ndarray:
    """y = M (x - c) + t + c, one voxel after the other."""
    d = len(matrix)
    centre = (np.array(padded) - 1) / 2
    return np.stack([matrix[:, :d] @ (x - centre) + matrix[:, d] + centre for x in index])


def test_an_affine_in_voxels_about_the_padded_centre_becomes_one_of_the_world(
    make_grid: MakeGrid, orientation: str, tmp_path: Path
) -> None:
    graph = graphs.affine_graph(tmp_path / "model.onnx", MATRIX)
    fixed = make_grid(orientation, (23, 18, 13), (1.1, 1.6, 3.0))
    engine = Engine(graphs.card_of(graph, "affine"), graph, threads=1)
    volume = Volume(np.ones(fixed.shape, np.float32), fixed)
    found = engine.predict_affine(volume, volume, Affine.identity())
    grid = engine.grid(fixed)
    assert any(n % 4 for n in grid.shape), "no padding is tested"
    padded = tuple(n + -n % 4 for n in grid.shape)
    index = np.random.default_rng(1).uniform(0, np.array(grid.shape), (20, 3))
    expected = _by_hand(MATRIX, padded, index)
    np.testing.assert_allclose(grid.to_voxel(found.move(grid.to_world(index))), expected, atol=1e-5)


def test_an_affine_that_mirrors_or_is_not_finite_is_the_identity(tmp_path: Path) -> None:
    volume = Volume(np.ones((8, 8, 8), np.float32), Grid((8, 8, 8), np.eye(4)))
    for number, wrong in enumerate((np.nan, -1.0, 0.0)):
        matrix = np.eye(3, 4)
        matrix[0, 0] = wrong
        graph = graphs.affine_graph(tmp_path / f"{number}.onnx", matrix)
        engine = Engine(graphs.card_of(graph, "affine"), graph, threads=1)
        found = engine.predict_affine(volume, volume, Affine.identity())
        np.testing.assert_array_equal(found.matrix, np.eye(4))


def test_a_registration_by_an_affine_network_delivers_its_affine_after_the_initial_one(
    make_grid: MakeGrid, tmp_path: Path
) -> None:
    fixed_grid = make_grid("oblique", (30, 26, 17), (2.0, 2.2, 3.1))
    graph = graphs.affine_graph(tmp_path / "model.onnx", MATRIX)
    card = graphs.card_of(graph, "affine")
    graphs.put_model(tmp_path / "models", graph, card)
    models = ModelFolder(tmp_path / "models", provider="cpu", threads=1)
    seen = models.load("known").grid(fixed_grid)
    in_world = seen.affine @ _about_centre(seen) @ seen.inverse_affine
    shift = np.eye(4)
    shift[:3, 3] = (6.0, -3.0, 2.0)
    truth = Affine(shift @ in_world)
    files = _photographs(fixed_grid, truth, tmp_path)
    write_affine(tmp_path / "initial.txt", Affine(shift))
    files["initial_transform"] = tmp_path / "initial.txt"
    report = register_files(files, ALONE, tmp_path / "out", models)
    assert report.answered_by == "network"
    assert report.metrics.ncc_after is not None
    assert report.metrics.ncc_after > 0.98
    points = _places(fixed_grid)[4:-4, 4:-4, 4:-4].reshape(-1, 3)
    expected = truth.move(points)
    told = read_affine(tmp_path / "out" / "affine.txt")
    np.testing.assert_allclose(told.move(points), expected, atol=0.02)
    ddf = read_field(tmp_path / "out" / "ddf.nii.gz", Limits())
    np.testing.assert_allclose(ddf.move(points), expected, atol=0.02)  # mm: 0.01 voxel


def _about_centre(grid: Grid) -> np.ndarray:
    """MATRIX about the centre of the grid padded to a multiple of 4, as one of voxel indices."""
    centre = (np.array([n + -n % 4 for n in grid.shape]) - 1) / 2
    whole = np.eye(4)
    whole[:3] = MATRIX
    whole[:3, 3] += centre - MATRIX[:, :3] @ centre
    return whole


def _scene(fixed_grid: Grid) -> Scene:
    return Scene(np.random.default_rng(7), fixed_grid.centre_mm, float(fixed_grid.extent_mm.min()))


def _photographs(fixed_grid: Grid, truth: Affine, folder: Path) -> dict[str, Path]:
    """A scene on the fixed grid, and on another one where moving(truth(x)) = fixed(x)."""
    there = _straight(truth.move(fixed_grid.centre_mm))
    images = {
        "fixed": Volume(_scene(fixed_grid).image(_places(fixed_grid)), fixed_grid),
        "moving": Volume(_scene(fixed_grid).image(truth.inverse().move(_places(there))), there),
    }
    for role, volume in images.items():
        write_volume(folder / f"{role}.nii", volume.as_float32())
    return {role: folder / f"{role}.nii" for role in images}


def _straight(centre_mm: np.ndarray, spacing_mm: float = 2.2) -> Grid:
    """Cubes along the world's axes about a place."""
    shape = (40, 44, 38)
    affine = np.diag([spacing_mm] * 3 + [1.0])
    affine[:3, 3] = centre_mm - spacing_mm * (np.array(shape) - 1) / 2
    return Grid(shape, affine)


def test_a_segmentation_lies_where_the_network_saw_it(
    make_grid: MakeGrid, orientation: str, tmp_path: Path
) -> None:
    """probability = the fixed image, a ramp through the world: half of it is a plane."""
    graph = graphs.label_graph(tmp_path / "model.onnx", (1.0, 0.0, 0.0))
    grid = make_grid(orientation, (28, 24, 14), (1.2, 1.7, 3.3))
    away = (_places(grid) - grid.centre_mm) @ np.array([0.5, -0.7, 0.3])
    fixed = Volume((0.5 + 0.01 * away).astype(np.float32), grid)
    labels = Volume(np.full((9, 9, 9), 3, np.uint8), Grid((9, 9, 9), np.diag([9.0, 9, 9, 1])))
    engine = Engine(graphs.card_of(graph, "warped_label"), graph, threads=1)
    found = engine.segment(fixed, fixed, labels, Affine.identity())
    assert found.grid is grid
    inner = np.zeros(grid.shape, bool)
    inner[3:-3, 3:-3, 2:-2] = True
    clear = inner & (np.abs(away) > 0.02)  # mm from the plane: 0.01 voxel
    np.testing.assert_array_equal(found.data[clear], np.where(away > 0, 3, 0)[clear])


def test_a_voxel_of_which_half_is_the_label_has_it(tmp_path: Path) -> None:
    """probability = the fixed image: a half, and the largest number below it."""
    graph = graphs.label_graph(tmp_path / "model.onnx", (1.0, 0.0, 0.0))
    grid = Grid((8, 8, 8), np.eye(4))
    values = np.full(grid.shape, np.nextafter(np.float32(0.5), np.float32(0)))
    values[4:] = 0.5
    labels = Volume(np.full(grid.shape, 3, np.uint8), grid)
    card = graphs.card_of(graph, "warped_label", grid=ModelGrid(spacing_mm=1.0))
    engine = Engine(card, graph, threads=1)
    found = engine.segment(Volume(values, grid), Volume(values, grid), labels, Affine.identity())
    np.testing.assert_array_equal(found.data, np.where(values >= 0.5, 3, 0))


def test_each_moving_label_is_shown_to_the_network_where_the_initial_affine_puts_it(
    make_grid: MakeGrid, tmp_path: Path
) -> None:
    """probability = the moving label: balls come back where the affine takes them."""
    graph = graphs.label_graph(tmp_path / "model.onnx", (0.0, 0.0, 1.0))
    fixed_grid = make_grid("oblique", (40, 38, 30), (1.0, 1.1, 1.4))
    turn = np.array([[0.8, -0.6, 0.0, 4.0], [0.6, 0.8, 0.0, -9.0], [0, 0, 1, 5], [0, 0, 0, 1]])
    initial = Affine(turn)
    moving_grid = _straight(initial.move(fixed_grid.centre_mm), 1.0)
    middles = fixed_grid.centre_mm + np.array([[-7.0, 3, 2], [6, -4, -3]])
    balls = np.zeros(moving_grid.shape, np.uint8)
    for label, middle in zip((2, 9), middles, strict=True):
        away = np.linalg.norm(_places(moving_grid) - initial.move(middle), axis=-1)
        balls[away < 6] = label
    fixed = Volume(np.zeros(fixed_grid.shape, np.float32), fixed_grid)
    card = graphs.card_of(graph, "warped_label", grid=ModelGrid(spacing_mm=1.0, multiple=4))
    found = Engine(card, graph, threads=1).segment(
        fixed, Volume(balls.astype("f4"), moving_grid), Volume(balls, moving_grid), initial
    )
    assert sorted(np.unique(found.data)) == [0, 2, 9]
    for label, middle in zip((2, 9), middles, strict=True):
        mine = fixed_grid.to_world(np.argwhere(found.data == label))
        np.testing.assert_allclose(mine.mean(axis=0), middle, atol=0.1)
        volume = len(mine) * fixed_grid.voxel_volume_mm3
        assert volume == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.03)


@pytest.fixture
def conditional(tmp_path: Path) -> ModelFolder:
    graph = graphs.label_graph(tmp_path / "model.onnx", (0.0, 0.0, 1.0))
    graphs.put_model(tmp_path / "models", graph, graphs.card_of(graph, "warped_label"))
    return ModelFolder(tmp_path / "models", provider="cpu", threads=1)


def test_a_segmenting_model_delivers_its_labels_and_says_what_the_transform_is(
    make_grid: MakeGrid, conditional: ModelFolder, tmp_path: Path
) -> None:
    grid = make_grid("LPS", (30, 26, 17), (2.0, 2.2, 3.1))
    files = _photographs(grid, Affine.identity(), tmp_path)
    scene, there = _scene(grid), _straight(grid.centre_mm)
    files["moving_labels"] = tmp_path / "labels.nii"
    write_volume(files["moving_labels"], Volume(scene.labels(_places(there)), there))
    options = ALONE.model_copy(update={"refine": "fast"})
    report = register_files(files, options, tmp_path / "out", conditional)
    assert report.answered_by == "initialise"
    assert any("gives no transform" in warning for warning in report.warnings)
    assert [stage.name for stage in report.stages].count("refine") == 0
    assert report.metrics.max_displacement_mm == pytest.approx(0, abs=1e-4)
    got = read_label_map(tmp_path / "out" / "warped_labels.nii.gz", Limits())
    expected = scene.labels(_places(grid))
    assert (got.data == expected)[2:-2, 2:-2, 2:-2].mean() > 0.93


def test_a_segmenting_model_without_moving_labels_is_refused(
    make_grid: MakeGrid, conditional: ModelFolder, tmp_path: Path
) -> None:
    files = _photographs(make_grid("RAS"), Affine.identity(), tmp_path)
    with pytest.raises(InvalidPairError, match="Send `moving_labels`") as caught:
        register_files(files, ALONE, tmp_path / "out", conditional)
    assert caught.value.problem()["status"] == 422
    assert caught.value.problem()["field"] == "moving_labels"


def test_a_network_of_slices_gives_vectors_in_the_plane_of_the_slice(
    make_grid: MakeGrid, orientation: str, tmp_path: Path
) -> None:
    graph = graphs.displacement_graph(tmp_path / "model.onnx", (1.0, -2.0))
    grid = make_grid(orientation, (24, 20, 1), (2.0, 2.0, 5.0))
    fixed = Volume(_places(grid)[..., 0].astype(np.float32), grid)
    engine = Engine(graphs.card_of(graph, "displacement", 2), graph, threads=1)
    field = engine.predict(fixed, fixed, Affine.identity())
    assert field.grid.shape == (12, 10, 1)
    np.testing.assert_allclose(field.grid.spacing_mm, (4, 4, 5))
    in_voxels = _places(field.grid)[..., :1] * np.array([1.0, -2.0])
    expected = in_voxels @ (grid.directions[:, :2] * 2.0).T
    np.testing.assert_allclose(field.vectors_mm, expected, atol=2e-3)


def test_a_velocity_of_slices_is_integrated_in_the_plane(
    make_grid: MakeGrid, tmp_path: Path
) -> None:
    graph = graphs.displacement_graph(tmp_path / "model.onnx", (1.0, 0.5))
    grid = make_grid("oblique", (24, 20, 1), (2.0, 2.0, 5.0))
    fixed = Volume(np.ones(grid.shape, np.float32), grid)
    engine = Engine(graphs.card_of(graph, "velocity", 2), graph, threads=1)
    middle = engine.predict(fixed, fixed, Affine.identity()).vectors_mm[4:7, 4:6, 0]
    expected = 2 * grid.directions[:, :2] @ np.array([1.0, 0.5])
    np.testing.assert_allclose(middle, np.broadcast_to(expected, middle.shape), atol=1e-4)


def test_an_affine_of_slices_leaves_the_third_axis_alone(
    make_grid: MakeGrid, tmp_path: Path
) -> None:
    matrix = np.array([[0.9, -0.2, 1.0], [0.1, 1.1, -2.0]])
    graph = graphs.affine_graph(tmp_path / "model.onnx", matrix)
    grid = make_grid("oblique-left-handed", (30, 22, 1), (1.5, 1.5, 4.0))
    engine = Engine(graphs.card_of(graph, "affine", 2), graph, threads=1)
    volume = Volume(np.ones(grid.shape, np.float32), grid)
    found, seen = engine.predict_affine(volume, volume, Affine.identity()), engine.grid(grid)
    index = np.array([[0.0, 0.0, 0.0], [5, 3, 0], [20, 14, 0.4]])
    padded = tuple(n + -n % 4 for n in seen.shape[:2])
    expected = np.column_stack([_by_hand(matrix, padded, index[:, :2]), index[:, 2]])
    np.testing.assert_allclose(seen.to_voxel(found.move(seen.to_world(index))), expected, atol=1e-5)


def test_a_model_of_slices_refuses_a_volume(make_grid: MakeGrid, tmp_path: Path) -> None:
    graph = graphs.displacement_graph(tmp_path / "model.onnx", (1.0, -2.0))
    engine = Engine(graphs.card_of(graph, "displacement", 2), graph, threads=1)
    grid = make_grid("RAS", (8, 8, 3), (2.0, 2.0, 2.0))
    volume = Volume(np.ones(grid.shape, np.float32), grid)
    with pytest.raises(InvalidPairError, match="single slices"):
        engine.predict(volume, volume, Affine.identity())
