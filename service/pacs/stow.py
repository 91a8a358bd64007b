"""STOW-RS: objects in one request, and what the answer says about each.

Source: DICOM PS3.18 section 10.5, annex I; PS3.4 B.2.3 for the failure reasons.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from service.pacs.objects import Sending

MOST_OBJECTS, MOST_BYTES = 64, 32 << 20
CHUNK = 1 << 20
STORED, FAILED = "00081199", "00081198"
INSTANCE, REASON = "00081155", "00081197"
HEAD = "--{boundary}\r\nContent-Type: application/dicom\r\n\r\n"
FOOT = "\r\n--{boundary}--\r\n"
# Out of resources, processing failure, resource limitation: another time it may go.
PASSING = frozenset({0x0110, 0x0213, *range(0xA700, 0xA800)})


@dataclass(frozen=True)
class Batch:
    """Objects of one request."""

    objects: tuple[Sending, ...]

    def without(self, uids: set[str]) -> "Batch":
        """Those that are still to be sent."""
        return Batch(tuple(one for one in self.objects if one.meta.uid not in uids))

    def length(self, boundary: str) -> int:
        """Bytes of the body."""
        heads = len(self._head(boundary)) * len(self.objects) + 2 * (len(self.objects) - 1)
        files = sum(one.path.stat().st_size for one in self.objects)
        return heads + files + len(FOOT.format(boundary=boundary))

    def body(self, boundary: str, tick: Callable[[], None]) -> Iterator[bytes]:
        """The body, a chunk at a time."""
        for n, one in enumerate(self.objects):
            yield (b"\r\n" if n else b"") + self._head(boundary)
            with one.path.open("rb") as file:
                while chunk := file.read(CHUNK):
                    tick()
                    yield chunk
        yield FOOT.format(boundary=boundary).encode()

    @staticmethod
    def _head(boundary: str) -> bytes:
        return HEAD.format(boundary=boundary).encode()


def batches(objects: Sequence[Sending]) -> Iterator[Batch]:
    """The objects in requests of bounded size; a large one goes alone."""
    held: list[Sending] = []
    size = 0
    for one in objects:
        bytes_ = one.path.stat().st_size
        if held and (len(held) == MOST_OBJECTS or size + bytes_ > MOST_BYTES):
            yield Batch(tuple(held))
            held, size = [], 0
        held.append(one)
        size += bytes_
    if held:
        yield Batch(tuple(held))


@dataclass(frozen=True)
class Kept:
    """UIDs that the archive says it keeps, and those that it never will."""

    kept: set[str] = field(default_factory=set, repr=False)
    refused: set[str] = field(default_factory=set, repr=False)


def kept_of(answer: Any) -> Kept:
    """The answer's word about each object; what it does not name is in neither set."""
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    kept = {_value(item, INSTANCE) for item in _items(answer, STORED)}
    refused = {
        _value(item, INSTANCE)
        for item in _items(answer, FAILED)
        if _number(_value(item, REASON)) not in PASSING
    }
    return Kept(kept - {None}, refused - {None})


def _items(answer: Any, tag: str) -> list[Any]:
    element = answer.get(tag) if isinstance(answer, dict) else None
    value = element.get("Value") if isinstance(element, dict) else None
    return value if isinstance(value, list) else []


def _value(item: Any, tag: str) -> Any:
    element = item.get(tag) if isinstance(item, dict) else None
    value = element.get("Value") if isinstance(element, dict) else None
    return value[0] if isinstance(value, list) and value else None


def _number(value: Any) -> int:
    """A reason that cannot be read counts as passing: it is asked again, not given up."""
    return value if isinstance(value, int) else 0x0110
