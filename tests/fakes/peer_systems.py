"""Systems to compare that are quick, wrong, slow or broken, as their processes import them."""

import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.comparison.systems.pair import Outcome, Pair, Run


def shifting(millimetres: str, counter: str | None = None) -> Run:
    """Labels as they are, points moved along x; counts its calls in a file."""
    print("what a library says when it is loaded")

    def run(pair: Pair, folder: Path) -> Outcome:
        print("and when it works")
        if counter is not None:
            with Path(counter).open("a") as calls:
                calls.write("x")
        labels = None
        if pair.moving_labels is not None:
            labels = Path(shutil.copy(pair.moving_labels, folder / "labels.nii.gz"))
        return Outcome(labels, lambda points: np.add(points, (float(millimetres), 0, 0)))

    return run


def refusing() -> Run:
    def run(_pair: Pair, _folder: Path) -> Outcome:
        raise ValueError("the images\nare of no use")

    return run


def missing() -> Run:
    raise ModuleNotFoundError("No module named 'the_peer'")


def dying() -> Run:
    def run(_pair: Pair, _folder: Path) -> Outcome:
        os._exit(3)

    return run


def sleeping() -> Run:
    def run(_pair: Pair, _folder: Path) -> Outcome:
        while True:
            time.sleep(3600)

    return run


def losing_points() -> Run:
    def run(_pair: Pair, _folder: Path) -> Outcome:
        return Outcome(None, lambda points: [[float("nan")] * 3 for _ in points])

    return run


def timing_itself() -> Run:
    def run(_pair: Pair, _folder: Path) -> Outcome:
        return Outcome(None, None, seconds=0.125)

    return run


def told(row: Any) -> None:
    """Where rows go that nobody reads."""
