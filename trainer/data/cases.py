"""What a data set consists of, before any voxel is read."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from service.errors import TrainingDataError

Kind = Literal["image", "labels", "points", "mask"]
KINDS: tuple[Kind, ...] = ("image", "labels", "points", "mask")


@dataclass(frozen=True)
class Source:
    """One thing to read: a file, or a data set in an HDF5 file.

    `name` is what messages call it: the path relative to the data root, and the key.
    """

    path: Path
    name: str
    key: str | None = None

    @property
    def identity(self) -> str:
        """Changes when the file does: its place, length and time of change."""
        stat = self.path.stat()
        return f"{self.name}|{self.key}|{stat.st_size}|{stat.st_mtime_ns}"


@dataclass(frozen=True)
class Case:
    """An image and what belongs to it. Splits never part a group."""

    name: str
    group: str
    image: Source
    labels: Source | None = None
    points: Source | None = None
    mask: Source | None = None
    split: str | None = None

    def sources(self) -> dict[Kind, Source]:
        """What there is, by kind."""
        found = {kind: getattr(self, kind) for kind in KINDS}
        return {kind: source for kind, source in found.items() if source is not None}


@dataclass(frozen=True)
class Index:
    """Cases in order; `pairs` (fixed, moving) where they come in pairs."""

    cases: tuple[Case, ...]
    pairs: tuple[tuple[int, int], ...] = ()

    def groups(self) -> dict[str, list[int]]:
        """Numbers of cases by group, groups and cases by name."""
        found: dict[str, list[int]] = {}
        for number in sorted(range(len(self.cases)), key=lambda n: self.cases[n].name):
            found.setdefault(self.cases[number].group, []).append(number)
        return dict(sorted(found.items()))

    def kept(self, groups: set[str]) -> "Index":
        """The cases of some groups."""
        numbers = [n for n, case in enumerate(self.cases) if case.group in groups]
        return self.picked(numbers)

    def picked(self, numbers: list[int]) -> "Index":
        """Some of the cases, and the pairs that lie among them."""
        place = {number: n for n, number in enumerate(numbers)}
        pairs = [(place[f], place[m]) for f, m in self.pairs if f in place and m in place]
        return Index(tuple(self.cases[n] for n in numbers), tuple(pairs))


def joined(parts: list[Index]) -> Index:
    """Several indices as one."""
    cases: list[Case] = []
    pairs: list[tuple[int, int]] = []
    for part in parts:
        pairs += [(f + len(cases), m + len(cases)) for f, m in part.pairs]
        cases += part.cases
    return Index(tuple(cases), tuple(pairs))


@dataclass
class Problems:
    """Everything that is wrong with the data, gathered before it is told."""

    found: list[dict[str, str]] = field(default_factory=list)

    def add(self, name: str, detail: str, *, place: str | None = None) -> None:
        """Note what is wrong with a file, named relative to the root; once.

        Args:
            name: The file.
            detail: A sentence that names no file.
            place: Which row of which list named it. A service tells this instead of the name,
                which may be a patient's.
        """
        fault = {"field": name, "detail": detail}
        if not any(fault.items() <= known.items() for known in self.found):
            self.found.append(fault | ({} if place is None else {"place": place}))

    def has(self, name: str) -> bool:
        """Whether something is known to be wrong with it."""
        return any(fault["field"] == name for fault in self.found)

    def settle(self) -> None:
        """Tell all of them at once, if there are any.

        Raises:
            TrainingDataError: With `errors`, one for each file and fault.
        """
        if self.found:
            faults = "fault was" if len(self.found) == 1 else "faults were"
            raise TrainingDataError(
                f"{len(self.found)} {faults} found in the training data; `errors` lists them.",
                errors=tuple(self.found),
            )
