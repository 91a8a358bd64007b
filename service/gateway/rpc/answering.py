"""Answers that are given while requests still come in."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeVar

AnswerT = TypeVar("AnswerT")
# asyncio itself holds tasks weakly.
_running: set["asyncio.Task[None]"] = set()


async def answers(
    work: Callable[[Callable[[AnswerT | Exception], None]], Awaitable[None]],
) -> AsyncGenerator[AnswerT, None]:
    """What some work tells, as it tells it; its error in the end, or one that it tells.

    The work has a task of its own, so that it reads requests while an answer is on its way. When
    nobody wants answers any more it is cancelled, and its end is waited for.
    """
    told: asyncio.Queue[Any] = asyncio.Queue()
    end = object()

    async def run() -> None:
        try:
            await work(told.put_nowait)
        finally:
            told.put_nowait(end)

    task = asyncio.create_task(run())
    _running.add(task)
    task.add_done_callback(_running.discard)
    try:
        while (answer := await told.get()) is not end:
            if isinstance(answer, Exception):
                raise answer
            yield answer
        await task
    finally:
        task.cancel()
        await outlast(task)


async def outlast(task: "asyncio.Task[Any]") -> None:
    """Wait for a task's end, however it ends, and do not go before.

    A call that breaks is cancelled by its own reads, by the server and by who waits for it; what
    is to be saved then must not be lost to the second of these.
    """
    is_cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            is_cancelled = True
    if is_cancelled:
        raise asyncio.CancelledError
