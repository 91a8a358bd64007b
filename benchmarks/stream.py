"""Live sessions beside the bare engine call; `benchmarks.uploads` has files.

python -m benchmarks.stream [--frames 30] [--shape 128] [--sessions 1,2,8] [--minutes 10]

Starts `warpline up`, and streams to its live process both directly and through its gateway. All
latencies are of this machine; what counts is what is added to the engine's own time.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from service.client import LiveSession
from service.client.live_answers import LiveAnswer
from service.client.live_terms import LiveTerms
from service.registration.grid import Grid
from service.registration.models_folder import ModelFolder
from service.registration.options import RegisterOptions
from service.registration.rehearsal import rehearsal_frames
from service.registration.tracked import Reference, Wanted
from service.registration.tracking import Tracker
from service.registration.volume import Volume
from service.rpc.allocator import keep_message_buffers

MIB = 2**20
SPACING_MM = 1.5
OTHERS = ("transfer", "wait", "encode")


@dataclass(frozen=True)
class Stack:
    """A running `warpline up`."""

    proxied: str
    direct: str
    live: psutil.Process

    @property
    def rss_mib(self) -> float:
        """Memory of the live process."""
        return float(self.live.memory_info().rss / MIB)


@contextmanager
def running(folder: Path) -> Iterator[Stack]:
    """`warpline up` on free ports."""
    command = [sys.executable, "-m", "service.cli.main", "up", "--port", "0", "--json"]
    command += ["--workers", "1", "--data-dir", str(folder)]
    env = os.environ | {"WARPLINE_THREADS": str(os.cpu_count() or 1), "WARPLINE_MIN_FREE_MIB": "0"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    text = ""
    for line in process.stdout:
        text += line
        if line.startswith("}"):
            break
    try:
        live = live_process(process.pid)
        port = live.environ()["WARPLINE_LIVE_PORT"]
        proxied = f"grpc://{json.loads(text)['grpc']}"
        yield Stack(proxied, f"grpc://127.0.0.1:{port}", live)
    finally:
        process.terminate()
        process.wait(60)


def live_process(parent: int) -> psutil.Process:
    """The live process of a stack that has just come up."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for child in psutil.Process(parent).children():
            with contextlib.suppress(psutil.Error):
                if child.cmdline()[-1:] == ["live"]:
                    return child
        time.sleep(0.1)
    raise SystemExit("no live process was started")


def scene(size: int) -> Volume:
    """Blobs, as int16."""
    rng = np.random.default_rng(1)
    shape = (size, size, size)
    at = np.moveaxis(np.indices(shape, dtype=np.float32), 0, -1) / size - 0.5
    data = np.zeros(shape, np.float32)
    for _ in range(25):
        place, width = rng.uniform(-0.35, 0.35, 3), rng.uniform(0.05, 0.15)
        data += rng.uniform(50, 200) * np.exp(-((at - place) ** 2).sum(-1) / (2 * width**2))
    return Volume(data.astype(np.int16), Grid(shape, np.diag([SPACING_MM] * 3 + [1.0])))


def made_frames(reference: Volume, count: int) -> list[Volume]:
    """What a scanner would send: int16, moved and bent."""
    made = rehearsal_frames(Reference(reference), reference.grid, "moving", count)
    return [frame.with_data(frame.data.astype(np.int16)) for frame in made]


def bare_ms(reference: Volume, frames: list[Volume], options: dict[str, Any]) -> list[float]:
    """What the engine takes for each frame, called here, in this process."""
    tracker = Tracker(
        Reference(reference, labels=labels_of(reference)),
        reference.grid,
        ModelFolder(None, threads=os.cpu_count()).load("discrete"),
        RegisterOptions(**options),
        role="moving",
        wanted=Wanted(field="none", warped_labels=True),
        warm_start=False,
    )
    tracker.calibrate(2)
    taken = []
    for frame in frames:
        begun = time.perf_counter()
        tracker.step(frame)
        taken.append((time.perf_counter() - begun) * 1000)
    return taken


def labels_of(volume: Volume) -> Volume:
    """A label for what is bright."""
    return volume.with_data((volume.data > np.percentile(volume.data, 80)).astype(np.uint8))


def answered(
    url: str,
    reference: Volume,
    frames: list[Volume],
    options: dict[str, Any],
    until: Callable[[int], bool],
) -> list[LiveAnswer]:
    """One session that sends its next frame when it has the answer to the one before."""
    terms: LiveTerms = {
        "labels": labels_of(reference).data,
        "options": options,
        "policy": "every",
    }
    found: list[LiveAnswer] = []
    with LiveSession(url, reference.data, reference.grid.affine, **terms) as session:
        session.wait_until_ready()
        while until(len(found)):
            session.send(frames[len(found) % len(frames)].data)
            answer = session.next_answer(600)
            assert answer is not None, session.refusals
            found.append(answer)
    return found


def side_by_side(
    url: str, count: int, reference: Volume, frames: list[Volume], options: dict[str, Any]
) -> list[LiveAnswer]:
    """Several sessions at once, from a client in this process."""
    found: list[LiveAnswer] = []
    start = threading.Barrier(count)

    def one() -> None:
        start.wait()
        some = answered(url, reference, frames, options, lambda so_far: so_far < len(frames))
        found.extend(some[1:])

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def percentiles(values: list[float]) -> str:
    """p50, p95 and p99, as cells."""
    return " | ".join(f"{x:.1f}" for x in np.percentile(values, (50, 95, 99)))


def latencies(stack: Stack, arguments: argparse.Namespace) -> None:
    """End to end, and what is added to the engine's own time."""
    reference = scene(arguments.shape)
    frames = made_frames(reference, arguments.frames + 1)
    options = {"refine": arguments.refine}
    bare = bare_ms(reference, frames[1:], options)
    print(f"\nFrames of {arguments.shape}^3 int16, labels back, refine {arguments.refine}, cold")
    print("| sessions | way | p50 ms | p95 | p99 | engine p50 | outside p50 | p95 | p99 |")
    print("|---:|---|---:|---:|---:|---:|---:|---:|---:|")
    print(f"| | bare call | {percentiles(bare)} | {np.median(bare):.1f} | | | |")
    stages: dict[str, list[float]] = {}
    for count in arguments.sessions:
        for way, url in (("direct", stack.direct), ("gateway", stack.proxied)):
            found = side_by_side(url, count, reference, frames, options)
            whole = [answer.round_trip_ms for answer in found]
            engine = [engine_ms(answer) for answer in found]
            outside = [
                w - e - a.stages_ms["wait"] for w, e, a in zip(whole, engine, found, strict=True)
            ]
            print(
                f"| {count} | {way} | {percentiles(whole)} | {np.median(engine):.1f} "
                f"| {percentiles(outside)} |",
                flush=True,
            )
            if count == 1 and way == "direct":
                stages = by_stage(found)
    print("\n| stage, one session | p50 ms | p95 | p99 |\n|---|---:|---:|---:|")
    for name, values in stages.items():
        print(f"| {name} | {percentiles(values)} |")


def engine_ms(answer: LiveAnswer) -> float:
    """What the engine itself took."""
    return sum(ms for name, ms in answer.stages_ms.items() if name not in OTHERS)


def by_stage(found: list[LiveAnswer]) -> dict[str, list[float]]:
    """Every stage, and what is outside the server."""
    stages: dict[str, list[float]] = {}
    for answer in found:
        for name, ms in answer.stages_ms.items():
            stages.setdefault(name, []).append(ms)
        known_ms = answer.latency_ms + answer.stages_ms["transfer"]
        stages.setdefault("client and network", []).append(answer.round_trip_ms - known_ms)
    return stages


def transport(stack: Stack, frames: int) -> None:
    """A 128^3 frame there and its rigid answer back, without what the server does with it."""
    reference = scene(128)
    made = made_frames(reference, frames + 1)
    options = {"refine": "none"}
    print("\n| 128^3 int16 (4 MiB) | p50 ms | p95 | p99 |\n|---|---:|---:|---:|")
    for way, url in (("direct", stack.direct), ("gateway", stack.proxied)):
        found = answered(url, reference, made, options, lambda so_far: so_far <= frames)[1:]
        spent = [answer.round_trip_ms - answer.latency_ms for answer in found]
        print(f"| transport, {way} | {percentiles(spent)} |", flush=True)


@dataclass(frozen=True)
class Moment:
    """How a session stands when an answer has come."""

    at_s: float
    round_trip_ms: float
    gone: int
    rss_mib: float


def steadiness(stack: Stack, minutes: float, shape: int, refine: str) -> None:
    """Whether latency, drops and memory stay as they are, with more frames than the engine can."""
    reference = scene(shape)
    frames = made_frames(reference, 16)
    terms: LiveTerms = {"labels": labels_of(reference).data, "options": {"refine": refine}}
    moments: list[Moment] = []
    with LiveSession(stack.proxied, reference.data, reference.grid.affine, **terms) as session:
        every_s = session.wait_until_ready().expected_p50_ms / 1000 / 1.5
        started_s, is_over = time.monotonic(), threading.Event()

        def scan() -> None:
            number = 0
            while not is_over.wait(every_s):
                session.send(frames[number % len(frames)].data)
                number += 1

        threading.Thread(target=scan, daemon=True).start()
        while (at_s := time.monotonic() - started_s) < minutes * 60:
            answer = session.next_answer(600)
            assert answer is not None
            gone = session.counters.dropped + session.counters.overtaken
            moments.append(Moment(at_s, answer.round_trip_ms, gone, stack.rss_mib))
        is_over.set()
    thirds(moments, minutes)


def thirds(moments: list[Moment], minutes: float) -> None:
    """The run in three parts, as a table."""
    print(f"\n| {minutes:g} minutes | answers | dropped | p50 ms | p95 | p99 | live MiB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    before = 0
    for part in range(3):
        ends = (part * minutes * 20, (part + 1) * minutes * 20)
        of = [moment for moment in moments if ends[0] <= moment.at_s < ends[1]]
        cells = percentiles([moment.round_trip_ms for moment in of])
        memory = np.median([moment.rss_mib for moment in of])
        print(f"| third {part + 1} | {len(of)} | {of[-1].gone - before} | {cells} | {memory:.0f} |")
        before = of[-1].gone


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--shape", type=int, default=96)
    parser.add_argument("--refine", default="none")
    parser.add_argument(
        "--sessions", type=lambda text: [int(n) for n in text.split(",")], default=[1, 2, 8]
    )
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--only", choices=("frames", "transport", "steady"))
    arguments = parser.parse_args()
    keep_message_buffers()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as stack:
        if arguments.only in (None, "transport"):
            transport(stack, arguments.frames)
        if arguments.only in (None, "frames"):
            latencies(stack, arguments)
        if arguments.minutes:
            steadiness(stack, arguments.minutes, arguments.shape, arguments.refine)


if __name__ == "__main__":
    main()
