"""What the bridge needs of a live session. Arrays have axes k, j, i; places are RAS+ mm."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float

from service.igtl.frames import Frame
from service.registration.grid import Matrix4

Verdict = Literal["pass", "warn", "fail"]
Role = Literal["fixed", "moving"]


@dataclass(frozen=True, eq=False)
class Placed:
    """An array and where it lies."""

    voxels: np.ndarray  # axes k, j, i, or k, j, i, component
    affine: Matrix4


@dataclass(frozen=True, eq=False)
class Answer:
    """What a session says about a frame."""

    number: int
    verdict: Verdict
    reasons: tuple[str, ...]
    latency_ms: float
    motion_median_mm: float
    motion_max_mm: float
    affine: Matrix4  # fixed to moving
    rigid: Matrix4  # the rigid motion nearest to it
    points_mm: Float[np.ndarray, "n 3"] | None = None
    field: Placed | None = None
    warped_image: Placed | None = None
    warped_labels: Placed | None = None


@dataclass(frozen=True)
class Unanswered:
    """Frames that will have no answer: overtaken by newer ones, or refused with a reason."""

    count: int
    code: str = ""
    reason: str = ""


class Session(Protocol):
    """A live session that is open."""

    def send(self, number: int, frame: Frame) -> None:
        """Hand a frame over, numbers going up. Blocks while the session takes no more."""
        ...

    def events(self) -> Iterator[Answer | Unanswered]:
        """What comes back, until `close`. Raises what ended the session otherwise."""
        ...

    def close(self) -> None:
        """End the session; `events` ends."""
        ...


class Opener(Protocol):
    """Opens a session for frames like this one."""

    def __call__(self, first: Frame) -> Session: ...
