"""A live server whose engine is a toy: it echoes frames, waits where it is told to, and fails."""

import asyncio
import threading
from collections.abc import AsyncIterator, Coroutine, Generator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from service.errors import ModelNotFoundError
from service.live.opening import Opening
from service.live.server import LiveServer
from service.pb import warpline_pb2 as pb
from service.registration.fields import Affine, DisplacementField
from service.registration.quality import Verdict
from service.registration.tracked import Calibration, Motion, Reference, Tracked
from service.registration.volume import Volume
from service.settings import Settings
from tests.live_client import LiveClient, chunks, frame, header

# 73 728 voxels: 147 456 bytes as int16, one chunk; 294 912 as float32, two of 256 KiB and less.
SHAPE = (64, 48, 24)
AFFINE = np.diag([2.0, 1.5, 3.0, 1.0])
FAIL_AT, BREAK_AT = 666, 667


def image(first: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Voxels whose first one tells the frames apart."""
    array = np.random.default_rng(first).integers(0, 500, shape).astype(np.int16)
    array[0, 0, 0] = first
    return array


@dataclass
class FakeEngines:
    """`service.live.engines.Engines` whose trackers take no time, or as long as the gate is shut.

    `steps` lists the first voxels of reference and frame of each step, in order.
    """

    p95_s: float = 0.02
    steps: list[tuple[int, int]] = field(default_factory=list)
    budgets: list[float | None] = field(default_factory=list)
    trackers: list["FakeTracker"] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def __call__(self, opening: Opening, reference: Reference) -> "FakeTracker":
        tracker = FakeTracker(self, opening, reference)
        self.trackers.append(tracker)
        return tracker

    def load(self, opening: Opening) -> None:
        if opening.options.model != "discrete":
            raise ModelNotFoundError

    def warm_up(self, model: str) -> None:
        """Cold is fine."""


class FakeTracker:
    """Answers with the frame itself, and with the reference's first voxel as a shift along x."""

    def __init__(self, engines: FakeEngines, opening: Opening, reference: Reference) -> None:
        self.engines, self.opening, self.reference = engines, opening, reference

    def rehearse(self, frames: int = 3) -> Generator[None, None, Calibration]:
        for number in range(frames):
            self.engines.steps.append((int(self.reference.image.data[0, 0, 0]), -number))
            yield
        self.engines.steps.clear()
        p95_s = self.engines.p95_s
        return Calibration(p95_s / 2, p95_s, 2 * p95_s)

    def step(self, frame: Volume, *, budget_s: float | None = None, watch: Any = None) -> Tracked:
        first = int(frame.data[0, 0, 0])
        self.engines.steps.append((int(self.reference.image.data[0, 0, 0]), first))
        self.engines.budgets.append(budget_s)
        self.engines.entered.set()
        while not self.engines.gate.wait(0.005):
            watch("predict", 0.5)
        if first == FAIL_AT:
            raise ModelNotFoundError
        if first == BREAK_AT:
            raise ValueError("a defect")
        return self.tracked(frame)

    def tracked(self, frame: Volume) -> Tracked:
        wanted, grid = self.opening.wanted, self.opening.fixed_grid
        affine = np.eye(4)
        affine[0, 3] = self.reference.image.data[0, 0, 0]
        vectors = np.full((*grid.shape, 3), 0.5, np.float32)
        labels = self.reference.labels
        return Tracked(
            affine=Affine(affine),
            rigid=Affine(affine),
            field=None if wanted.field == "none" else DisplacementField(vectors, grid),
            warped_image=frame if wanted.warped_image else None,
            warped_labels=labels if wanted.warped_labels else None,
            points=self.reference.points if wanted.points else None,
            stages=(("predict", 0.001), ("warp", 0.002)),
            verdict=Verdict("warn", ["as a test"]),
            motion=Motion(np.array([1.0, 2.0, 3.0]), 4.0, 5.0, 6.0),
            similarity_before=0.25,
            similarity_after=0.75,
        )


@asynccontextmanager
async def serving(engines: FakeEngines, **settings: Any) -> AsyncIterator[LiveServer]:
    """A server on a free port, with one engine that is the fake."""
    chosen = Settings(**{"live_port": 0, "live_http_port": 0} | settings)
    server = LiveServer(chosen, load=lambda _config: engines)  # type: ignore[arg-type]
    await server.start()
    try:
        yield server
    finally:
        engines.gate.set()
        await server.stop()


def target(server: LiveServer) -> str:
    return f"127.0.0.1:{server.port}"


def wish(**more: Any) -> dict[str, Any]:
    """What most tests open a session with."""
    plain = {
        "role": pb.REFERENCE_ROLE_FIXED,
        "reference": header(image(1), AFFINE),
        "frame": header(image(1), AFFINE),
        "outputs": pb.LiveOutputs(warped_image=True),
        "policy": pb.FRAME_POLICY_EVERY,
    }
    return plain | more


async def ready(client: LiveClient, reference: int = 1, **more: Any) -> pb.Opened:
    """Open a session and send its reference."""
    opened = await client.open(**wish(**more))
    await client.send(*chunks(image(reference), pb.VOXEL_TARGET_REFERENCE))
    await client.expect("ready")
    return opened


async def answered(client: LiveClient, number: int, first: int | None = None) -> pb.FrameAnswer:
    """Send a frame and check that it is answered with itself."""
    sent = image(number if first is None else first)
    await client.send(*frame(number, sent))
    head, arrays = await client.answer()
    assert head.number == number
    np.testing.assert_array_equal(arrays[pb.VOXEL_TARGET_WARPED_IMAGE], sent)
    return head


async def until(condition: Any) -> None:
    """Wait until something holds; minutes are a failure."""
    async with asyncio.timeout(120):
        while not condition():
            await asyncio.sleep(0.005)


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(test)
