"""Methods that are written once for the client that blocks and the one that is awaited."""

import asyncio
import inspect
from collections.abc import Generator

import pytest

from service.client.methods import Awaited, Blocking, Method


def doubled(number: int, *, more: int = 0) -> Generator[int, int, int]:
    """Twice a number, and more."""
    return (yield number) + more


class Table:
    double = Method(doubled)


class Plain(Table, Blocking):
    def _run(self, flow):
        asked = next(flow)
        with pytest.raises(StopIteration) as end:
            flow.send(asked * 2)
        return end.value.value


class Slow(Table, Awaited):
    async def _run(self, flow):
        await asyncio.sleep(0)
        return Plain()._run(flow)


def test_one_flow_is_a_method_of_both() -> None:
    assert Plain().double(3, more=1) == 7

    async def awaited() -> int:
        return await Slow().double(3, more=1)

    assert asyncio.run(awaited()) == 7


def test_it_looks_as_if_it_had_been_written_there() -> None:
    assert str(inspect.signature(Plain.double)) == "(self, number: int, *, more: int = 0)"
    assert str(inspect.signature(Plain().double)) == "(number: int, *, more: int = 0)"
    assert Plain.double.__doc__ == "Twice a number, and more."
    assert Plain.double.__qualname__ == "Table.double"
    with pytest.raises(TypeError, match="less"):
        Plain().double(3, less=1)  # type: ignore[call-arg]
