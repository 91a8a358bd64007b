"""A file that comes in as chunks: checked, written and acknowledged beside each other.

At most a few mebibytes of a sender are in memory; one that is faster than the disk has to wait.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from service.gateway.growing import Growing
from service.gateway.limits import MIB
from service.gateway.rpc.answering import outlast
from service.gateway.rpc.chunks import Chunk, checked
from service.jobs.job import Upload

# Chunks that wait for the disk; as many again may be on their way to it.
MOST_WAITING_BYTES = 8 * MIB
# Bytes are acknowledged when there are as many, or when the first of them is as old.
ACKNOWLEDGED_BYTES = 16 * MIB
ACKNOWLEDGED_AFTER_S = 1.0
# Between two of one sender: flushing the disk holds up the writes that are under way.
PAUSE_S = 0.05

# Threads that wait for disks and sum up, of all senders together; others wait their turn.
_threads = ThreadPoolExecutor(16, thread_name_prefix="receiving")

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Receiving:
    """One file of one stream. It ends with `finish`, or with `keep` where the stream breaks."""

    def __init__(self, growing: Growing, told: Callable[[Upload | Exception], None]) -> None:
        """Begin; call it on the event loop.

        Args:
            growing: Where the bytes go.
            told: Hears of each acknowledgement, and why nothing more can be taken: the sender may
                be waiting for an answer then, with nothing left to send.
        """
        self.growing = growing
        self._told = told
        self._next = growing.end
        self._waiting: list[bytes | memoryview] = []
        self._waiting_bytes = 0
        self._has_ended = False
        self._came, self._went, self._wrote = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._tasks = [asyncio.create_task(self._write()), asyncio.create_task(self._acknowledge())]
        for task in self._tasks:  # one that fails must not leave `take` in its sleep
            task.add_done_callback(self._note_end)
        self._ending: asyncio.Task[None] | None = None

    def _note_end(self, task: "asyncio.Task[None]") -> None:
        self._went.set()
        failure = None if task.cancelled() else task.exception()
        if isinstance(failure, Exception) and not self._has_ended:
            self._told(failure)

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self.growing.upload.bytes

    @property
    def is_whole(self) -> bool:
        """Whether the last byte has come."""
        return self._next == self.size

    async def take(self, chunk: Chunk) -> int:
        """Take the next chunk and give its size; waits while too many wait before it.

        Raises:
            ChunkSizeError, ChunkOrderError, ChecksumMismatchError: If it is not what it should be.
            StorageFullError, StoreUnavailableError, ConflictError: From writing.
        """
        data = checked(chunk, self._next, self.size)
        self._next += len(data)
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self._came.set()
        while self._waiting_bytes > MOST_WAITING_BYTES and not self._has_failed:
            self._went.clear()
            await self._went.wait()
        if self._has_failed:
            await asyncio.gather(*self._tasks)
        return len(data)

    @property
    def _has_failed(self) -> bool:
        return any(task.done() for task in self._tasks)

    async def finish(self) -> None:
        """Wait until all is written, then put the file together.

        Raises:
            ChecksumMismatchError: If it is not the file that was announced; it is then dropped.
            StorageFullError, StoreUnavailableError, ConflictError: From writing.
        """
        self._ending = self._ending or asyncio.create_task(self._finish())
        await asyncio.shield(self._ending)

    async def keep(self) -> None:
        """The sender is gone: acknowledge what has come. What fails here is not worth telling."""
        if self._ending is None:
            self._ending = asyncio.create_task(self._finish() if self.is_whole else self._save())
        self._ending.add_done_callback(_note_failure)
        await outlast(self._ending)

    async def _finish(self) -> None:
        await self._stop()
        self._told(await _in_thread(self.growing.finish))

    async def _save(self) -> None:
        try:
            await self._stop()
            self._told(await _in_thread(self.growing.acknowledge))
        finally:
            self.growing.close()

    async def _stop(self) -> None:
        """Let the tasks end; all that came is written then."""
        self._has_ended = True
        self._came.set()
        self._wrote.set()
        await asyncio.wait(self._tasks)
        await asyncio.gather(*self._tasks)

    async def _write(self) -> None:
        """Write what has come, all of it at once, until nothing will follow."""
        while self._waiting or not self._has_ended:
            batch, self._waiting, self._waiting_bytes = self._waiting, [], 0
            self._went.set()
            if batch:
                await asyncio.gather(
                    _in_thread(self.growing.write, batch),
                    _in_thread(self.growing.sum_up, batch),
                )
                self._wrote.set()
            elif not self._has_ended:
                self._came.clear()
                await self._came.wait()

    async def _acknowledge(self) -> None:
        """Acknowledge what is written while more is coming."""
        while await self._is_due():
            self._told(await _in_thread(self.growing.acknowledge))

    async def _is_due(self) -> bool:
        """Wait until bytes are to be acknowledged; False: `finish` or `keep` does the rest."""
        clock = asyncio.get_running_loop().time
        earliest, latest = clock() + PAUSE_S, None
        while not self._has_ended:
            fresh = self.growing.unacknowledged
            if fresh and latest is None:
                latest = clock() + ACKNOWLEDGED_AFTER_S
            due = earliest if fresh >= ACKNOWLEDGED_BYTES else latest
            if due is not None and clock() >= due:
                return True
            self._wrote.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(due):
                    await self._wrote.wait()
        return False


def _note_failure(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (failure := task.exception()):
        logger.info("upload broken off: %s", getattr(failure, "slug", type(failure).__name__))


async def _in_thread(work: Callable[..., T], *arguments: object) -> T:
    """Like `run_in_threadpool` at a third of its cost, which counts a thousand times a second."""
    return await asyncio.get_running_loop().run_in_executor(_threads, work, *arguments)
