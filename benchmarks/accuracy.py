"""What each stage of the pipeline reaches and costs on the shared real pairs, in this process.

    python benchmarks/accuracy.py [SET ...] [--data FOLDER] [--efforts fast best 2.0]
                                    [--model NAME | --no-network] [--remap inverted|t2|sine]
                                    [--pairs N]

A set is a category: brain_malf35, hippocampus_msd, liver_4dmri_eth, lung_ct_elastix, or one of
prostate_mr_trus, brain_ms_longitudinal, heart_tee_4d, brain_voxelmorph, mr_ct (`accuracy_cases`).
The measure is Dice over the labels of the fixed image, or TRE in mm over landmarks; seconds are of
the wall clock, after a warm-up run; folding is by central differences (`fold`) and as
non-diffeomorphic volume (`ndv`), both in percent of the field's own grid; SDlogJ is of that grid.
Prostates are measured by the gland. `--remap` changes the grey values of the moving image.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.accuracy_cases import REMAPS, Case, cases, remapped
from service.registration.fields import Affine, DisplacementField
from service.registration.initialise import initialise
from service.registration.refine import refine
from service.registration.regularity import regularity
from service.registration.volume import Volume

DATA = Path(__file__).parents[2] / "shared" / "data"

Predict = Callable[[Volume, Volume, Affine], DisplacementField]


@dataclass(frozen=True)
class Row:
    """What one stage reached on one pair."""

    stage: str
    value: float
    seconds: float
    fold_percent: float
    ndv_percent: float
    sdlogj: float


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
    parser.add_argument("--remap", choices=list(REMAPS))
    parser.add_argument("--pairs", type=int, help="only the first ones of each set")
    chosen = parser.parse_args()
    predict = None if chosen.no_network else _network(chosen.model)
    warm = False
    for category in chosen.sets:
        table = []
        for found in itertools.islice(cases(category, chosen.data), chosen.pairs):
            case = found if chosen.remap is None else remapped(found, chosen.remap)
            if not warm:
                run(case, predict, chosen.efforts)
                warm = True
            table.append(run(case, predict, chosen.efforts))
            _print(case.name, table[-1])
        _summary(category, table)


if __name__ == "__main__":
    main()
