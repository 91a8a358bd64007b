"""A client of Upload and Register that is as well or as badly behaved as a test wants it."""

import queue
import zlib
from collections.abc import Iterator
from typing import Any

from service.pb import warpline_pb2 as pb

WITHIN_S = 300.0  # all of a file, on a busy machine
_END = object()


def chunk(data: bytes, offset: int, **changes: Any) -> pb.FileChunk:
    """These bytes of a file; `changes` makes it a wrong one."""
    values: dict[str, Any] = {"offset": offset, "data": data, "crc32": zlib.crc32(data)}
    return pb.FileChunk(**values | changes)


def chunks(data: bytes, start: int = 0, size: int = 2**18) -> Iterator[pb.FileChunk]:
    """A file from one of its bytes on."""
    for offset in range(start, len(data), size):
        yield chunk(data[offset : offset + size], offset)


class Stream:
    """A call whose messages are sent one by one; a name says which part each is."""

    def __init__(self, method: Any, request: type[Any], **call: Any) -> None:
        self._sent: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._request = request
        self.call = method(iter(self._sent.get, _END), **{"timeout": WITHIN_S} | call)

    def send(self, **part: Any) -> "Stream":
        self._sent.put(self._request(**part))
        return self

    def send_file(self, data: bytes, start: int = 0, size: int = 2**18) -> "Stream":
        for part in chunks(data, start, size):
            self.send(chunk=part)
        return self

    def end(self) -> "Stream":
        """Nothing more will be sent."""
        self._sent.put(_END)
        return self

    def next(self) -> Any:
        """The part of the next answer."""
        answer = next(self.call)
        return getattr(answer, answer.WhichOneof("part"))

    def rest(self) -> list[Any]:
        """The parts of all answers that follow."""
        return [getattr(answer, answer.WhichOneof("part")) for answer in self.call]

    def break_off(self) -> None:
        self.call.cancel()
        self.end()
