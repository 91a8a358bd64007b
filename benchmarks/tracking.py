"""What tracking costs and reaches: a step by stage, and real series from nothing and warm.

    python -m benchmarks.tracking [--data FOLDER] [--rounds 4] [--only steps|series]

Steps: frames made from a phantom of the size, the answer a field at half resolution; medians and
minima in ms. Series: real frames in turn, several rounds, so that each frame but the first can
start from the one before; errors are of landmarks (TRE, mm) or labels (Dice).
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy.ndimage import gaussian_filter

from service.registration.engine import Engine
from service.registration.files.limits import Limits
from service.registration.files.volume_file import read_volume
from service.registration.grid import Grid
from service.registration.label_metrics import dice
from service.registration.models_folder import ModelFolder
from service.registration.options import RegisterOptions
from service.registration.points import WorldPoints
from service.registration.rehearsal import rehearsal_frames
from service.registration.tracked import Reference, Role, Tracked, Wanted
from service.registration.tracking import Tracker
from service.registration.volume import Volume

DATA = Path(__file__).parents[2] / "shared" / "data"
LPS = np.array([-1.0, -1.0, 1.0])
SIZES = {(96, 96, 60): (1.5, 1.5, 3.0), (128, 128, 128): (1.2, 1.2, 1.2)}

Score = Callable[[Tracked], str]


@dataclass(frozen=True)
class Series:
    """Frames in turn, and how an answer to each is scored."""

    name: str
    reference: Reference
    role: Role
    frames: Sequence[Volume]
    scores: Sequence[Score]


def phantom(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float]) -> Volume:
    """A ball of texture."""
    rng = np.random.default_rng(0)
    texture = gaussian_filter(rng.standard_normal(shape), 3)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    ball = 1 / (1 + np.exp(20 * (np.sqrt(sum(axis**2 for axis in axes)) - 0.8)))
    data = 100 * ball * (texture / texture.std() + 4)
    return Volume(data.astype(np.float32), Grid(shape, np.diag([*spacing_mm, 1.0])))


def show_steps(engine: Engine, options: RegisterOptions, count: int) -> None:
    """Milliseconds of each stage, from nothing, warm, and of the rigid part alone."""
    for shape, spacing_mm in SIZES.items():
        reference = Reference(phantom(shape, spacing_mm))
        print(f"\n{'x'.join(map(str, shape))}: median (least) ms")
        for warm in (False, True):
            for rigid in (False, True):
                wanted = Wanted(field="none" if rigid else "half", rigid_only=rigid)
                tracker = Tracker(
                    reference,
                    reference.image.grid,
                    engine,
                    options,
                    role="moving",
                    wanted=wanted,
                    warm_start=warm,
                )
                name = ("warm" if warm else "cold") + (", rigid only" if rigid else "")
                print(f"  {name:18s}" + _timed(tracker, reference, count))


def _timed(tracker: Tracker, reference: Reference, count: int) -> str:
    taken: dict[str, list[float]] = {}
    frames = rehearsal_frames(reference, reference.image.grid, "moving", count + 1)
    for number, frame in enumerate(frames):
        begun = time.perf_counter()
        answer = tracker.step(frame)
        total = time.perf_counter() - begun
        if number:  # the first one loads kernels
            for name, seconds in (("all", total), *answer.stages):
                taken.setdefault(name, []).append(1e3 * seconds)
    return "  ".join(
        f"{name} {statistics.median(ms):.0f} ({min(ms):.0f})" for name, ms in taken.items()
    )


def liver(data: Path, subject: int, cycles: Sequence[str]) -> Series:
    """End-exhale is fixed; frames are states of breathing, with landmarks in and out of the liver.

    Of one frame the header gives another slice distance than its landmarks: the reference's counts.
    """
    folder = data / f"liver_4dmri_eth/dataset{subject}"
    fixed = read_volume(folder / "exhMaster_unmasked.force_direction.mha", Limits(), "fixed")
    frames, scores, places = [], [], []
    for cycle in cycles:
        frame = read_volume(folder / f"{cycle}.force_direction.mha", Limits(), "moving")
        frames.append(Volume(frame.data, fixed.grid))
        pairs = [
            np.loadtxt(folder / f"pairs_exhMaster_{cycle}_{part}.csv", delimiter=",", skiprows=1)
            for part in ("liver", "outside")
        ]
        places = [rows[:, :3] * LPS for rows in pairs]
        scores.append(_tre([rows[:, 3:6] * LPS for rows in pairs]))
    points = WorldPoints(np.concatenate(places))
    reference = Reference(fixed, points=points)
    return Series(f"liver, dataset{subject}, TRE in / out", reference, "fixed", frames, scores)


def _tre(there: Sequence[np.ndarray]) -> Score:
    """Of the landmarks inside and outside the liver."""

    def score(answer: Tracked) -> str:
        assert answer.points is not None
        moved, start, errors = answer.points.positions_mm, 0, []
        for part in there:
            errors.append(np.linalg.norm(moved[start : start + len(part)] - part, axis=1).mean())
            start += len(part)
        return " / ".join(f"{error:.2f}" for error in errors)

    return score


def heart(data: Path) -> Series:
    """Labels of the frame at rest go to the others; compared with what greedy carried over."""
    folder = data / "heart_tee_4d"
    images = nib.load(folder / "greedy_img4d.nii.gz")
    labels = nib.load(folder / "greedy_seg4d_resliced.nii.gz")
    values, segmented = np.asarray(images.dataobj), np.asarray(labels.dataobj).astype(np.uint8)
    grid = Grid(values.shape[:3], images.affine)
    volumes = [
        Volume(np.ascontiguousarray(values[..., t], np.float32), grid)
        for t in range(values.shape[3])
    ]
    rest = 4
    reference = Reference(volumes[rest], labels=Volume(segmented[..., rest].copy(), grid))
    others = [t for t in range(len(volumes)) if t != rest]
    scores = [_dice(Volume(segmented[..., t].copy(), grid)) for t in others]
    frames = [volumes[t] for t in others]
    return Series("heart, Dice with greedy's", reference, "moving", frames, scores)


def _dice(target: Volume) -> Score:
    def score(answer: Tracked) -> str:
        assert answer.warped_labels is not None
        return f"{np.mean(list(dice(target, answer.warped_labels).values())):.3f}"

    return score


def show_series(series: Series, engine: Engine, options: RegisterOptions, rounds: int) -> None:
    """One line a frame: from nothing in the first round, then warm round after round."""
    print(f"\n{series.name}: score, local correlation, steps, ms")
    for warm in (False, True):
        tracker = _tracker(series, engine, options, warm_start=warm)
        for turn, number in _turns(len(series.frames), rounds if warm else 1):
            begun = time.perf_counter()
            answer = tracker.step(series.frames[number])
            ms = 1e3 * (time.perf_counter() - begun)
            how = "warm" if answer.is_warm else "cold"
            print(
                f"  {how} round {turn} frame {number}: {series.scores[number](answer)}  "
                f"{answer.similarity_before:.3f} -> {answer.similarity_after:.3f}  "
                f"{answer.steps:3d}  {ms:5.0f}  {answer.verdict.status} {' '.join(answer.warnings)}"
            )


def _turns(frames: int, rounds: int) -> Iterator[tuple[int, int]]:
    """Forth and back, as breath and beat go."""
    for turn in range(rounds):
        order = range(frames) if turn % 2 == 0 else range(frames - 1, -1, -1)
        for number in order:
            yield turn, number


def _tracker(
    series: Series, engine: Engine, options: RegisterOptions, *, warm_start: bool
) -> Tracker:
    reference = series.reference
    wanted = Wanted(
        field="none",
        points=reference.points is not None,
        warped_labels=reference.labels is not None,
    )
    grid = series.frames[0].grid
    return Tracker(
        reference,
        grid,
        engine,
        options,
        role=series.role,
        wanted=wanted,
        warm_start=warm_start,
    )


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--only", choices=("steps", "series"))
    parser.add_argument("--refine", default="fast")
    chosen = parser.parse_args()
    engine, options = ModelFolder().load("discrete"), RegisterOptions(refine=chosen.refine)
    if chosen.only != "series":
        show_steps(engine, options, chosen.frames)
    if chosen.only != "steps":
        for series in (
            liver(chosen.data, 18, ("cyc_1_10", "cyc_3_10")),
            liver(chosen.data, 19, ("cyc_1_6", "cyc_1_9")),
            heart(chosen.data),
        ):
            show_series(series, engine, options, chosen.rounds)


if __name__ == "__main__":
    main()
