"""Live sessions and uploads by gRPC, beside the bare engine call and the bare stream.

python -m benchmarks.stream [--frames 30] [--shape 128] [--sessions 1,2,8] [--minutes 10]

Starts `warpline up`, and streams to its live process both directly and through its gateway. All
latencies are of this machine; what counts is what is added to the engine's own time.
"""

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import numpy as np
import psutil

from service.client import LiveSession
from service.client.live_answers import LiveAnswer
from service.client.live_terms import LiveTerms
from service.pb import warpline_pb2 as pb
from service.pb.warpline_pb2_grpc import (
    WarplineServiceServicer,
    WarplineServiceStub,
    add_WarplineServiceServicer_to_server,
)
from service.registration.grid import Grid
from service.registration.models_folder import ModelFolder
from service.registration.options import RegisterOptions
from service.registration.rehearsal import rehearsal_frames
from service.registration.tracked import Reference, Wanted
from service.registration.tracking import Tracker
from service.registration.volume import Volume
from service.rpc.allocator import keep_message_buffers

CHUNK = 2**20
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


class Discard(WarplineServiceServicer):
    """Takes chunks and forgets them: what gRPC itself can do."""

    async def Upload(  # type: ignore[override]  # noqa: N802
        self, request_iterator: AsyncIterator[pb.UploadRequest], _context: Any
    ) -> AsyncIterator[pb.UploadResponse]:
        received = 0
        async for request in request_iterator:
            if request.HasField("start"):
                yield pb.UploadResponse(opened=pb.FileOpened())
            received += len(request.chunk.data)
        yield pb.UploadResponse(received=pb.FileReceived(received_bytes=received, is_complete=True))


def serve_discard(port: "multiprocessing.Queue[int]") -> None:
    """The bare server, in a process of its own."""

    keep_message_buffers()

    async def serve() -> None:
        server = grpc.aio.server()
        add_WarplineServiceServicer_to_server(Discard(), server)
        port.put(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        await server.wait_for_termination()

    asyncio.run(serve())


async def upload_gb_s(target: str, mib: int, *, is_checked: bool) -> float:
    """GB/s of one upload, from the first chunk to the last acknowledgement."""
    from isal import isal_zlib

    data = np.random.default_rng(0).bytes(CHUNK)
    crc = zlib.crc32(data)

    async def sent() -> AsyncIterator[pb.UploadRequest]:
        yield pb.UploadRequest(start=pb.FileStart(size_bytes=mib * CHUNK))
        for number in range(mib):
            sum_ = isal_zlib.crc32(data) if is_checked else crc
            request = pb.UploadRequest()
            chunk = request.chunk
            chunk.offset, chunk.data, chunk.crc32 = number * CHUNK, data, sum_
            yield request

    async with grpc.aio.insecure_channel(target) as channel:
        begun = time.perf_counter()
        last = None
        async for response in WarplineServiceStub(channel).Upload(sent()):
            last = response
        assert last is not None
        assert last.received.received_bytes == mib * CHUNK
        assert last.received.is_complete
        return float(mib * CHUNK / (time.perf_counter() - begun) / 1e9)


def uploads(stack: Stack, mib: int, rounds: int) -> None:
    """Uploads beside a server that forgets, one after the other in each round."""
    context = multiprocessing.get_context("spawn")
    told: multiprocessing.Queue[int] = context.Queue()
    bare = context.Process(target=serve_discard, args=(told,), daemon=True)
    bare.start()
    targets = {
        "bare stream, chunks forgotten": (f"127.0.0.1:{told.get(timeout=60)}", False),
        "upload: checked, on disk, SHA-256": (stack.proxied.removeprefix("grpc://"), True),
    }
    speeds: dict[str, list[float]] = {name: [] for name in targets}
    for _ in range(rounds):
        for name, (target, is_checked) in targets.items():
            speeds[name].append(asyncio.run(upload_gb_s(target, mib, is_checked=is_checked)))
    bare.terminate()
    print(f"\n| {mib} MiB in chunks of 1 MiB, loopback | GB/s, median | best |\n|---|---:|---:|")
    for name, values in speeds.items():
        print(f"| {name} | {np.median(values):.2f} | {max(values):.2f} |", flush=True)


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


def steadiness(stack: Stack, minutes: float, shape: int, refine: str) -> None:
    """Whether latency, drops and memory stay as they are."""
    reference = scene(shape)
    frames = made_frames(reference, 16)
    started, rss = time.monotonic(), list[tuple[float, float]]()

    def goes_on(so_far: int) -> bool:
        now = time.monotonic() - started
        if so_far % 10 == 0:
            rss.append((now, stack.rss_mib))
        return now < minutes * 60

    found = answered(stack.proxied, reference, frames, {"refine": refine}, goes_on)
    print(f"\n| {minutes:g} minutes, {len(found)} frames | p50 ms | p95 | p99 | live MiB |")
    print("|---|---:|---:|---:|---:|")
    for part in range(3):
        of = found[part * len(found) // 3 : (part + 1) * len(found) // 3]
        memory = [mib for at, mib in rss if part <= 3 * at / rss[-1][0] <= part + 1]
        cells = percentiles([answer.round_trip_ms for answer in of])
        print(f"| third {part + 1} | {cells} | {np.median(memory):.0f} |")


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--shape", type=int, default=96)
    parser.add_argument("--refine", default="none")
    parser.add_argument(
        "--sessions", type=lambda text: [int(n) for n in text.split(",")], default=[1, 2, 8]
    )
    parser.add_argument("--upload-mib", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--only", choices=("uploads", "frames", "transport", "steady"))
    arguments = parser.parse_args()
    keep_message_buffers()
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as stack:
        if arguments.only in (None, "uploads"):
            uploads(stack, arguments.upload_mib, arguments.rounds)
        if arguments.only in (None, "transport"):
            transport(stack, arguments.frames)
        if arguments.only in (None, "frames"):
            latencies(stack, arguments)
        if arguments.minutes:
            steadiness(stack, arguments.minutes, arguments.shape, arguments.refine)


if __name__ == "__main__":
    main()
