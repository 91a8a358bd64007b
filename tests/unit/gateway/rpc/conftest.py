"""A gateway with both faces, and a client of the gRPC one."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from service.gateway.rpc.serving import RpcFace
from service.pb.warpline_pb2_grpc import LiveServiceStub, WarplineServiceStub
from tests.unit.gateway.conftest import Api

WITHIN_S = 120.0  # what hangs does so for ever, a busy machine for a quarter of a minute
BegunT = TypeVar("BegunT")
KEYS = {"ada": "wl_ada-key", "grace": "wl_grace-key"}
ENTRIES = ",".join(f"{n}:{hashlib.sha256(k.encode()).hexdigest()}" for n, k in KEYS.items())


def bearer(name: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {KEYS[name]}"),)


@dataclass(frozen=True)
class Rpc:
    """The gateway, what stands behind it, and stubs."""

    api: Api
    face: RpcFace
    channel: grpc.Channel

    @property
    def stub(self) -> WarplineServiceStub:
        return WarplineServiceStub(self.channel)

    @property
    def live(self) -> LiveServiceStub:
        return LiveServiceStub(self.channel)


@pytest.fixture
def make_rpc(make_api: Callable[..., Api]) -> Iterator[Callable[..., Rpc]]:
    """A gateway with these settings, serving gRPC on a free port."""
    with ExitStack() as stack:

        def make(**chosen: Any) -> Rpc:
            api = make_api(**chosen)
            face = stack.enter_context(RpcFace(api.app.state.desk, 0, grace_s=0.5))
            channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{face.port}"))
            return Rpc(api, face, channel)

        yield make


@pytest.fixture
def rpc(make_rpc: Callable[..., Rpc]) -> Rpc:
    return make_rpc()


@dataclass(frozen=True)
class Refusal:
    """How a call failed, as any client of google.rpc.Status reads it."""

    code: str
    sentence: str
    reason: str
    fields: tuple[str, ...]
    retry_s: float | None


def refusal(call: Callable[[], Any]) -> Refusal:
    """The failure of a call; a stream is read to its end."""
    try:
        answer = call()
        if isinstance(answer, grpc.Call):
            list(answer)
    except grpc.RpcError as error:
        return _told(error)
    raise AssertionError("the call went well")


def _told(error: Any) -> Refusal:
    status = rpc_status.from_call(error)
    assert status is not None, error
    info = detail(status, error_details_pb2.ErrorInfo)
    assert info is not None
    assert info.domain == "warpline"
    bad = detail(status, error_details_pb2.BadRequest)
    retry = detail(status, error_details_pb2.RetryInfo)
    request = detail(status, error_details_pb2.RequestInfo)
    assert dict(error.trailing_metadata())["x-request-id"] == request.request_id
    return Refusal(
        error.code().name,
        error.details(),
        info.reason,
        () if bad is None else tuple(one.field for one in bad.field_violations),
        None if retry is None else retry.retry_delay.ToTimedelta().total_seconds(),
    )


def begun_before_its_deadline(begin: Callable[[float], BegunT], soon_s: float) -> BegunT:
    """A call with a deadline that comes soon, but after what `begin` waits for.

    Where the machine is too busy for that, the deadline comes later.
    """
    try:
        return begin(soon_s)
    except grpc.RpcError as error:
        if "DEADLINE_EXCEEDED" not in str(error):
            raise
        return begin(WITHIN_S / 2)


def detail(status: status_pb2.Status, kind: Any) -> Any:
    for packed in status.details:
        if packed.Is(kind.DESCRIPTOR):
            found = kind()
            packed.Unpack(found)
            return found
    return None
