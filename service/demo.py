"""What `warpline demo` does: a known deformation of a real brain, found again through the API."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Protocol

import numpy as np

from service.client.sync import Client
from service.client.views import Job
from service.demo_pair import Pair, make_pair
from service.registration.files.points_file import read_points
from service.registration.metrics import tre_mm
from service.registration.report import Report
from service.settings import Settings
from service.standalone import Stack
from service.warm_up import compile_kernels

IMAGES = ("fixed", "moving", "fixed_labels", "moving_labels")


class Phases(Protocol):
    """Shows which phase runs; `watch` may be told how far it is."""

    @contextmanager
    def phase(self, name: str) -> Iterator["Phase"]: ...


class Phase(Protocol):
    """One phase on the screen."""

    def watch(self, detail: str, fraction: float) -> None: ...


@dataclass(frozen=True)
class Errors:
    """Distances in mm between where points are and where they belong."""

    median: float
    percentile_95: float

    @classmethod
    def of(cls, distances_mm: np.ndarray) -> "Errors":
        median, percentile_95 = np.percentile(distances_mm, (50, 95))
        return cls(float(median), float(percentile_95))


@dataclass(frozen=True)
class Outcome:
    """What the demo found."""

    report: Report
    before: Errors
    after: Errors
    points: int
    job_seconds: float
    seconds: dict[str, float]
    folder: Path


def run_demo(folder: Path, phases: Phases, *, is_quick: bool, is_first: bool) -> Outcome:
    """Make the pair, start the service, register over HTTP, measure against the truth, stop.

    Args:
        folder: Where the results go; the images that were sent are put beside them.
        phases: Is shown what happens.
        is_quick: Half the resolution, no refinement.
        is_first: Kernels are not compiled yet; do it first, so that the times mean something.
    """
    clock = _Clock(phases)
    if is_first:
        with clock.phase("compiling kernels, once on a machine") as phase:
            compile_kernels(watch=phase.watch)
    with clock.phase("making the pair"):
        pair = make_pair(is_quick=is_quick)
        files = pair.write(folder)
    with tempfile.TemporaryDirectory(prefix="warpline-demo-") as data_dir:
        stack = Stack(_settings(Path(data_dir)))
        with clock.phase("starting the service"):
            stack.__enter__()
        try:
            took = _register(stack, files, folder, is_quick, clock)
        finally:
            with clock.phase("stopping the service"):
                stack.stop()
    return _measure(pair, folder, took, clock.seconds)


def _settings(data_dir: Path) -> Settings:
    """Settings of the demo's own, whatever the environment says."""
    return Settings(
        _env_file=None,
        data_dir=data_dir,
        host="127.0.0.1",
        port=0,
        workers=1,
        grpc_port=0,
        database_url=None,
        store_url=None,
        redis_url=None,
        api_keys=None,
        public_url=None,
        min_free_mib=128,
    )


def _register(
    stack: Stack, files: dict[str, Path], folder: Path, is_quick: bool, clock: "_Clock"
) -> float:
    """Register over HTTP and fetch the results; returns the seconds that the worker took."""

    def show(job: Job) -> None:
        stack.require_children()  # else a worker that cannot start is waited for in vain
        phase.watch(_stage(job), job.fraction)

    with Client(stack.url) as client:
        with clock.phase("registering over HTTP") as phase:
            phase.watch("uploading", 0.0)
            job = client.register(
                wait=True,
                progress=show,
                refine="none" if is_quick else "fast",
                **files,  # type: ignore[arg-type]
            )
        with clock.phase("fetching the results"):
            client.download(job.id, folder)
    if job.finished_at is None or job.started_at is None:
        return clock.seconds["registering over HTTP"]
    return (job.finished_at - job.started_at).total_seconds()


def _stage(job: Job) -> str:
    return job.stage if job.place is None else "queued"


def _measure(pair: Pair, folder: Path, job_seconds: float, seconds: dict[str, float]) -> Outcome:
    moved = read_points(folder / "points.csv")
    return Outcome(
        report=Report.model_validate_json((folder / "report.json").read_bytes()),
        before=Errors.of(tre_mm(pair.fixed_points, pair.moving_points)),
        after=Errors.of(tre_mm(moved, pair.moving_points)),
        points=len(moved),
        job_seconds=job_seconds,
        seconds=seconds,
        folder=folder,
    )


class _Clock:
    """Times phases while they are shown."""

    def __init__(self, phases: Phases) -> None:
        self._phases = phases
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[Phase]:
        began = perf_counter()
        with self._phases.phase(name) as shown:
            yield shown
        self.seconds[name] = round(perf_counter() - began, 2)
