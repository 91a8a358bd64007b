"""What each stage of the pipeline reaches and costs on the shared real pairs, in this process.

    python benchmarks/accuracy.py [SET ...] [--data FOLDER] [--efforts fast best 2.0]
                                    [--model NAME | --no-network]

A set is a category: brain_malf35, hippocampus_msd, liver_4dmri_eth, lung_ct_elastix.
The measure is Dice over the labels of the fixed image, or TRE in mm over landmarks; seconds are of
the wall clock, after a warm-up run; folding is by central differences (`fold`) and as
non-diffeomorphic volume (`ndv`), both in percent of the field's own grid; SDlogJ is of that grid.
"""

import argparse
import csv
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from service.registration.fields import Affine, DisplacementField
from service.registration.files.limits import Limits
from service.registration.files.volume_file import read_label_map, read_volume
from service.registration.grid import Grid
from service.registration.initialise import initialise
from service.registration.label_metrics import dice
from service.registration.refine import refine
from service.registration.regularity import regularity
from service.registration.resample import warp_labels
from service.registration.volume import Volume

DATA = Path(__file__).parents[2] / "shared" / "data"
LPS = np.array([-1.0, -1.0, 1.0])

Predict = Callable[[Volume, Volume, Affine], DisplacementField]
Measure = Callable[[Affine, DisplacementField], float]


@dataclass(frozen=True)
class Case:
    """A pair and the way to measure a transform of it."""

    name: str
    fixed: Volume
    moving: Volume
    measure: Measure


@dataclass(frozen=True)
class Row:
    """What one stage reached on one pair."""

    stage: str
    value: float
    seconds: float
    fold_percent: float
    ndv_percent: float
    sdlogj: float


def cases(category: str, data: Path) -> Iterable[Case]:
    """The pairs of one category; a liver pair's two landmark files make two cases."""
    with (data / "pairs.csv").open(newline="") as text:
        for line in csv.DictReader(text):
            if line["category"] == category:
                yield _case(line, data)


def _case(line: dict[str, str], data: Path) -> Case:
    limits = Limits()
    fixed = read_volume(data / line["fixed"], limits, "fixed")
    moving = read_volume(data / line["moving"], limits, "moving")
    if "cyc_1_10" in line["moving"]:  # its header says 5 mm between slices; PROVENANCE.md: 4 mm
        moving = Volume(moving.data, Grid(moving.grid.shape, fixed.grid.affine))
    name = f"{Path(line['fixed']).name[:20]} <- {Path(line['moving']).name[:20]}"
    if line["fixed_ref"].endswith(".csv"):
        name += " " + Path(line["fixed_ref"]).stem.rsplit("_", 1)[-1]
        return Case(name, fixed, moving, _tre(data / line["fixed_ref"]))
    labels = [
        read_label_map(data / line[f"{role}_ref"], limits, role) for role in ("fixed", "moving")
    ]
    return Case(name, fixed, moving, _mean_dice(*labels))


def _mean_dice(fixed: Volume, moving: Volume) -> Measure:
    def measure(affine: Affine, field: DisplacementField) -> float:
        warped = warp_labels(moving, field, fixed.grid, affine=affine)
        scores = dice(fixed, warped)
        present = np.unique(fixed.data)
        return float(np.mean([scores.get(int(label), 0.0) for label in present[present > 0]]))

    return measure


def _tre(path: Path) -> Measure:
    """Mean distance over landmark pairs: LPS mm, fixed then moving."""
    rows = np.loadtxt(path, delimiter=",", skiprows=1)
    here, there = rows[:, :3] * LPS, rows[:, 3:6] * LPS

    def measure(affine: Affine, field: DisplacementField) -> float:
        moved = affine.move(field.move(here))
        return float(np.linalg.norm(moved - there, axis=1).mean())

    return measure


def run(case: Case, predict: Predict | None, efforts: list[str]) -> list[Row]:
    """Every stage on one pair; each refinement starts from the network's field."""
    nothing = DisplacementField.zero(case.fixed.grid.resampled(8.0))
    rows = [_row("start", case, Affine.identity(), nothing, 0.0)]
    begun = time.perf_counter()
    affine = initialise(case.fixed, case.moving, "affine")
    rows.append(_row("affine", case, affine, nothing, time.perf_counter() - begun))
    field = nothing
    if predict is not None:
        begun = time.perf_counter()
        field = predict(case.fixed, case.moving, affine)
        rows.append(_row("network", case, affine, field, time.perf_counter() - begun))
    for effort in efforts:
        begun = time.perf_counter()
        refined = refine(case.fixed, case.moving, affine, field, effort=_effort(effort))
        rows.append(_row(effort, case, affine, refined, time.perf_counter() - begun))
    return rows


def _effort(text: str) -> str | float:
    return text if text in ("none", "fast", "best") else float(text)


def _row(stage: str, case: Case, affine: Affine, field: DisplacementField, seconds: float) -> Row:
    found = regularity(field)
    return Row(
        stage,
        case.measure(affine, field),
        seconds,
        100 * found.folding_fraction,
        100 * found.non_diffeomorphic_volume,
        found.sdlogj,
    )


def _network(name: str) -> Predict:
    from service.registration.models_folder import ModelFolder

    return ModelFolder().load(name).predict


def _print(name: str, rows: list[Row]) -> None:
    parts = [f"{row.stage} {row.value:.4f}" for row in rows]
    print(f"{name:52s} " + "  ".join(parts), flush=True)


def _summary(category: str, table: list[list[Row]]) -> None:
    print(f"\n{category}: means over {len(table)} pairs (seconds: medians)")
    print(
        f"{'stage':10s} {'value':>8s} {'seconds':>8s} {'fold %':>8s} {'ndv %':>8s} {'SDlogJ':>8s}"
    )
    for column in zip(*table, strict=True):
        value = np.mean([row.value for row in column])
        seconds = np.median([row.seconds for row in column])
        fold = np.mean([row.fold_percent for row in column])
        ndv = np.mean([row.ndv_percent for row in column])
        sdlogj = np.median([row.sdlogj for row in column])
        figures = f"{value:8.4f} {seconds:8.2f} {fold:8.4f} {ndv:8.4f} {sdlogj:8.4f}"
        print(f"{column[0].stage:10s} {figures}")
    print()


def main() -> None:
    """Run what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="*", default=["brain_malf35", "lung_ct_elastix"])
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--efforts", nargs="*", default=["fast", "best"])
    parser.add_argument("--model", default="discrete")
    parser.add_argument("--no-network", action="store_true")
    chosen = parser.parse_args()
    predict = None if chosen.no_network else _network(chosen.model)
    warm = False
    for category in chosen.sets:
        table = []
        for case in cases(category, chosen.data):
            if not warm:
                run(case, predict, chosen.efforts)
                warm = True
            table.append(run(case, predict, chosen.efforts))
            _print(case.name, table[-1])
        _summary(category, table)


if __name__ == "__main__":
    main()
