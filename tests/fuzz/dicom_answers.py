"""How long each malformed file and series waits for its answer: what is asked for is two seconds.

    python -m tests.fuzz.dicom_answers [--rounds 3]

Each is read as a request's files are, by a process of its own that is started for it, and has to
get the code that the tests say. Prints the distribution of the wall time; 1 if a code is another
one, or an answer took longer.
"""

import argparse
import statistics
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from service.errors import WarplineError
from service.registration.files.dicom.source import read_dicom
from service.registration.files.limits import Limits
from tests.dicom_malformed import all_files
from tests.dicom_malformed_series import SERIES

LIMITS = Limits(max_voxels=1 << 20, max_axis=1024, max_bytes=8 << 20)
WANTED_S = 2.0
SLOWEST = 5


def cases(folder: Path) -> Iterator[tuple[str, Path, str]]:
    """Name, where it lies, and the code of its refusal; none if it can be read."""
    for name, (content, code) in all_files().items():
        (folder / name).mkdir()
        (folder / name / "one.dcm").write_bytes(content)
        yield name, folder / name, code
    for name, (make, code) in SERIES.items():
        make(folder / f"series-{name}")
        yield f"series {name}", folder / f"series-{name}", code


def answered(path: Path) -> tuple[str, float]:
    """The code, and the seconds that passed."""
    started = time.perf_counter()
    code = ""
    try:
        read_dicom(path, LIMITS)
    except WarplineError as error:
        code = error.slug
    return code, time.perf_counter() - started


def main() -> int:
    """Ask about each, in turns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # of the library that writes the series
    took: dict[str, list[float]] = {}
    wrong = []
    with TemporaryDirectory() as folder:
        known = list(cases(Path(folder)))
        for _ in range(asked.rounds):
            for name, path, code in known:
                got, seconds = answered(path)
                took.setdefault(name, []).append(seconds)
                if got != code:
                    wrong.append(f"{name}: {got or 'read'} instead of {code or 'read'}")
    everything = sorted(one for times in took.values() for one in times)
    shares = statistics.quantiles(everything, n=100, method="inclusive")
    print(f"{len(took)} cases, {len(everything)} answers, seconds: median {shares[49]:.2f}, "
          f"p95 {shares[94]:.2f}, p99 {shares[98]:.2f}, max {everything[-1]:.2f}")  # fmt: skip
    for name, times in sorted(took.items(), key=lambda one: -max(one[1]))[:SLOWEST]:
        print(f"{max(times):6.2f}  {name}")
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return int(bool(wrong) or everything[-1] > WANTED_S)


if __name__ == "__main__":
    raise SystemExit(main())
