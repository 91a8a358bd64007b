"""Live sessions through the gateway: every byte, status and end goes through, in both directions.

What stands for the live process is a gRPC server of another kind: threads, and bytes as messages.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest

from service.errors import LiveFullError
from service.pb import warpline_pb2 as pb
from service.rpc.status import code_of, trailers_of
from tests.unit.gateway.rpc.conftest import (
    ENTRIES,
    WITHIN_S,
    Rpc,
    bearer,
    begun_before_its_deadline,
    refusal,
)
from tests.unit.gateway.rpc.test_jobs import wait_for


class Scanner:
    """Answers each message with itself, and does as the first byte says."""

    def __init__(self) -> None:
        self.metadata: list[dict[str, Any]] = []
        self.received = 0
        self.ended: list[threading.Event] = []  # of each call
        self.may_answer = threading.Event()
        self.may_answer.set()
        self.left_s: float | None = None

    def live(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        self.metadata.append(dict(context.invocation_metadata()))
        self.left_s = context.time_remaining()
        self.ended.append(threading.Event())
        context.add_callback(self.ended[-1].set)
        self.may_answer.wait(WITHIN_S)
        for request in requests:
            self.received += 1
            if request == b"full":
                full = LiveFullError("No room.", retry_after_s=7)
                context.set_trailing_metadata(trailers_of(full))
                context.abort(code_of(full), full.detail)
            yield request
        context.set_trailing_metadata((("spent-ms", "12"),))


@pytest.fixture
def scanner() -> Iterator[tuple[Scanner, int]]:
    made = Scanner()
    with ThreadPoolExecutor(8) as threads:
        server = grpc.server(threads)
        handler = grpc.stream_stream_rpc_method_handler(made.live)
        service = grpc.method_handlers_generic_handler("warpline.v1.LiveService", {"Live": handler})
        server.add_generic_rpc_handlers((service,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield made, port
        made.may_answer.set()
        server.stop(None).wait()


def talk(rpc: Rpc) -> Any:
    """The method with bytes for messages."""
    return rpc.channel.stream_stream("/warpline.v1.LiveService/Live")


def test_messages_metadata_and_the_end_go_through(
    make_rpc: Callable[..., Rpc], scanner: tuple[Scanner, int]
) -> None:
    rpc = make_rpc(live_address=f"127.0.0.1:{scanner[1]}", api_keys=ENTRIES)
    messages = [b"", b"\x00\xff" * 10, bytes(2**20), *(bytes([n]) for n in range(200))]
    metadata = (*bearer("ada"), ("x-secret", "not for others"))
    call = talk(rpc)(iter(messages), metadata=metadata, timeout=WITHIN_S)
    assert list(call) == messages
    assert call.code() is grpc.StatusCode.OK
    assert ("spent-ms", "12") in [tuple(pair) for pair in call.trailing_metadata()]
    sent = scanner[0].metadata[0]
    assert sent["authorization"] == bearer("ada")[0][1]
    assert "x-secret" not in sent
    assert len(sent["x-request-id"]) == 36
    assert scanner[0].left_s is not None
    assert 0 < scanner[0].left_s <= WITHIN_S + 1  # gRPC rounds up what is left


def test_an_error_comes_back_as_it_was_told(
    make_rpc: Callable[..., Rpc], scanner: tuple[Scanner, int]
) -> None:
    rpc = make_rpc(live_address=f"127.0.0.1:{scanner[1]}")
    with pytest.raises(grpc.RpcError) as caught:
        list(talk(rpc)(iter([b"full"])))
    error: Any = caught.value
    assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "No room.")
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    assert b"live-full" in details


@pytest.mark.parametrize("how", ["cancelled", "deadline"])
def test_a_client_that_leaves_ends_the_session_over_there(
    make_rpc: Callable[..., Rpc], scanner: tuple[Scanner, int], how: str
) -> None:
    rpc = make_rpc(live_address=f"127.0.0.1:{scanner[1]}")
    sending: list[queue.SimpleQueue[bytes]] = []

    def begin(timeout_s: float) -> Any:
        sending.append(queue.SimpleQueue())
        sending[-1].put(b"hello")
        call = talk(rpc)(iter(sending[-1].get, b"end"), timeout=timeout_s)
        assert next(call) == b"hello"
        return call

    if how == "cancelled":
        begin(WITHIN_S).cancel()
    else:
        begun_before_its_deadline(begin, soon_s=2.0)
    assert scanner[0].ended
    assert all(ended.wait(WITHIN_S) for ended in scanner[0].ended)
    for queued in sending:
        queued.put(b"end")


def test_a_slow_receiver_slows_its_sender_down(
    make_rpc: Callable[..., Rpc], scanner: tuple[Scanner, int]
) -> None:
    rpc = make_rpc(live_address=f"127.0.0.1:{scanner[1]}")
    scanner[0].may_answer.clear()
    sent, size = [0], 2**20

    def frames() -> Iterator[bytes]:
        for _ in range(300):
            sent[0] += 1
            yield bytes(size)

    call = talk(rpc)(frames(), timeout=WITHIN_S * 3)
    still_s, before = 0, -1
    quiet = threading.Event()
    while still_s < 3:
        quiet.wait(0.1)
        still_s, before = (still_s + 1 if sent[0] == before else 0), sent[0]
    assert sent[0] < 64, "300 MiB were taken in, though nobody reads them"
    call.cancel()


def test_without_a_live_process_it_is_said_so(rpc: Rpc) -> None:
    told = refusal(lambda: rpc.live.Live(iter([pb.LiveRequest()])))
    assert (told.code, told.reason, told.retry_s) == ("UNIMPLEMENTED", "live-not-offered", None)


def test_a_live_process_that_is_away_is_said_so_and_used_again_once_it_is_back(
    make_rpc: Callable[..., Rpc], scanner: tuple[Scanner, int]
) -> None:
    away = make_rpc(live_address="127.0.0.1:1")
    told = refusal(lambda: away.live.Live(iter([pb.LiveRequest()])))
    assert (told.code, told.reason, told.retry_s) == ("UNAVAILABLE", "unavailable", 1.0)
    back = make_rpc(live_address=f"127.0.0.1:{scanner[1]}")
    wait_for(lambda: list(talk(back)(iter([b"hello"]))) == [b"hello"])
