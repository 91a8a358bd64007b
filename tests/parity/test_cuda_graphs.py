"""What CUDA graphs ask of refinement's steps, where there is none: fixed places, numbers used once.

`Capturing` stands where onnxruntime's session does and treats the runs of a number as its CUDA
provider would: three times at first, and ever after from and to the same addresses.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
import pytest

onnxruntime = pytest.importorskip("onnxruntime")

from service.registration import device_places  # noqa: E402
from service.registration.descent import LatticeField, Level, LevelPair  # noqa: E402
from service.registration.device_level import DeviceLevel  # noqa: E402
from service.registration.device_places import (  # noqa: E402
    GRAPH,
    KEPT,
    NOT_CAPTURED,
    PLACES_A_SESSION,
    Places,
)
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
    monkeypatch.setattr(device_places, "_session", lambda *_, **__: session)
    return session


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch: pytest.MonkeyPatch) -> OrderedDict[Any, Places]:
    kept: OrderedDict[Any, Places] = OrderedDict()
    monkeypatch.setattr(device_places, "_free", kept)
    return kept


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


def test_a_step_binds_nothing_and_makes_no_room(
    pair: LevelPair, capturing: Capturing, monkeypatch: pytest.MonkeyPatch
) -> None:
    level, bound = level_of(pair), capturing.bindings
    rooms = count()
    monkeypatch.setattr(Places, "_room", lambda *_: next(rooms))
    for _ in range(4):
        level.step(0.3)
    level.similarity()
    assert (capturing.bindings, next(rooms)) == (bound, 0)


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


def test_the_next_level_of_these_shapes_plays_the_same_graphs_on_its_own_pair(
    pair: LevelPair, make_grid: Callable[..., Grid], capturing: Capturing
) -> None:
    level_of(pair).step(0.3)  # an odd number: the places stay the other way round
    grid = make_grid("LAS", SHAPE, (1.1, 0.8, 2.0))
    other = replace(
        pair,
        fixed=Volume(pair.moving.data[::-1].copy(), grid),
        moving=Volume(pair.fixed.data[::-1].copy(), grid),
    )
    ours, theirs = level_of(other), Level(other, nothing_on(other))
    for step_mm in (0.5, 0.4, 0.3):
        assert ours.step(step_mm) == pytest.approx(theirs.step(step_mm), abs=1e-5)
    np.testing.assert_allclose(ours.field.along_mm, theirs.field.along_mm, atol=1e-3)
    assert len(capturing.captured) == 2
    assert capturing.bindings == 2


def test_levels_that_live_at_once_have_places_of_their_own(
    pair: LevelPair, capturing: Capturing
) -> None:
    levels = [level_of(pair) for _ in range(2)]
    levels[0].step(0.5)
    assert not np.array_equal(levels[0].field.along_mm, levels[1].field.along_mm)
    levels[1].step(0.5)
    assert len(capturing.captured) == 2
    forth = [set(places.values()) for places in capturing.captured.values()]
    assert forth[0].isdisjoint(forth[1])


def test_places_of_other_shapes_or_that_are_not_captured_are_not_taken(
    pair: LevelPair, capturing: Capturing, nothing_kept: OrderedDict[Any, Places]
) -> None:
    level_of(pair, 0).step(0.3)
    assert not nothing_kept
    level_of(pair).step(0.3)
    less = Volume(pair.fixed.data[:-1].copy(), Grid((17, 20, 22), pair.fixed.grid.affine))
    level_of(LevelPair(less, less, Affine.identity())).step(0.3)
    assert len(nothing_kept) == 2
    assert len(capturing.captured) == 2


def test_only_so_many_places_are_kept(
    pair: LevelPair, capturing: Capturing, nothing_kept: OrderedDict[Any, Places]
) -> None:
    levels = [level_of(pair) for _ in range(2)]
    del levels
    assert len(nothing_kept) == 1, "one for each shape is enough"
    for n in range(2 * KEPT):
        nothing_kept[n] = next(iter(nothing_kept.values()))
    level_of(pair)
    assert len(nothing_kept) == KEPT


def test_places_where_a_step_failed_are_not_used_again(
    pair: LevelPair,
    capturing: Capturing,
    nothing_kept: OrderedDict[Any, Places],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("CUDA failure 900: operation not permitted when stream is capturing")

    level = level_of(pair)
    monkeypatch.setattr(Capturing, "run_with_iobinding", fails)
    with pytest.raises(RuntimeError):
        level.step(0.3)
    del level
    assert not nothing_kept


@pytest.mark.parametrize("voxels", [0, LATTICE - 1])
def test_larger_lattices_are_not_captured(
    pair: LevelPair, capturing: Capturing, voxels: int
) -> None:
    level_of(pair, voxels).step(0.3)
    assert capturing.ran == [NOT_CAPTURED]


def test_sessions_and_what_they_captured_do_not_live_for_ever(
    pair: LevelPair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_places, "PLACES_A_SESSION", 3)
    monkeypatch.setattr(device_places, "_captured", count())
    levels = [level_of(pair) for _ in range(7)]
    sessions = [level._taken.places._session for level in levels]
    assert [sessions.index(each) for each in sessions] == [0, 0, 0, 3, 3, 3, 6]
    assert device_places._session.cache_info().currsize <= 2
    plain = [level_of(pair, 0)._taken.places._session for _ in range(7)]
    assert len(set(map(id, plain))) == 1
    assert PLACES_A_SESSION > KEPT


def test_no_kernel_of_a_step_reads_from_the_host(pair: LevelPair) -> None:
    """What a graph would read there again is gone by then (onnxruntime's pull request 32121).

    Concat and Split of CUDA pass addresses and sizes by value where all parts are alike and no more
    than 32, and MatMul has none to pass where the right side is one matrix or both are batches
    alike; these others copy them up too.
    """
    onnx = pytest.importorskip("onnx")
    model = onnx.load(GRAPH)
    level = level_of(pair, 0)
    places = level._taken.places
    shapes = {name: value.shape() for name, value in places._given.items()}
    shapes |= {"field": places._here.start.shape(), "step_mm": []}
    for value in model.graph.input:
        for size, to in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            size.dim_value = to
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    known = {
        value.name: [size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.input)
    }
    kinds = {node.op_type for node in inferred.node}
    assert kinds >= {"Concat", "Split", "MatMul"}
    for node in inferred.node:
        parts = {"Concat": node.input, "Split": node.output}.get(node.op_type, [])
        assert len({tuple(known[part]) for part in parts}) <= 1
        assert len(parts) <= 32
        if node.op_type == "MatMul":
            left, right = (known[name] for name in node.input)
            assert len(right) == 2 or left[:-2] == right[:-2]
    assert not kinds & {"GatherND", "ScatterND", "NonMaxSuppression"}
