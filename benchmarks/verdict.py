"""How often the verdict finds a planted failure, and how often it warns of a good pair.

    python -m benchmarks.verdict --data FOLDER [--sets brain lung] [--pairs 2] [--voxels 120000]
    python -m benchmarks.verdict --data FOLDER --stage affine [--kinds flipped]
    python -m benchmarks.verdict --records FILE

Each pair of the shared sets is registered as it is, as a known motion of its fixed image, and with
every failure of `planted` in it; with the defaults, by the stages of the service, in memory. Image
failures are judged without labels, so they have to be seen in the images; labels, with both maps.
`--stage affine` stops after the affine and judges on what it alone tells, in a tenth of the time.
`--voxels` makes larger images coarser first, since the measures look at coarse copies anyway.

Evidence is kept in a file of records, one JSON object a line; `--records` judges kept ones again,
which is how a threshold is tried. Thresholds were chosen on the pairs of even number (`chosen on`);
what is found on the odd ones (`held out`) is what can be expected. A pair that the service refuses
counts as found. Flagged is warn or fail; failed is fail or refused.
"""

import argparse
import json
import random
from collections import defaultdict
from collections.abc import Container, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from benchmarks.planted import planted
from benchmarks.verdict_pairs import Sample, known_motion, samples
from service.errors import WarplineError
from service.registration.alignment import align, prepare
from service.registration.baseline import Baseline
from service.registration.engine import Engine
from service.registration.evidence import Evidence
from service.registration.initialise import initialise
from service.registration.measure import evidence, measure, scales
from service.registration.models_folder import ModelFolder
from service.registration.options import RegisterOptions
from service.registration.pair import Pair, require_contrast
from service.registration.plausibility import plausibility
from service.registration.prepared import COMPARED_VOXELS
from service.registration.products import produce
from service.registration.progress import StageClock, unwatched
from service.registration.quality import judge
from service.registration.regularity import regularity
from service.registration.resample import downsample, resample
from service.registration.scouted import Scouted
from service.registration.tempering import tempered
from service.registration.volume import Volume

DATA = Path(__file__).parents[2] / "shared" / "data"
LABELS = "labels"
GOOD = "good"


@dataclass(frozen=True)
class Record:
    """What is known of one run: what was sent, and the evidence or why it was refused."""

    category: str
    name: str
    number: int
    kind: str
    how: str
    evidence: dict[str, object] | None
    refused: str | None

    def verdict(self) -> tuple[str, list[str]]:
        """Status and codes."""
        if self.evidence is None:
            return "refused", [self.refused or ""]
        known = {part.name for part in fields(Evidence)}
        found = judge(Evidence(**{k: v for k, v in self.evidence.items() if k in known}))  # type: ignore[arg-type]
        return found.status, found.codes


def coarser(sample: Sample, voxels: int) -> Sample:
    """Images of no more than about so many voxels, labels with them."""

    def small(volume: Volume | None, *, is_map: bool = False) -> Volume | None:
        if volume is None or volume.grid.voxel_count <= 1.25 * voxels:
            return volume
        grid = volume.grid.coarsened(voxels)
        return (
            resample(volume, grid, interpolation="nearest") if is_map else downsample(volume, grid)
        )

    pair = sample.pair
    fixed, moving = small(pair.fixed), small(pair.moving)
    assert fixed is not None
    assert moving is not None
    maps = (small(part, is_map=True) for part in (pair.fixed_labels, pair.moving_labels))
    return replace(sample, pair=Pair(fixed, moving, *maps))


def tasks(
    sample: Sample, number: int, others: list[Sample], kinds: Container[str] | None = None
) -> Iterator[tuple[str, str, Sample]]:
    """Kind, how, and the pair: the good ones, then every failure of the kinds that are named."""
    bare = replace(sample, pair=Pair(sample.pair.fixed, sample.pair.moving))
    yield GOOD, "real, images only", bare
    if sample.pair.fixed_labels is not None:
        yield GOOD, "real, with labels", sample
    yield GOOD, "known motion", known_motion(sample, number)
    for found in planted(sample, number, others, kinds):
        pair = found.sample.pair
        if found.kind != LABELS:
            pair = Pair(pair.fixed, pair.moving)
        yield found.kind, found.how, replace(found.sample, pair=pair)


def aligned(pair: Pair) -> Evidence:
    """What the affine alone tells."""
    require_contrast(pair)
    affine = initialise(pair.fixed, pair.moving, "affine")
    seen = [
        Scouted(downsample(tempered(image), image.grid.coarsened(COMPARED_VOXELS)))
        for image in (pair.fixed, pair.moving)
    ]
    return Evidence(
        **plausibility(*seen, affine, pair.fixed_labels, pair.moving_labels),
        affine_scales=scales(pair.initial, affine),
        # Nothing is said of what only a deformation shows.
        ncc_before=0.0,
        ncc_after=1.0,
    )


def register(pair: Pair, engine: Engine) -> Evidence:
    """The stages of the service from the read pair to the evidence, by its defaults."""
    options = RegisterOptions()
    require_contrast(pair)
    prepared = prepare(pair, options, engine)
    with ThreadPoolExecutor(1) as beside:
        baseline = Baseline(pair, prepared, options, beside)
        place = baseline.place
        alignment = align(prepared, options, engine, StageClock(), [], placed=place)
        products = produce(pair, alignment, options)
        shape = regularity(products.ddf, pair.fixed_mask)
        metrics = measure(baseline, alignment, products, shape, unwatched)
    return evidence(metrics, pair, alignment.affine)


def run(chosen: argparse.Namespace) -> Iterator[Record]:
    """Every task of the chosen pairs, one set after the other in turns."""
    found = [coarser(sample, chosen.voxels) for sample in samples(chosen.data)]
    engine = ModelFolder().load(RegisterOptions().model)
    for number, sample in _in_turns(found, chosen):
        for kind, how, task in tasks(sample, number, found, chosen.kinds):
            told, refused = None, None
            try:
                is_whole = chosen.stage == "whole"
                told = asdict(register(task.pair, engine) if is_whole else aligned(task.pair))
            except WarplineError as error:
                refused = error.slug
            yield Record(sample.category, sample.name, number, kind, how, told, refused)


def _in_turns(found: list[Sample], chosen: argparse.Namespace) -> Iterator[tuple[int, Sample]]:
    """A pair of each set, then the next of each, shuffled; so that a run cut short is fair."""
    sets: dict[str, list[tuple[int, Sample]]] = defaultdict(list)
    for sample in found:
        if not chosen.sets or sample.category in chosen.sets:
            sets[sample.category].append((len(sets[sample.category]), sample))
    for pairs in sets.values():
        random.Random(1).shuffle(pairs)  # noqa: S311 - an order, no secret
    for turn in range(chosen.pairs):
        for pairs in sets.values():
            if turn < len(pairs):
                yield pairs[turn]


def show(records: list[Record]) -> None:
    """Two tables: what was found of each kind, and what was said of good pairs."""
    halves = {"chosen on": 0, "held out": 1}
    print(
        "| kind | how | " + " | ".join(halves) + " | failed | codes |\n|---|---|---:|---:|---:|---|"
    )
    kinds: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        kinds[record.kind, record.how].append(record)
        kinds[record.kind, "all"].append(record)
    for (kind, how), rows in sorted(kinds.items(), key=lambda part: (part[0][0] != GOOD, part[0])):
        _row(kind, how, rows, halves.values())
    sets: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        sets[record.category].append(record)
    print(
        "\n| set | good pairs | flagged | planted | flagged | missed |"
        "\n|---|---:|---:|---:|---:|---|"
    )
    for category, rows in sets.items():
        good = [row for row in rows if row.kind == GOOD]
        bad = [row for row in rows if row.kind not in (GOOD, "other contrast")]
        missed = sorted({f"{row.kind}: {row.how}" for row in bad if not _flagged(row)})
        counts = [len(good), sum(map(_flagged, good)), len(bad), sum(map(_flagged, bad))]
        print(f"| {category} | " + " | ".join(map(str, counts)) + f" | {'; '.join(missed)} |")


def _flagged(record: Record) -> bool:
    return record.verdict()[0] != "pass"


def _row(kind: str, how: str, rows: list[Record], halves: Iterable[int]) -> None:
    shares = []
    for half in halves:
        part = [row for row in rows if row.number % 2 == half]
        shares.append(f"{sum(map(_flagged, part))}/{len(part)}")
    failed = sum(row.verdict()[0] in ("fail", "refused") for row in rows)
    codes: dict[str, int] = defaultdict(int)
    for row in rows:
        for code in set(row.verdict()[1]):
            codes[code] += 1
    often = sorted(codes.items(), key=lambda part: -part[1])[:4]
    named = ", ".join(f"{code} {count}" for code, count in often)
    print(f"| {kind} | {how} | " + " | ".join(shares) + f" | {failed}/{len(rows)} | {named} |")


def main() -> None:
    """Run and keep, or judge kept records again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--sets", nargs="*")
    parser.add_argument("--pairs", type=int, default=100, help="of each set at most")
    parser.add_argument("--stage", choices=["whole", "affine"], default="whole")
    parser.add_argument("--kinds", nargs="*", help="only these failures; good pairs always")
    parser.add_argument("--voxels", type=int, default=10**9)
    parser.add_argument("--keep", type=Path, help="write the records here as they come")
    parser.add_argument("--records", type=Path, nargs="*", help="judge these instead of running")
    chosen = parser.parse_args()
    if chosen.records:
        lines = [line for path in chosen.records for line in path.read_text().splitlines()]
        show([Record(**json.loads(line)) for line in lines])
        return
    records = []
    for record in run(chosen):
        records.append(record)
        if chosen.keep:
            with chosen.keep.open("a") as file:
                file.write(json.dumps(asdict(record)) + "\n")
    show(records)


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
