"""What every call passes before its method, and every answer after it.

The key is looked at and the call counted before its first message is read. An error of ours ends
the call as google.rpc.Status; anything else is a defect, logged by its place and told as
`internal`. A cancelled call, or one whose deadline has passed, cancels its method's task.
"""

import asyncio
import inspect
import logging
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from service.errors import (
    InternalError,
    MethodNotAllowedError,
    TooManyCallsError,
    ValidationError,
    WarplineError,
)
from service.keys import Keys, Rates
from service.rpc.calls import Call
from service.rpc.metrics import CallMetrics
from service.rpc.status import REQUEST_ID_KEY, abort, code_of

# Asked by machines that watch, and by tools that look what there is; like /healthz over REST.
PUBLIC = (
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1alpha.ServerReflection/",
    "/grpc.reflection.v1.ServerReflection/",
)

# Of the calls that a server has open, one key may have so many; the rest is for others.
MOST_PER_KEY = 512
RETRY_AFTER_S = 1.0
UNTIL_KNOWN_S = 1.0
# A client gives up at its own deadline, which its news may tell us before ours has passed.
ABOUT_DUE_S = 0.25

Context = Any  # grpc.aio.ServicerContext is generic in its stubs only
Handler = Any

logger = logging.getLogger(__name__)
access = logging.getLogger("warpline.access")


@dataclass(frozen=True)
class Door(grpc.aio.ServerInterceptor):
    """The interceptor around all methods."""

    keys: Keys
    rates: Rates
    metrics: CallMetrics
    most_per_key: int = MOST_PER_KEY
    _open: Counter[str] = field(default_factory=Counter)  # calls, by owner

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Handler]], handler_call_details: Any
    ) -> Handler:
        """The method's handler, with this door before it."""
        handler = await continuation(handler_call_details)
        method = "unmatched" if handler is None else str(handler_call_details.method)
        return self._guarded(
            handler or grpc.stream_stream_rpc_method_handler(_not_there),
            lambda: Call.of(method, handler_call_details.invocation_metadata),
        )

    def _guarded(self, handler: Handler, begin: Callable[[], Call]) -> Handler:
        parse = handler.request_deserializer or _as_is
        method = getattr(handler, _behaviour(handler))

        async def one(request: Any, context: Context) -> Any:
            async with self._conducted(begin(), context):
                return await method(_asked(handler, parse, request), context)

        async def many(request: Any, context: Context) -> None:
            async with self._conducted(begin(), context):
                await _written(method(_asked(handler, parse, request), context), context)

        make = getattr(grpc, f"{_behaviour(handler)}_rpc_method_handler")
        return make(
            many if handler.response_streaming else one,
            request_deserializer=None,
            response_serializer=handler.response_serializer,
        )

    @asynccontextmanager
    async def _conducted(self, call: Call, context: Context) -> AsyncIterator[None]:
        began, code = time.monotonic(), "OK"
        self.metrics.begin(call.method)
        try:
            self._admit(call)
            context.set_trailing_metadata(((REQUEST_ID_KEY, call.request_id),))
            yield
        except asyncio.CancelledError:
            code = _why_cancelled(context)
            raise
        except grpc.aio.AbortError:
            code = _name_of(context.code())
            raise
        except grpc.aio.InternalError:
            # A message could not be written: who asked went away. grpcio logs that as a defect
            # until it knows, and cancels the call once it does.
            code = _why_cancelled(context)
            await asyncio.sleep(UNTIL_KNOWN_S)
            raise
        except Exception as error:
            known = _known(error, call.request_id)
            code = code_of(known).name
            await abort(context, known, call.request_id)
        finally:
            self._record(call, code, time.monotonic() - began)

    def _admit(self, call: Call) -> None:
        if not call.method.startswith(PUBLIC):
            owner = self.keys.owner(call.key)
            self.rates.take(owner)
            if self._open[owner] >= self.most_per_key:
                raise TooManyCallsError(
                    f"This key has {self.most_per_key} calls open; end some of them.",
                    retry_after_s=RETRY_AFTER_S,
                )
            call.owner = owner
            self._open[owner] += 1
        call.enter()

    def _record(self, call: Call, code: str, seconds: float) -> None:
        if call.owner is not None:
            self._open[call.owner] -= 1
        self.metrics.end(call.method, code, seconds)
        access.info("gRPC %s %s %.1f ms %s", call.method, code, seconds * 1000, call.request_id)


def _behaviour(handler: Handler) -> str:
    asks = "stream" if handler.request_streaming else "unary"
    return f"{asks}_{'stream' if handler.response_streaming else 'unary'}"


def _as_is(data: bytes) -> bytes:
    return data


def _asked(handler: Handler, parse: Callable[[bytes], Any], request: Any) -> Any:
    """The request, or the requests as they come, parsed here so that a fault is told as one."""
    return _each(parse, request) if handler.request_streaming else _parsed(parse, request)


async def _each(
    parse: Callable[[bytes], Any], requests: AsyncIterator[bytes]
) -> AsyncIterator[Any]:
    async for data in requests:
        yield _parsed(parse, data)


async def _written(answers: Any, context: Context) -> None:
    """Send the answers of a generator; a method of another kind writes them itself.

    The generator is closed here, in the call's own task, so that it ends with the call.
    """
    if not inspect.isasyncgen(answers):
        await answers
        return
    async with aclosing(answers):
        async for answer in answers:
            await context.write(answer)


def _parsed(parse: Callable[[bytes], Any], data: bytes) -> Any:
    try:
        return parse(data)
    except DecodeError:
        raise ValidationError("The request is not the message that this method takes.") from None


async def _not_there(_requests: AsyncIterator[bytes], _context: Context) -> None:
    raise MethodNotAllowedError(
        "There is no such method; ask the reflection service what there is."
    )


def _why_cancelled(context: Context) -> str:
    left_s = context.time_remaining()
    is_due = left_s is not None and left_s < ABOUT_DUE_S
    return "DEADLINE_EXCEEDED" if is_due else "CANCELLED"


def _name_of(code: Any) -> str:
    if isinstance(code, grpc.StatusCode):
        return code.name
    return next((known.name for known in grpc.StatusCode if known.value[0] == code), "UNKNOWN")


def _known(error: Exception, request_id: str) -> WarplineError:
    """The error for the caller; a defect is logged by its place, for its text may quote a file."""
    if isinstance(error, WarplineError):
        if error.http_status >= 500:
            logger.error("call failed: %s, request %s", error.slug, request_id)
        return error
    frames = traceback.extract_tb(error.__traceback__)[-6:]
    where = " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(frames))
    logger.error("unexpected %s at %s, request %s", type(error).__name__, where, request_id)
    return InternalError()
