"""The process of one system: pairs come as lines of JSON, figures go back as lines of JSON.

    python -m benchmarks.comparison.child MODULE:FUNCTION PACKAGE [ARGUMENT ...]

The first answer says that the library is there. What a library prints goes to standard error, so
that the answers stay alone.
"""

import importlib
import json
import os
import resource
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.comparison.systems.pair import Pair, Run, in_folder


def main() -> None:
    """Answer until standard input ends."""
    builds, package, *arguments = sys.argv[1:]
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    module, function = builds.split(":")
    try:
        run = getattr(importlib.import_module(module), function)(*arguments)
    except Exception as error:  # another's library may raise anything
        say(_failed(error))
        return
    say({"version": _version(package)})
    for line in sys.stdin:
        try:
            say(registered(run, json.loads(line)))
        except Exception as error:
            say(_failed(error))


def registered(run: Run, request: dict[str, Any]) -> dict[str, Any]:
    """One pair: seconds from files to files, then where the points went."""
    labels = request["moving_labels"]
    pair = Pair(Path(request["fixed"]), Path(request["moving"]), Path(labels) if labels else None)
    folder = Path(request["folder"])
    with in_folder(folder):
        spent, begun = _processor_seconds(), time.perf_counter()
        outcome = run(pair, folder)
        seconds, spent = time.perf_counter() - begun, _processor_seconds() - spent
        move = outcome.move
        moved = [move(points) for points in request["points"]] if move else None
    return {
        "seconds": seconds if outcome.seconds is None else outcome.seconds,
        "processor_seconds": spent if outcome.seconds is None else None,
        "peak_gib": _peak_gib(),
        "labels": str(outcome.labels) if outcome.labels else None,
        "points": None if moved is None else [_plain(points) for points in moved],
    }


def _plain(points: Any) -> list[list[float]]:
    return [[float(x) for x in point] for point in points]


def _processor_seconds() -> float:
    """Of this process, its threads, and the processes that it waited for."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, kinds))


def _peak_gib() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return max(used.ru_maxrss for used in map(resource.getrusage, kinds)) / 2**20


def _version(package: str) -> str | None:
    try:
        return version(package) if package else None
    except PackageNotFoundError:
        return None


def _failed(error: Exception) -> dict[str, Any]:
    said = " ".join(str(error).split())
    return {"error": f"{type(error).__name__}: {said}"[:300]}


if __name__ == "__main__":
    main()
