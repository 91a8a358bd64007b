"""One engine for all sessions: they take turns, one piece of work at a time."""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

Result = TypeVar("Result")
logger = logging.getLogger(__name__)


class Run(Protocol):
    """Does something on the engine's thread."""

    def __call__(self, work: Callable[[], Result]) -> Awaitable[Result]: ...


class Player(Protocol):
    """Who takes turns."""

    async def turn(self, run: Run) -> bool:
        """Do one piece of work; whether there is another. Raises nothing."""
        ...


class Turns:
    """Calls each player that asked for a turn, in the order in which they asked.

    Kernels of numba use one pool of threads, so there is one engine thread; a player that has more
    to do stands at the end of the line again.
    """

    def __init__(self) -> None:
        """Nobody waits. Made on the event loop that serves."""
        self._line: deque[Player] = deque()
        self._someone = asyncio.Event()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="engine")
        self._task: asyncio.Task[None] | None = None
        self._playing: Player | None = None
        self._stopping = False

    def start(self) -> None:
        """Begin to call."""
        self._task = asyncio.create_task(self._call())

    async def stop(self) -> None:
        """End after the turn that is being taken."""
        self._stopping = True
        self._someone.set()
        if self._task is not None:
            await self._task
        self._pool.shutdown(wait=False)

    def ask(self, player: Player) -> None:
        """Stand in line, once. Who is taking a turn is asked after it whether there is more."""
        if player not in self._line and player is not self._playing:
            self._line.append(player)
            self._someone.set()

    def run(self, work: Callable[[], Result]) -> Awaitable[Result]:
        """Do something on the engine's thread, after what is being done there."""
        return asyncio.get_running_loop().run_in_executor(self._pool, work)

    async def _call(self) -> None:
        while not self._stopping:
            if not self._line:
                self._someone.clear()
                await self._someone.wait()
                continue
            player = self._line.popleft()
            if await self._turn_of(player):
                self.ask(player)

    async def _turn_of(self, player: Player) -> bool:
        """One turn. A defect in it must not keep the others from theirs."""
        self._playing = player
        try:
            return await player.turn(self.run)
        except Exception as error:
            logger.error("unexpected %s in a turn", type(error).__name__)
            return False
        finally:
            self._playing = None
