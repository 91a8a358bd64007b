"""Where a registration's time goes, beside what the machine could do.

    python -m benchmarks.profile FIXED MOVING [--moving-labels FILE] [--refine fast] [--repeats 5]

Stages in seconds, then each kernel and each part of reading and writing: how often, how long, and
how many bytes its arguments hold, once for each launch, which is the least that it must move.
Beside it stands the physical limit, measured in the same run: copying in memory, inflating this
very file, hashing and writing. A kernel at a third of the copy's speed does as many passes over its
data, or is bound by arithmetic. All are of the shortest of the repeats, by the wall clock. Stages
overlap: writing and drawing go on beside measuring.
"""

import argparse
import hashlib
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any

import numpy as np

from service.registration.kernels import launch

LIMIT_BYTES = 1 << 26


@dataclass
class Spent:
    """What one kernel or function took in one run."""

    calls: int = 0
    seconds: float = 0.0
    bytes: int = 0


@dataclass
class Profile:
    """Everything that was watched, by name."""

    spent: dict[str, Spent] = field(default_factory=dict)

    def watched(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(work)
        def timed(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return work(*args, **kwargs)
            finally:
                spent = self.spent.setdefault(name, Spent())
                spent.calls += 1
                spent.seconds += time.perf_counter() - started
                spent.bytes += held((args, kwargs))

        return timed


PROFILE = Profile()


def held(thing: Any) -> int:
    """The bytes of all arrays in arguments, fields of volumes included."""
    if isinstance(thing, np.ndarray):
        return int(thing.nbytes)
    if isinstance(thing, dict):
        return held(tuple(thing.values()))
    if isinstance(thing, tuple | list):
        return sum(held(part) for part in thing)
    for name in ("data", "vectors_mm"):
        if isinstance(array := getattr(thing, name, None), np.ndarray):
            return int(array.nbytes)
    return 0


def watch_kernels() -> None:
    """Have every kernel timed; to be called before any module of kernels is imported."""
    plain, plain_unless = launch.kernel, launch.kernel_unless

    def watched(function: Callable[..., Any], launched: Callable[..., Any]) -> Callable[..., Any]:
        name = f"{function.__module__.rsplit('.', 1)[-1]}.{function.__name__}"
        timed = PROFILE.watched(name, launched)
        launch.kernels[timed] = function  # as another kernel may call it, untimed
        return timed

    def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
        return watched(function, plain(function))

    def kernel_unless(is_small: Callable[..., bool]) -> Callable[..., Any]:
        return lambda function: watched(function, plain_unless(is_small)(function))

    launch.kernel, launch.kernel_unless = kernel, kernel_unless


def watch_files() -> None:
    """Have reading, writing and drawing timed, too."""
    from service.registration import delivery, drawing, pair

    for module, names in (
        (pair, ("_read",)),
        (delivery, ("write_volume", "write_field")),
        (drawing, ("draw_pictures", "overlay_picture")),
    ):
        for name in names:
            setattr(module, name, PROFILE.watched(name, getattr(module, name)))


def seconds_of(work: Callable[[], object], repeats: int = 5) -> float:
    """The shortest of a few runs."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)


def limits(image: Path, folder: Path) -> Iterator[tuple[str, float]]:
    """GB/s of this machine: copying (both cores), inflating, hashing and writing (one core)."""
    from isal import isal_zlib

    source = np.ones(LIMIT_BYTES, np.uint8)
    target, halves = np.zeros_like(source), LIMIT_BYTES // 2
    with ThreadPoolExecutor(2) as pool:

        def copy() -> None:
            parts = [slice(0, halves), slice(halves, None)]
            list(pool.map(lambda part: np.copyto(target[part], source[part]), parts))

        # Read and written, as a kernel's arguments are counted.
        yield "copy in memory, two threads", 2 * LIMIT_BYTES / seconds_of(copy) / 1e9
    packed = image.read_bytes()
    if packed[:2] == b"\x1f\x8b":
        size = len(isal_zlib.decompress(packed, wbits=31))
        inflating = seconds_of(lambda: isal_zlib.decompress(packed, wbits=31))
        yield "inflate this image, one thread", size / inflating / 1e9
    hashing = seconds_of(lambda: hashlib.sha256(source.data).digest())
    yield "SHA-256, one thread", LIMIT_BYTES / hashing / 1e9
    writing = seconds_of(lambda: (folder / "limit").write_bytes(source.data))
    yield "write a file, one thread", LIMIT_BYTES / writing / 1e9


def runs(files: dict[str, Path], refine: str, repeats: int) -> Iterator[tuple[float, Any]]:
    """Registrations of a pair, after one to warm up: seconds, and the report."""
    from service.registration.models_folder import ModelFolder
    from service.registration.options import RegisterOptions
    from service.registration.pipeline import register_files

    options, models = RegisterOptions.model_validate({"refine": refine}), ModelFolder()
    for number in range(repeats + 1):
        PROFILE.spent.clear()
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            report = register_files(files, options, Path(folder), models)
            if number:
                yield time.perf_counter() - started, report


def table(spent: dict[str, Spent]) -> str:
    """What was watched, the longest first."""
    lines = ["| | calls | ms | MB | GB/s |", "|---|---:|---:|---:|---:|"]
    for name, one in sorted(spent.items(), key=lambda item: -item[1].seconds):
        rate = f"{one.bytes / one.seconds / 1e9:.1f}" if one.bytes else ""
        size = f"{one.bytes / 1e6:.0f}" if one.bytes else ""
        lines.append(f"| {name} | {one.calls} | {1e3 * one.seconds:.1f} | {size} | {rate} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("fixed", type=Path)
    parser.add_argument("moving", type=Path)
    parser.add_argument("--moving-labels", type=Path)
    parser.add_argument("--refine", default="fast")
    parser.add_argument("--repeats", type=int, default=5)
    chosen = parser.parse_args()
    files = {"fixed": chosen.fixed, "moving": chosen.moving}
    if chosen.moving_labels:
        files["moving_labels"] = chosen.moving_labels
    watch_kernels()
    watch_files()
    best: tuple[float, Any, dict[str, Spent]] | None = None
    for seconds, report in runs(files, chosen.refine, chosen.repeats):
        if best is None or seconds < best[0]:
            best = seconds, report, dict(PROFILE.spent)
    assert best is not None
    seconds, report, spent = best
    print(f"{seconds:.2f} s:", ", ".join(f"{s.name} {s.seconds:.3f}" for s in report.stages))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB\n")
    print(table(spent))
    print("\n| limit | GB/s |\n|---|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for name, rate in limits(chosen.fixed, Path(folder)):
            print(f"| {name} | {rate:.1f} |")


if __name__ == "__main__":
    main()
