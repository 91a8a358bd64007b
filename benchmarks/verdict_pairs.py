"""Real pairs of the shared sets, and images moved by a known motion: what a verdict should pass."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path

import numpy as np

from service.registration.fields import Affine, DisplacementField
from service.registration.files.limits import Limits
from service.registration.files.volume_file import read_label_map, read_volume
from service.registration.grid import Grid
from service.registration.pair import Pair
from service.registration.resample import warp
from service.registration.smoothing import smooth
from service.registration.volume import Volume

LIMITS = Limits()


@dataclass(frozen=True)
class Sample:
    """A pair of one set. `is_one_person` says whether both are of one."""

    category: str
    name: str
    pair: Pair
    is_one_person: bool = False


def volume(path: Path, frame: int | None = None) -> Volume:
    """One image; one frame of a series where `frame` says which."""
    if frame is None:
        return read_volume(path, LIMITS, "fixed").as_float32()
    import nibabel

    image = nibabel.load(path)
    data = np.ascontiguousarray(np.asarray(image.dataobj)[..., frame], np.float32)
    return Volume(data, Grid(data.shape, image.affine))


def labels(path: Path) -> Volume:
    """A label map; of a stack of structures the first."""
    import nibabel

    image = nibabel.load(path)
    if len(image.shape) == 4:
        data = np.ascontiguousarray(np.asarray(image.dataobj)[..., 0] > 0.5).astype(np.uint8)
        return Volume(data, Grid(data.shape, image.affine))
    return read_label_map(path, LIMITS, "fixed_labels")


def samples(data: Path) -> Iterator[Sample]:
    """Every pair of the shared sets that is a fair task."""
    yield from _brains(data)
    yield from _hippocampi(data)
    yield from _bodies(data)
    yield from _prostates(data)
    yield from _one_head(data)
    yield from _hearts(data)


def _labelled(folder: Path, names: tuple[str, str]) -> Pair:
    fixed, moving = names
    return Pair(
        volume(folder / f"{fixed}_SS.nii.gz"),
        volume(folder / f"{moving}_SS.nii.gz"),
        labels(folder / f"{fixed}_glm.nii.gz"),
        labels(folder / f"{moving}_glm.nii.gz"),
    )


def _brains(data: Path) -> Iterator[Sample]:
    """Every two of nine; 1003 and 1023 are one person."""
    folder = data / "brain_malf35"
    found = sorted(path.name.split("_")[0] for path in folder.glob("*_SS.nii.gz"))
    for step in (1, 2, 3, 4):
        for number, fixed in enumerate(found):
            names = fixed, found[(number + step) % len(found)]
            yield Sample(
                "brain", "<-".join(names), _labelled(folder, names), names == ("1003", "1023")
            )


def _hippocampi(data: Path) -> Iterator[Sample]:
    with (data / "pairs.csv").open(newline="") as text:
        lines = [line for line in csv.DictReader(text) if line["category"] == "hippocampus_msd"]
    for line in lines:
        pair = Pair(
            volume(data / line["fixed"]),
            volume(data / line["moving"]),
            labels(data / line["fixed_ref"]),
            labels(data / line["moving_ref"]),
        )
        name = "<-".join(Path(line[role]).name[12:15] for role in ("fixed", "moving"))
        yield Sample("hippocampus", name, pair)


def _bodies(data: Path) -> Iterator[Sample]:
    lung = data / "lung_ct_elastix"
    ends = (
        volume(lung / "3DCT_lung_baseline_small.mha"),
        volume(lung / "followup_reconstructed.nii.gz"),
    )
    yield Sample("lung", "baseline<-followup", Pair(*ends), True)
    yield Sample("lung", "followup<-baseline", Pair(*ends[::-1]), True)
    for name, frames in (
        ("dataset18", ("cyc_1_10", "cyc_3_10")),
        ("dataset19", ("cyc_1_6", "cyc_1_9")),
    ):
        folder = data / "liver_4dmri_eth" / name
        fixed = volume(folder / "exhMaster_unmasked.force_direction.mha")
        for frame in frames:
            moving = volume(folder / f"{frame}.force_direction.mha")
            # One header says 5 mm between slices, its own landmarks 4.
            moving = Volume(moving.data, Grid(moving.grid.shape, fixed.grid.affine))
            yield Sample("liver", f"{name[-2:]} {frame}", Pair(fixed, moving), True)
            yield Sample("liver", f"{name[-2:]} {frame} back", Pair(moving, fixed), True)


def _prostates(data: Path) -> Iterator[Sample]:
    for folder in sorted((data / "prostate_mr_trus").glob("case*")):
        pair = Pair(
            volume(folder / "us_image.nii.gz"),
            volume(folder / "mr_image.nii.gz"),
            labels(folder / "us_labels.nii.gz"),
            labels(folder / "mr_labels.nii.gz"),
        )
        yield Sample("prostate", folder.name[-2:], pair, True)


def _one_head(data: Path) -> Iterator[Sample]:
    folder = data / "brain_ms_longitudinal" / "patient01"
    scans = {
        name: volume(folder / f"{name}.nii.gz")
        for name in ("study1_T1W", "study2_T1W", "study1_FLAIR", "study2_FLAIR")
    }
    for fixed, moving in permutations(scans, 2):
        yield Sample("head", f"{fixed}<-{moving}", Pair(scans[fixed], scans[moving]), True)
    folder = data / "multimodal_rire_cmtk"
    ct, mr = (volume(folder / f"pat002_{name}_conv.nii.gz") for name in ("ct", "mr_T2"))
    yield Sample("ct-mr", "mr<-ct", Pair(mr, ct), True)
    yield Sample("ct-mr", "ct<-mr", Pair(ct, mr), True)
    times = [volume(folder / f"vol001_mr_t{n}_conv.nii.gz") for n in (0, 1)]
    yield Sample("breast", "t0<-t1", Pair(times[0], times[1]), True)
    yield Sample("breast", "t1<-t0", Pair(times[1], times[0]), True)


def _hearts(data: Path) -> Iterator[Sample]:
    frames = [volume(data / "heart_tee_4d" / "greedy_img4d.nii.gz", n) for n in range(7)]
    for n in range(1, 7):
        yield Sample("heart", f"0<-{n}", Pair(frames[0], frames[n]), True)


def known_motion(image: Sample, seed: int) -> Sample:
    """The fixed image and itself moved: turned, shifted, bent smoothly, with noise and a gamma."""
    rng = np.random.default_rng(seed)
    fixed = image.pair.fixed
    across = float(fixed.grid.extent_mm.min())
    bend, turn = _bend(fixed.grid, across, rng), _turn(fixed.grid, across, rng)
    moved = warp(fixed, bend, fixed.grid, affine=turn, fill=float(fixed.data.min()))
    low, high = np.percentile(moved.data, (0.5, 99.5))
    shown = np.clip((moved.data - low) / max(high - low, 1e-6), 0, 1.2) ** rng.uniform(0.8, 1.25)
    shown += rng.normal(0, 0.02, shown.shape)
    pair = Pair(fixed, Volume(shown.astype(np.float32), fixed.grid))
    return Sample(image.category, f"{image.name} moved {seed}", pair, True)


def _bend(grid: Grid, across_mm: float, rng: np.random.Generator) -> DisplacementField:
    coarse = grid.resampled(across_mm / 12)
    parts = []
    for _ in range(3):
        noise = Volume(rng.normal(size=coarse.shape).astype(np.float32), coarse)
        part = smooth(noise, across_mm / 7).data
        parts.append(part / part.std() * rng.uniform(0.01, 0.025) * across_mm)
    return DisplacementField(np.ascontiguousarray(np.stack(parts, -1), np.float32), coarse)


def _turn(grid: Grid, across_mm: float, rng: np.random.Generator) -> Affine:
    from service.registration.initialise import _rotation

    linear = _rotation(np.deg2rad(rng.uniform(-8, 8, 3))) * rng.uniform(0.95, 1.05)
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    centre = grid.centre_mm
    matrix[:3, 3] = centre - linear @ centre + rng.uniform(-0.06, 0.06, 3) * across_mm
    return Affine(matrix)
