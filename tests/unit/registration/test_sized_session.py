"""A network told its sizes, on the CPU's provider: what it gives, and when it is used."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

onnxruntime = pytest.importorskip("onnxruntime")

from service.errors import ProviderUnavailableError  # noqa: E402
from service.registration import engine as engines  # noqa: E402
from service.registration.device_check import bent  # noqa: E402
from service.registration.engine import Engine  # noqa: E402
from service.registration.fields import Affine  # noqa: E402
from service.registration.models_folder import GRAPH, ModelFolder  # noqa: E402
from service.registration.providers import start_session  # noqa: E402
from service.registration.sized_session import (  # noqa: E402
    SizedSession,
    SizedSessions,
    sizes_by_name,
)

DISCRETE = ModelFolder().folder("discrete/1") / GRAPH
OUTPUT = "displacement"
Feed = dict[str, np.ndarray]


def feed_of(size: tuple[int, int, int], rng: np.random.Generator) -> Feed:
    return {name: rng.random((1, 1, *size), np.float32) for name in ("fixed", "moving")}


def shapes_of(feed: Feed) -> dict[str, tuple[int, ...]]:
    return {name: image.shape for name, image in feed.items()}


def test_it_gives_what_the_general_session_gives_pair_after_pair(rng: np.random.Generator) -> None:
    general = start_session(DISCRETE, "cpu", 1)
    size = (24, 32, 28)
    shapes = shapes_of(feed_of(size, rng))
    sizes = sizes_by_name(general, shapes)
    assert sorted(sizes.values()) == sorted(size)
    promised = (1, 3, *(n // 2 for n in size))
    sized = SizedSession(
        DISCRETE, sizes, shapes, (OUTPUT, promised), provider="cpu", threads=1, cuda_graphs=True
    )
    pairs = [feed_of(size, rng) for _ in range(3)]
    found = [sized.run(feed) for feed in pairs]
    for feed, field in zip(pairs, found, strict=True):
        np.testing.assert_allclose(field, general.run([OUTPUT], feed)[0], atol=1e-4)
    assert not np.array_equal(found[0], found[1])


def test_being_told_its_sizes_leaves_it_half_the_operators(rng: np.random.Generator) -> None:
    def operators(session: Any) -> int:
        return sum(len(part.get_nodes()) for part in session.get_provider_graph_assignment_info())

    general = start_session(DISCRETE, "cpu", 1)
    sizes = sizes_by_name(general, shapes_of(feed_of((24, 32, 28), rng)))
    told = start_session(DISCRETE, "cpu", 1, sizes=sizes)
    assert operators(told) < 0.6 * operators(general)


def kept(started: list[Mapping[str, tuple[int, ...]]]) -> SizedSessions:
    def start(shapes: Mapping[str, tuple[int, ...]]) -> SizedSession:
        started.append(shapes)
        return cast(SizedSession, object())

    return SizedSessions(start)


def of_size(n: int) -> Feed:
    return {name: np.zeros((1, 1, n, n, n), np.float32) for name in ("fixed", "moving")}


def test_only_sizes_that_come_often_get_one_and_only_once() -> None:
    started: list[Mapping[str, tuple[int, ...]]] = []
    sessions = kept(started)
    for _ in range(SizedSessions.OFTEN):
        assert sessions.of(of_size(8)) is None
        assert sessions.of(of_size(9)) is None
    first = sessions.of(of_size(8))
    assert first is not None
    assert sessions.of(of_size(8)) is first
    assert started == [{"fixed": (1, 1, 8, 8, 8), "moving": (1, 1, 8, 8, 8)}]


def test_the_one_used_longest_ago_makes_room_and_must_come_often_again() -> None:
    started: list[Mapping[str, tuple[int, ...]]] = []
    sessions = kept(started)
    for n in range(SizedSessions.KEPT + 1):
        for _ in range(SizedSessions.OFTEN + 1):
            sessions.of(of_size(n))
    assert len(started) == SizedSessions.KEPT + 1
    assert sessions.of(of_size(1)) is not None
    assert sessions.of(of_size(0)) is None
    assert len(started) == SizedSessions.KEPT + 1


def test_no_more_sizes_are_counted_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SizedSessions, "MOST_COUNTED", 3)
    started: list[Mapping[str, tuple[int, ...]]] = []
    sessions = kept(started)
    for _ in range(SizedSessions.OFTEN):
        sessions.of(of_size(8))
    for n in range(7):
        sessions.of(of_size(n))
        assert len(sessions._seen) <= 3
    assert sessions.of(of_size(8)) is None  # counted from the beginning
    assert started == []


def test_a_graph_that_cannot_be_told_its_sizes_runs_as_before() -> None:
    tried = []

    def start(shapes: Mapping[str, tuple[int, ...]]) -> SizedSession:
        tried.append(shapes)
        raise ProviderUnavailableError("It cannot be captured.")

    sessions = SizedSessions(start)
    for _ in range(SizedSessions.OFTEN + 3):
        assert sessions.of(of_size(8)) is None
    assert len(tried) == 1


@pytest.fixture
def on_cuda(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """As an engine on a GPU, whose sessions run on the CPU all the same."""

    class OnCpu(SizedSession):
        def __init__(self, graph: Path, *shapes: Any, provider: str, **chosen: Any) -> None:
            assert provider == "cuda"
            super().__init__(graph, *shapes, provider="cpu", **chosen)

    monkeypatch.setattr(engines, "SizedSession", OnCpu)
    monkeypatch.setattr(SizedSessions, "OFTEN", 1)
    engine = Engine(ModelFolder().card("discrete/1"), DISCRETE, provider="cpu", threads=1)
    engine.__dict__["provider"] = "cuda"
    return engine


def test_an_engine_on_a_gpu_tells_the_network_the_sizes_that_come_often(on_cuda: Engine) -> None:
    fixed, moving = bent((40, 36, 44))
    first, second, third = (on_cuda.predict(fixed, moving, Affine.identity()) for _ in range(3))
    assert np.abs(first.vectors_mm).max() > 0.5
    assert on_cuda._sized._kept.popitem()[1] is not None
    for later in (second, third):
        np.testing.assert_allclose(later.vectors_mm, first.vectors_mm, atol=1e-3)


def test_a_job_does_not_fail_because_its_network_cannot_be_captured(
    on_cuda: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_session: SizedSession) -> None:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(SizedSession, "run_there", fail)
    on_cuda.cuda_graphs = True
    fixed, moving = bent((40, 36, 44))
    first, second, third = (on_cuda.predict(fixed, moving, Affine.identity()) for _ in range(3))
    assert [*on_cuda._sized._kept.values()] == [None]
    for later in (second, third):
        np.testing.assert_array_equal(later.vectors_mm, first.vectors_mm)


def test_an_engine_on_the_cpu_has_no_use_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SizedSessions, "OFTEN", 0)
    engine = Engine(ModelFolder().card("discrete/1"), DISCRETE, provider="cpu", threads=1)
    fixed, moving = bent((24, 24, 24))
    engine.predict(fixed, moving, Affine.identity())
    assert not engine._sized._kept
