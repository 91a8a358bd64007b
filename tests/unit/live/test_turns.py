"""A player that breaks keeps nobody else from the engine."""

import asyncio

from service.live.turns import Run, Turns


class Counts:
    """Takes so many turns, each on the engine's thread."""

    def __init__(self, turns: int) -> None:
        self.left = turns

    async def turn(self, run: Run) -> bool:
        await run(self._one)
        return self.left > 0

    def _one(self) -> None:
        self.left -= 1


class Breaks:
    """A defect."""

    async def turn(self, run: Run) -> bool:  # noqa: ARG002
        raise ValueError("a defect")


def test_a_player_that_breaks_does_not_stop_the_others():
    async def test() -> None:
        turns, good = Turns(), Counts(3)
        turns.start()
        turns.ask(Breaks())
        turns.ask(good)
        async with asyncio.timeout(120):
            while good.left:
                await asyncio.sleep(0.001)
        await turns.stop()

    asyncio.run(test())
