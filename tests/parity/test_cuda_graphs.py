"""What CUDA graphs ask of refinement's steps, where there is none: fixed places, numbers used once.

`Capturing` stands where onnxruntime's session does and treats the runs of a number as its CUDA
provider would: three times at first, and ever after from and to the same addresses.
"""

from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

onnxruntime = pytest.importorskip("onnxruntime")

from service.registration import device_level  # noqa: E402
from service.registration.descent import LatticeField, Level, LevelPair  # noqa: E402
from service.registration.device_level import GRAPH, NOT_CAPTURED, DeviceLevel  # noqa: E402
from service.registration.fields import Affine  # noqa: E402
from service.registration.grid import Grid  # noqa: E402
from service.registration.providers import settings_of, start_session  # noqa: E402
from service.registration.smoothing import smooth  # noqa: E402
from service.registration.volume import Volume  # noqa: E402

WARM_UP = 2
SHAPE = (18, 20, 22)
LATTICE = 22 * 24 * 26  # with its margin


class Binding:
    """A binding that knows the addresses of what is bound."""

    def __init__(self, binding: Any) -> None:
        self.binding = binding
        self.places: dict[str, int] = {}
        self.synchronize_outputs = binding.synchronize_outputs

    def bind_ortvalue_input(self, name: str, value: Any) -> None:
        self.places[name] = value.data_ptr()
        self.binding.bind_ortvalue_input(name, value)

    def bind_ortvalue_output(self, name: str, value: Any) -> None:
        self.places[name] = value.data_ptr()
        self.binding.bind_ortvalue_output(name, value)


class Capturing:
    """A session on the CPU whose runs count as captures and replays."""

    def __init__(self) -> None:
        self._session = start_session(GRAPH, "cpu", 1, cuda_graphs=True)
        self.captured: dict[int, dict[str, int]] = {}
        self.ran: list[int] = []
        self.bindings = 0

    def io_binding(self) -> Binding:
        self.bindings += 1
        return Binding(self._session.io_binding())

    def run_with_iobinding(self, bound: Binding, options: Any) -> None:
        number = int(options.get_run_config_entry("gpu_graph_id"))
        self.ran.append(number)
        if number != NOT_CAPTURED and number not in self.captured:
            self.captured[number] = dict(bound.places)
            for _ in range(WARM_UP):
                self._session.run_with_iobinding(bound.binding, options)
        if number != NOT_CAPTURED:
            assert self.captured[number] == bound.places
        self._session.run_with_iobinding(bound.binding, options)


@pytest.fixture
def capturing(monkeypatch: pytest.MonkeyPatch) -> Capturing:
    session = Capturing()
    monkeypatch.setattr(device_level, "_session", lambda *_, **__: session)
    return session


@pytest.fixture
def pair(make_grid: Callable[..., Grid], rng: np.random.Generator) -> LevelPair:
    grid = make_grid("oblique", SHAPE, (1.0, 1.2, 0.9))
    noise = rng.standard_normal((2, *grid.shape)).astype(np.float32)
    fixed, other = (smooth(Volume(each, grid), 2.0) for each in noise)
    return LevelPair(fixed, fixed.with_data(fixed.data + 0.3 * other.data), Affine.identity())


def nothing_on(pair: LevelPair) -> LatticeField:
    return LatticeField(np.zeros((3, *pair.fixed.grid.shape), np.float32), pair.fixed.grid)


def level_of(pair: LevelPair, captured_voxels: int = LATTICE) -> DeviceLevel:
    return DeviceLevel(pair, nothing_on(pair), provider="cpu", captured_voxels=captured_voxels)


def test_steps_that_are_played_again_end_where_the_kernels_end(
    pair: LevelPair, capturing: Capturing
) -> None:
    ours, theirs = level_of(pair), Level(pair, nothing_on(pair))
    for step_mm in (0.5, 0.5, 0.4, 0.3, 0.2):
        assert ours.step(step_mm) == pytest.approx(theirs.step(step_mm), abs=1e-5)
        assert ours.similarity() == pytest.approx(theirs.similarity(), abs=1e-5)
        assert ours.similarity_of(nothing_on(pair)) < ours.similarity()
    np.testing.assert_allclose(ours.field.along_mm, theirs.field.along_mm, atol=1e-3)
    assert len(capturing.captured) == 2


def test_a_step_binds_nothing_and_puts_nothing_up_but_its_length(
    pair: LevelPair, capturing: Capturing, monkeypatch: pytest.MonkeyPatch
) -> None:
    level, bound = level_of(pair), capturing.bindings
    put_up = count()
    monkeypatch.setattr(DeviceLevel, "_up", lambda *_: next(put_up))
    for _ in range(4):
        level.step(0.3)
    level.similarity()
    assert (capturing.bindings, next(put_up)) == (bound, 0)


def test_a_step_reads_no_place_that_it_writes(pair: LevelPair, capturing: Capturing) -> None:
    level = level_of(pair)
    level.step(0.3)
    level.step(0.3)
    forth, back = capturing.captured.values()
    outputs = {"next", "similarity"}
    for places in (forth, back):
        read = {place for name, place in places.items() if name not in outputs}
        assert read.isdisjoint(places[name] for name in outputs)
    assert (forth["field"], forth["next"]) == (back["next"], back["field"])
    same = places.keys() - {"field", "next"}
    assert {name: forth[name] for name in same} == {name: back[name] for name in same}


def test_only_cuda_is_told_and_only_where_it_is_asked() -> None:
    told = settings_of("cuda", cuda_graphs=True)
    assert told == settings_of("cuda") | {"enable_cuda_graph": "1"}
    assert "enable_cuda_graph" not in settings_of("cuda")
    assert settings_of("cpu", cuda_graphs=True) == settings_of("cpu")


def test_measuring_is_not_captured(pair: LevelPair, capturing: Capturing) -> None:
    level = level_of(pair)
    level.similarity()
    level.similarity_of(nothing_on(pair))
    assert capturing.ran == [NOT_CAPTURED, NOT_CAPTURED]


def test_no_level_takes_the_number_of_another(pair: LevelPair, capturing: Capturing) -> None:
    for _ in range(3):  # a freed place may be another's next
        level = level_of(pair)
        for _ in range(3):
            level.step(0.3)
    assert len(capturing.captured) == 6


@pytest.mark.parametrize("voxels", [0, LATTICE - 1])
def test_larger_lattices_are_not_captured(
    pair: LevelPair, capturing: Capturing, voxels: int
) -> None:
    level_of(pair, voxels).step(0.3)
    assert capturing.ran == [NOT_CAPTURED]


def test_sessions_and_what_they_captured_do_not_live_for_ever(
    pair: LevelPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_level, "LEVELS_A_SESSION", 3)
    monkeypatch.setattr(device_level, "_levels", count())
    sessions = [level_of(pair)._session for _ in range(7)]
    assert [sessions.index(each) for each in sessions] == [0, 0, 0, 3, 3, 3, 6]
    assert device_level._session.cache_info().currsize <= 2
    plain = [level_of(pair, 0)._session for _ in range(7)]
    assert len(set(map(id, plain))) == 1


def test_no_kernel_of_a_step_reads_from_the_host(pair: LevelPair, tmp_path: Path) -> None:
    """What a graph would read there again is gone by then (onnxruntime's pull request 32121).

    Concat and Split of CUDA pass addresses and sizes by value where all parts are alike and no more
    than 32; these others copy them up too.
    """
    onnx = pytest.importorskip("onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "as it runs.onnx")
    onnxruntime.InferenceSession(GRAPH, options, providers=["CPUExecutionProvider"])
    model = onnx.load(tmp_path / "as it runs.onnx")
    level = level_of(pair, 0)
    shapes = {name: value.shape() for name, value in level._pair_there.items()}
    shapes |= {"field": level._here.start.shape(), "step_mm": []}
    for value in model.graph.input:
        for size, to in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            size.dim_value = to
    del model.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    known = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.input)
    }
    kinds = {node.op_type for node in inferred.node}
    assert kinds >= {"Concat", "Split"}
    for node in inferred.node:
        parts = {"Concat": node.input, "Split": node.output}.get(node.op_type, [])
        assert len({tuple(known[part]) for part in parts}) <= 1
        assert len(parts) <= 32
    assert not kinds & {"GatherND", "ScatterND", "MatMul", "NonMaxSuppression"}
