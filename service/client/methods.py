"""Methods that are a flow and no more: written once, for the client that blocks and the one that
is awaited.

A class that has `job = Method(flows.job)` and is `Blocking` has `client.job(id) -> Job`; one that
is `Awaited` has `await client.job(id)`, with the same arguments and the same documentation.
"""

import functools
import inspect
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar, overload

P = ParamSpec("P")
T = TypeVar("T")


class Blocking:
    """A client whose methods return when they are done."""

    def _run(self, flow: Generator[Any, Any, T]) -> T:
        """Carry out a flow's steps."""
        raise NotImplementedError


class Awaited:
    """A client whose methods are awaited."""

    async def _run(self, flow: Generator[Any, Any, T]) -> T:
        """Carry out a flow's steps."""
        raise NotImplementedError


class Method(Generic[P, T]):
    """A method of both kinds of client, from a function that gives a flow."""

    def __init__(self, flow: Callable[P, Generator[Any, Any, T]]) -> None:
        self._flow = flow
        self._unbound = _with_self(flow)

    def __set_name__(self, owner: type, name: str) -> None:
        self._unbound.__name__, self._unbound.__qualname__ = name, f"{owner.__name__}.{name}"
        self._unbound.__module__ = owner.__module__

    @overload
    def __get__(self, client: None, kind: type) -> Callable[Concatenate[Any, P], Any]: ...

    @overload
    def __get__(self, client: Blocking, kind: type) -> Callable[P, T]: ...

    @overload
    def __get__(self, client: Awaited, kind: type) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(self, client: Any, kind: type) -> Any:
        return self._unbound if client is None else self._unbound.__get__(client, kind)


def _with_self(flow: Callable[..., Any]) -> Any:
    """The function that a class would have."""

    @functools.wraps(flow)
    def method(self: Any, *args: Any, **options: Any) -> Any:
        return self._run(flow(*args, **options))

    mine = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    signature = inspect.signature(flow)
    vars(method)["__signature__"] = signature.replace(
        parameters=[mine, *signature.parameters.values()], return_annotation=inspect.Parameter.empty
    )
    return method
