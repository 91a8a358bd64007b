"""The engine's geometry, with a graph whose output is known by construction."""

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from service.errors import JobCancelledError, ModelInvalidError, ProviderUnavailableError
from service.registration.card import (
    MATRIX_AXES,
    Card,
    InputTensor,
    Intensity,
    ModelGrid,
    OutputTensor,
    Training,
)
from service.registration.engine import Engine, choose_provider
from service.registration.fields import Affine
from service.registration.grid import Grid
from service.registration.model_grid import model_grid, output_grid
from service.registration.providers import require_provider
from service.registration.volume import Volume

onnx = pytest.importorskip("onnx")
MakeGrid = Callable[..., Grid]


def _graph(path: Path, per_axis: tuple[float, float, float], names: str = "fixed moving") -> None:
    """displacement = mean-pooled fixed image (2**3) times a constant for each axis."""
    helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
    five = [1, 1, "i", "j", "k"]
    scale = onnx.numpy_helper.from_array(
        np.array(per_axis, np.float32).reshape(1, 3, 1, 1, 1), "scale"
    )
    zero = onnx.numpy_helper.from_array(np.zeros((1, 1, 1, 1, 1), np.float32), "zero")
    fixed, moving = names.split()
    nodes = [
        helper.make_node("Mul", [moving, "zero"], ["nothing"]),
        helper.make_node("Add", [fixed, "nothing"], ["both"]),
        helper.make_node(
            "AveragePool", ["both"], ["pooled"], kernel_shape=[2] * 3, strides=[2] * 3
        ),
        helper.make_node("Mul", ["pooled", "scale"], ["displacement"]),
    ]
    graph = helper.make_graph(
        nodes,
        "known",
        [helper.make_tensor_value_info(name, float32, five) for name in (fixed, moving)],
        [helper.make_tensor_value_info("displacement", float32, [1, 3, "a", "b", "c"])],
        [scale, zero],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    model.ir_version = 10
    path.write_bytes(model.SerializeToString())


def _card(**changes: object) -> Card:
    fields = {
        "name": "known",
        "version": "1",
        "summary": "For tests.",
        "inputs": (
            InputTensor(name="fixed", role="fixed"),
            InputTensor(name="moving", role="moving"),
        ),
        "output": OutputTensor(name="displacement", kind="displacement", stride=2),
        "grid": ModelGrid(spacing_mm=2.0, multiple=4),
        "intensity": Intensity(rule="none"),
        "providers": ("cpu",),
        "opset": 20,
        "sha256": "0" * 64,
        "modalities": ("any",),
        "anatomy": ("any",),
        "training": Training(method="none", configuration={}, data="none"),
        "licence": "Apache-2.0",
    }
    return Card.model_validate(fields | changes)


@pytest.fixture
def graph(tmp_path: Path) -> Path:
    _graph(tmp_path / "model.onnx", (1.0, -2.0, 0.5))
    return tmp_path / "model.onnx"


def test_voxels_along_the_grids_axes_become_world_mm_at_the_cells_centres(
    graph: Path, make_grid: MakeGrid, orientation: str
) -> None:
    """The fixed image holds its own world x, so the values name the places they belong to."""
    grid = make_grid(orientation, (24, 20, 16), (2.0, 2.0, 2.0))
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    places = grid.to_world(index)
    fixed = Volume(places[..., 0].astype(np.float32), grid)
    field = Engine(_card(), graph, threads=1).predict(fixed, fixed, Affine.identity())
    assert field.grid.shape == (12, 10, 8)
    cells = np.stack(np.meshgrid(*map(np.arange, field.grid.shape), indexing="ij"), axis=-1)
    world_x = field.grid.to_world(cells)[..., 0]
    in_voxels = world_x[..., None] * np.array([1.0, -2.0, 0.5])
    expected = in_voxels @ (grid.directions * 2.0).T
    np.testing.assert_allclose(field.vectors_mm, expected, atol=2e-3)


def test_padding_is_cropped_away_and_cells_keep_their_place(graph: Path) -> None:
    grid = Grid((7, 5, 9), np.diag([2.0, 2.0, 2.0, 1.0]))
    fixed = Volume(np.ones(grid.shape, np.float32), grid)
    field = Engine(_card(), graph, threads=1).predict(fixed, fixed, Affine.identity())
    assert field.grid.shape == (4, 3, 5)
    np.testing.assert_allclose(field.grid.to_world((0, 0, 0)), (1, 1, 1))
    np.testing.assert_allclose(field.vectors_mm, np.broadcast_to((2.0, -4.0, 1.0), (4, 3, 5, 3)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 30, 20), (3, 2, 5)])
def test_volumes_smaller_than_the_multiple_are_registered_too(
    shape: tuple[int, int, int], graph: Path
) -> None:
    fixed = Volume(np.ones(shape, np.float32), Grid(shape, np.diag([2.0, 2.0, 2.0, 1.0])))
    field = Engine(_card(), graph, threads=1).predict(fixed, fixed, Affine.identity())
    assert np.isfinite(field.vectors_mm).all()


def test_the_cells_of_an_output_grid_are_means_of_their_voxels(make_grid: MakeGrid) -> None:
    grid = make_grid("oblique", (8, 6, 10), (1.0, 1.0, 1.0))
    cells = output_grid(grid, 2)
    for cell in [(0, 0, 0), (3, 2, 4), (1, 0, 3)]:
        voxels = [np.array(cell) * 2 + step for step in np.ndindex(2, 2, 2)]
        np.testing.assert_allclose(cells.to_world(cell), grid.to_world(voxels).mean(axis=0))


def test_the_model_grid_covers_the_field_of_view_with_about_the_voxels_asked_for(
    make_grid: MakeGrid, orientation: str
) -> None:
    fixed = make_grid(orientation, (160, 120, 60), (1.0, 1.0, 3.0))
    grid = model_grid(ModelGrid(voxels=100_000), fixed)
    assert 0.9e5 < grid.voxel_count < 1.3e5
    np.testing.assert_allclose(grid.spacing_mm, grid.spacing_mm[0])
    assert (grid.extent_mm >= fixed.extent_mm - 1e-6).all()
    np.testing.assert_allclose(grid.centre_mm, fixed.centre_mm, atol=1e-9)


def test_the_model_grid_is_never_finer_than_the_image(make_grid: MakeGrid) -> None:
    fixed = make_grid("LPS", (30, 40, 20), (1.0, 1.0, 1.0))
    assert model_grid(ModelGrid(voxels=10**7), fixed).is_same(fixed)


def test_a_huge_field_of_view_gets_a_coarser_grid(make_grid: MakeGrid) -> None:
    fixed = make_grid("RAS", (900, 900, 900), (1.0, 1.0, 1.0))
    grid = model_grid(ModelGrid(spacing_mm=1.0, max_voxels=500_000), fixed)
    assert grid.voxel_count <= 500_000
    assert (grid.extent_mm >= fixed.extent_mm - 1e-6).all()


def test_world_axes_cover_an_oblique_field_of_view(make_grid: MakeGrid) -> None:
    fixed = make_grid("oblique-left-handed", (30, 40, 20), (1.0, 1.0, 1.0))
    grid = model_grid(ModelGrid(spacing_mm=2.0, orientation="RAS"), fixed)
    np.testing.assert_allclose(grid.directions, np.eye(3))
    assert grid.contains(fixed.corners_mm()).all()


def test_the_session_is_made_anew_after_a_fork(
    graph: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(_card(), graph, threads=1)
    fixed = Volume(np.ones((4, 4, 4), np.float32), Grid((4, 4, 4), np.diag([2.0, 2.0, 2.0, 1.0])))
    before = engine._session
    engine.predict(fixed, fixed, Affine.identity())
    assert engine._session is before
    process = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: process + 1)
    engine.predict(fixed, fixed, Affine.identity())
    assert engine._session is not before


def test_a_watch_that_raises_stops_the_work(graph: Path) -> None:
    def stop(_stage: str, fraction: float) -> None:
        if fraction > 0:
            raise JobCancelledError

    fixed = Volume(np.ones((4, 4, 4), np.float32), Grid((4, 4, 4), np.eye(4)))
    with pytest.raises(JobCancelledError):
        Engine(_card(), graph, threads=1).predict(fixed, fixed, Affine.identity(), stop)


def test_other_inputs_than_promised_are_refused(tmp_path: Path) -> None:
    _graph(tmp_path / "model.onnx", (1, 1, 1), "source target")
    with pytest.raises(ModelInvalidError, match="source"):
        Engine(_card(), tmp_path / "model.onnx")


def test_an_output_of_another_size_than_promised_is_refused(graph: Path) -> None:
    card = _card(output=OutputTensor(name="displacement", kind="displacement", stride=4))
    fixed = Volume(np.ones((8, 8, 8), np.float32), Grid((8, 8, 8), np.diag([2.0, 2.0, 2.0, 1.0])))
    with pytest.raises(ModelInvalidError, match="shape"):
        Engine(card, graph, threads=1).predict(fixed, fixed, Affine.identity())


def test_a_graph_of_other_axes_than_promised_is_refused(graph: Path) -> None:
    card = _card(output=OutputTensor(name="displacement", kind="affine", axes=MATRIX_AXES))
    with pytest.raises(ModelInvalidError, match="with 3 axes"):
        Engine(card, graph)


def test_an_engine_is_not_asked_for_what_its_model_does_not_give(graph: Path) -> None:
    fixed = Volume(np.ones((4, 4, 4), np.float32), Grid((4, 4, 4), np.eye(4)))
    with pytest.raises(ModelInvalidError, match="gives displacement, not affine"):
        Engine(_card(), graph, threads=1).predict_affine(fixed, fixed, Affine.identity())


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    with pytest.raises(ModelInvalidError, match="cannot be loaded"):
        Engine(_card(), tmp_path / "model.onnx")


def test_a_provider_that_the_card_does_not_list_is_refused_not_replaced() -> None:
    with pytest.raises(ProviderUnavailableError, match="not verified on openvino"):
        choose_provider(_card(), "openvino")


def test_a_provider_that_is_not_installed_is_refused_not_replaced() -> None:
    card = _card(providers=("cuda", "cpu"))
    if "CUDAExecutionProvider" in pytest.importorskip("onnxruntime").get_available_providers():
        pytest.skip("CUDA is installed here")
    assert choose_provider(card, "auto") == "cpu"
    with pytest.raises(ProviderUnavailableError, match="no provider cuda"):
        choose_provider(card, "cuda")
    with pytest.raises(ProviderUnavailableError, match="no provider cuda"):
        choose_provider(_card(providers=("cuda",)), "auto")


def _fake_session(providers: list[str], on_cpu: list[str]) -> SimpleNamespace:
    """What onnxruntime reports of a session on a GPU; there is none here to ask."""
    nodes = [SimpleNamespace(op_type=op) for op in on_cpu]
    part = SimpleNamespace(ep_name="CPUExecutionProvider", get_nodes=lambda: nodes)
    return SimpleNamespace(
        get_providers=lambda: providers, get_provider_graph_assignment_info=lambda: [part]
    )


def test_a_gpu_session_that_fell_back_to_the_cpu_is_refused() -> None:
    with pytest.raises(ProviderUnavailableError, match="did not start"):
        require_provider(_fake_session(["CPUExecutionProvider"], []), "cuda")


def test_a_gpu_session_may_leave_shape_arithmetic_to_the_cpu_but_no_work() -> None:
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    require_provider(_fake_session(both, ["Shape", "Range", "Gather"]), "cuda")
    with pytest.raises(ProviderUnavailableError, match="GridSample"):
        require_provider(_fake_session(both, ["Shape", "GridSample"]), "cuda")


def test_a_gpu_session_that_must_be_whole_leaves_nothing_to_the_cpu() -> None:
    both = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    require_provider(_fake_session(both, []), "cuda", whole=True)
    with pytest.raises(ProviderUnavailableError, match="Slice"):
        require_provider(_fake_session(both, ["Slice"]), "cuda", whole=True)
