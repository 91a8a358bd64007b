"""Good DICOM files, changed: whatever comes of it is a volume or an error of ours.

    nice python -m tests.fuzz.dicom 100000 [--seed 1]

Runs so many executions of gate, headers, geometry, pixels and report, in processes of 2,000 each,
so that a decoder that takes its process with it is counted and not the end of it.
"""

import argparse
import json
import logging
import random
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from service.errors import InternalError, WarplineError
from service.registration.files.dicom.inspecting import report_on
from service.registration.files.dicom.objects_read import label_map, marks
from service.registration.files.dicom.origin import origin_of
from service.registration.files.dicom.reading import chosen, find_volumes, read_stack
from service.registration.files.limits import Limits
from service.registration.grid import Grid
from tests.fuzz.dicom_seeds import Seed, seeds

LIMITS = Limits(max_voxels=1 << 16, max_axis=1024, max_bytes=1 << 18)
GRID = Grid((6, 5, 4), np.diag([-1.0, -1.0, 2.0, 1.0]))
BATCH = 2000
SPECIAL = [
    b"", b"\0", b"0", b"-1 ", b"nan ", b"inf ", b"1e309 ", b"1\\2\\3 ", b"\xff\xff\xff\xff",
    b"\xfe\xff\x00\xe0\xff\xff\xff\xff", b"\xfe\xff\xdd\xe0\0\0\0\0", b"\x80", b"9" * 40,
    b"\xe0\x7f\x10\x00", b"../../x ", b"\x1b$B\xff", b"Infinity",
]  # fmt: skip


@dataclass(frozen=True)
class Change:
    """One mutation: what, where (a share of the file or of its elements), with which bytes."""

    kind: str
    at: float
    to: float
    data: bytes


KINDS = ("flip", "cut", "insert", "remove", "double", "swap", "length", "value", "type", "move")


def random_change(rng: random.Random) -> Change:
    """Any of them."""
    size = rng.choice((1, 1, 2, 4, 8, 30))
    data = rng.choice(SPECIAL) if rng.random() < 0.5 else rng.randbytes(size)
    return Change(rng.choice(KINDS), rng.random(), rng.random(), data)


def changed(seed: Seed, changes: list[Change]) -> bytes:
    """The seed's bytes after the changes, which know where its elements begin."""
    parts = list(seed.parts)
    content = None
    for change in changes:
        if content is None and change.kind in ELEMENTWISE:
            ELEMENTWISE[change.kind](parts, change)
            continue
        content = b"".join(parts) if content is None else content
        content = _bytewise(content, change)
    return b"".join(parts) if content is None else content


def _bytewise(content: bytes, change: Change) -> bytes:
    at = int(change.at * len(content))
    if change.kind == "cut":
        return content[:at]
    if change.kind == "insert":
        return content[:at] + change.data + content[at:]
    if change.kind == "remove":
        return content[:at] + content[at + max(1, len(change.data)) :]
    return content[:at] + change.data + content[at + len(change.data) :]


def _double(parts: list[bytes], change: Change) -> None:
    at = int(change.at * len(parts))
    parts.insert(int(change.to * len(parts)), parts[at])


def _drop(parts: list[bytes], change: Change) -> None:
    if len(parts) > 2:
        del parts[1 + int(change.at * (len(parts) - 1))]


def _swap(parts: list[bytes], change: Change) -> None:
    one, two = int(change.at * len(parts)), int(change.to * len(parts))
    parts[one], parts[two] = parts[two], parts[one]


def _header(part: bytes) -> int:
    return 12 if part[4:6] in (b"OB", b"OW", b"SQ", b"UN", b"UT") else 8


def _length(parts: list[bytes], change: Change) -> None:
    """Another length than the value has."""
    at = int(change.at * len(parts))
    part, size = parts[at], 4 if _header(parts[at]) == 12 else 2
    start = _header(part) - size
    parts[at] = part[:start] + (change.data + bytes(size))[:size] + part[start + size :]


def _value(parts: list[bytes], change: Change) -> None:
    """Another value, with a length that fits it."""
    at = int(change.at * len(parts))
    part, start = parts[at], _header(parts[at])
    size = 4 if start == 12 else 2
    data = change.data + b" " * (len(change.data) % 2)
    parts[at] = part[: start - size] + len(data).to_bytes(size, "little") + data


def _type(parts: list[bytes], change: Change) -> None:
    at = int(change.at * len(parts))
    vrs = b"AEASCSDADSDTFDFLISLOLTOBOWPNSHSLSQSSSTTMUIULUNUSUT"
    vr = 2 * int(change.to * (len(vrs) // 2))
    parts[at] = parts[at][:4] + vrs[vr : vr + 2] + parts[at][6:]


ELEMENTWISE = {
    "double": _double, "remove": _drop, "swap": _swap, "move": _swap, "length": _length,
    "value": _value, "type": _type,
}  # fmt: skip


def run_once(files: list[Path]) -> str:
    """The code of the refusal, or `read`.

    Raises:
        AssertionError: If an answer is not one.
        Exception: If something escaped: a defect.
    """
    try:
        report_on(files, LIMITS)
        found = find_volumes(files)
        stack = chosen(found, "1")
        volume = read_stack(found, stack, LIMITS, [])
        json.dumps(origin_of(stack, found.headers).to_json())
        assert np.isfinite(volume.data).all()
        assert volume.data.shape == volume.grid.shape
    except InternalError:
        raise
    except WarplineError as error:
        if "Doe" in str(error.problem()):
            raise AssertionError("the patient's name is in an answer") from None
        return error.slug
    return "read"


def run_objects(files: list[Path]) -> str:
    """The same for labels and points."""
    told = []
    for read in (lambda: label_map(files, GRID, []), lambda: marks(files)):
        try:
            read()
            told.append("read")
        except InternalError:
            raise
        except WarplineError as error:
            told.append(error.slug)
    return "read" if "read" in told else told[0]


def run(count: int, seed: int, folder: Path) -> Counter[str]:
    """So many executions; defects are printed and counted as `DEFECT`."""
    rng, outcomes = random.Random(seed), Counter[str]()
    known = seeds(folder)
    path = folder / "fuzzed.dcm"
    for n in range(count):
        one = rng.choice(known)
        content = changed(one, [random_change(rng) for _ in range(rng.choice((1, 1, 2, 3, 6)))])
        path.write_bytes(content)
        try:
            outcome = run_objects([path]) if one.is_object else run_once([path, *one.beside])
        except Exception:
            outcome = "DEFECT"
            traceback.print_exc()
            print(f"seed {seed}, execution {n}, {one.name}", file=sys.stderr)
        outcomes[outcome] += 1
    return outcomes


def main() -> int:
    """Fuzz, batch by batch; 1 if anything escaped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--batch", action="store_true")
    asked = parser.parse_args()
    if asked.batch:
        warnings.simplefilter("ignore")
        logging.disable()
        with TemporaryDirectory() as folder:
            print(json.dumps(run(asked.count, asked.seed, Path(folder))))
        return 0
    total, started = Counter[str](), time.monotonic()
    for first in range(0, asked.count, BATCH):
        size = min(BATCH, asked.count - first)
        command = [sys.executable, "-m", "tests.fuzz.dicom", str(size), "--batch"]
        command += ["--seed", str(asked.seed * 1_000_000 + first)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
        lines = done.stdout.splitlines()
        total.update(json.loads(lines[-1]) if done.returncode == 0 and lines else {"DIED": 1})
    for outcome, count in total.most_common():
        print(f"{count:8d} {outcome}")
    print(f"{sum(total.values())} executions in {time.monotonic() - started:.0f} s")
    return int(total["DEFECT"] + total["DIED"] > 0)


if __name__ == "__main__":
    raise SystemExit(main())
