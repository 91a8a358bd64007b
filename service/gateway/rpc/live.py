"""`warpline.v1.LiveService` on the gateway's port: every byte goes on to the live process.

Messages are not read here, only passed on, one at a time in each direction: whoever reads slowly
slows its own sender down, and nothing piles up between them.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from service.errors import LiveNotOfferedError, UnavailableError
from service.pb import warpline_pb2 as pb
from service.rpc.calls import current_call
from service.rpc.server import MESSAGE_BYTES, MIB
from service.rpc.status import DETAILS_KEY, REQUEST_ID_KEY

SERVICE = pb.DESCRIPTOR.services_by_name["LiveService"].full_name
METHOD = "Live"
# Of the metadata that a client sends, these go on; the rest is between it and us.
FORWARDED = frozenset({"authorization", "x-api-key"})
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.http2.max_frame_size", MIB),
    # The live process may have been started again: look soon.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
)
RETRY_AFTER_S = 1.0


class LiveForward:
    """Forwards live sessions to an address, or says that there are none."""

    def __init__(self, address: str | None) -> None:
        """Make it on the event loop that will serve; nothing is connected yet."""
        self._channel = (
            None if address is None else grpc.aio.insecure_channel(address, options=OPTIONS)
        )

    def handler(self) -> grpc.GenericRpcHandler:
        """The service, with messages as bytes."""
        return grpc.method_handlers_generic_handler(
            SERVICE, {METHOD: grpc.stream_stream_rpc_method_handler(self.forward)}
        )

    async def forward(self, requests: AsyncIterator[bytes], context: Any) -> None:
        """Pass one session on, with its deadline, its end and its cancellation.

        Raises:
            LiveNotOfferedError: If the settings name no live process.
            UnavailableError: If it does not answer, or goes away.
        """
        if self._channel is None:
            raise LiveNotOfferedError(
                "This service has no live sessions; its operator can start a live process and set "
                "WARPLINE_LIVE_ADDRESS."
            )
        call: Any = self._channel.stream_stream(f"/{SERVICE}/{METHOD}")(
            metadata=_metadata(context), timeout=context.time_remaining()
        )
        up = asyncio.create_task(_up(requests, call))
        try:
            await _down(call, context)
            await _end(call, context)
        finally:
            call.cancel()
            up.cancel()
            await asyncio.wait([up])

    async def close(self) -> None:
        """Give the connection back."""
        if self._channel is not None:
            await self._channel.close()


def _metadata(context: Any) -> tuple[tuple[str, str], ...]:
    sent = [(key, value) for key, value in context.invocation_metadata() if key in FORWARDED]
    return (*sent, (REQUEST_ID_KEY, current_call().request_id))


async def _up(requests: AsyncIterator[bytes], call: Any) -> None:
    """Pass on what the client sends. Where the call has ended, `_end` tells why."""
    try:
        async for request in requests:
            await call.write(request)
        await call.done_writing()
    except (grpc.RpcError, asyncio.InvalidStateError):
        return


async def _down(call: Any, context: Any) -> None:
    try:
        async for answer in call:
            await context.write(answer)
    except grpc.RpcError:
        return  # `_end` asks the call itself
    except asyncio.CancelledError:
        # grpcio raises it as well when it was the live process that ended with CANCELLED.
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise


async def _end(call: Any, context: Any) -> None:
    """End as the live process did: the same code, sentence and details."""
    code, trailers = await call.code(), tuple(await call.trailing_metadata() or ())
    is_told = any(key == DETAILS_KEY for key, _ in trailers)
    if code is grpc.StatusCode.UNAVAILABLE and not is_told:
        raise UnavailableError(
            "The live process does not answer; it may be starting. Open the session again, or go "
            "on with it by its id.",
            retry_after_s=RETRY_AFTER_S,
        )
    if code is grpc.StatusCode.OK:
        context.set_trailing_metadata(trailers)
    else:
        await context.abort(code, await call.details() or "", trailers)
