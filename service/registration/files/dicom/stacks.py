"""From frames to volumes: which of them lie on one another, and in which order.

Frames of one kind and one direction are a stack. Where several lie in each place, as in a series
over time, an attribute that tells them apart, or else their order, splits the stack.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from service.errors import DuplicateSlicesError, MixedSeriesError
from service.registration.files.dicom.frames import Frame, number

SAME_DIRECTION = 1 - 2e-5  # cosine: a third of a degree
SAME_PLACE_MM = 1e-2
MOST_DIRECTIONS = 500  # of one kind; radial scans have dozens


@dataclass(frozen=True)
class Stack:
    """The frames of one volume, along its normal."""

    frames: tuple[Frame, ...]
    apart: tuple[tuple[str, str], ...] = ()

    @property
    def first(self) -> Frame:
        return self.frames[0]

    @property
    def distances_mm(self) -> np.ndarray:
        """Along the normal, from the first frame."""
        normal = self.first.normal
        along = np.array([np.dot(frame.position, normal) for frame in self.frames])
        return np.asarray(along - along[0])


def stacks_of(frames: Iterable[Frame]) -> list[Stack]:
    """Every volume that the frames make, in the order in which they came.

    Raises:
        DuplicateSlicesError: If frames share their places and nothing tells volumes apart.
        MixedSeriesError: If they lie in too many directions.
    """
    alike: dict[object, _Directions] = defaultdict(_Directions)
    for frame in frames:
        alike[frame.kind].add(frame)
    return [
        stack
        for directions in alike.values()
        for group in directions.groups
        for stack in _split(group)
    ]


class _Directions:
    """Frames of one kind, those of one direction together."""

    def __init__(self) -> None:
        self.groups: list[list[Frame]] = []
        self._known = np.empty((0, 2, 3))

    def add(self, frame: Frame) -> None:
        turned = np.reshape(frame.orientation, (1, 2, 3))
        cosines = np.einsum("nij,nij->ni", self._known, np.broadcast_to(turned, self._known.shape))
        same = np.flatnonzero((cosines >= SAME_DIRECTION).all(axis=1))
        if len(same):
            self.groups[same[0]].append(frame)
            return
        if len(self.groups) == MOST_DIRECTIONS:
            raise MixedSeriesError(
                f"The slices of one series lie in more than {MOST_DIRECTIONS} directions."
            )
        self.groups.append([frame])
        self._known = np.concatenate([self._known, turned])


def _split(group: list[Frame]) -> list[Stack]:
    places = _places(group)
    counts = [len(place) for place in places]
    if max(counts) == 1:
        return [Stack(tuple(place[0] for place in places))]
    if stacks := _split_by_attributes(group):
        return stacks
    if min(counts) != max(counts):
        raise DuplicateSlicesError(
            f"{sum(count > 1 for count in counts)} of {len(counts)} slices are there more than "
            "once, and nothing tells which of them belong together. Send each slice once."
        )
    ordered = [sorted(place, key=lambda frame: frame.order) for place in places]
    return [
        Stack(tuple(place[n] for place in ordered), (("volume", str(n + 1)),))
        for n in range(counts[0])
    ]


def _split_by_attributes(group: Sequence[Frame]) -> list[Stack]:
    """The stacks that the first few attributes make; none if slices still share their places."""
    names: list[str] = []
    for name in dict(item for frame in group for item in frame.apart):
        if len({dict(frame.apart).get(name, "") for frame in group}) < 2:
            continue
        names.append(name)
        parts: dict[tuple[str, ...], list[Frame]] = defaultdict(list)
        for frame in group:
            values = dict(frame.apart)
            parts[tuple(values.get(name, "") for name in names)].append(frame)
        placed = {values: _places(part) for values, part in parts.items()}
        if all(len(place) == 1 for places in placed.values() for place in places):
            return [
                Stack(tuple(place[0] for place in places), tuple(zip(names, values, strict=True)))
                for values, places in sorted(placed.items(), key=lambda item: _numeric(item[0]))
            ]
    return []


def _numeric(values: tuple[str, ...]) -> tuple[tuple[float, str], ...]:
    """Sorts 9 before 10, and words after numbers."""
    return tuple((number(value, np.inf), value) for value in values)


def _places(group: Sequence[Frame]) -> list[list[Frame]]:
    """The frames by place along the normal, in its direction."""
    normal = group[0].normal
    along = sorted(((float(np.dot(f.position, normal)), n) for n, f in enumerate(group)))
    places: list[list[Frame]] = []
    last = -np.inf
    for distance, n in along:
        if distance - last > SAME_PLACE_MM:
            places.append([])
        places[-1].append(group[n])
        last = distance
    return places
