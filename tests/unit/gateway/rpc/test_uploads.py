"""Uploads over gRPC: whatever breaks, no acknowledged byte is lost and none is taken twice."""

import hashlib
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.errors import StorageFullError
from service.gateway.growing import Growing
from service.gateway.rpc import receiving
from service.gateway.rpc.patience import Patience
from service.gateway.spool import Spool
from service.pb import warpline_pb2 as pb
from tests.unit.gateway.rpc.conftest import ENTRIES as KEY_ENTRIES
from tests.unit.gateway.rpc.conftest import WITHIN_S, Rpc, bearer, refusal
from tests.upload_sender import Stream, chunk

DATA = bytes(range(256)) * 31 + b"odd"
SHA256 = hashlib.sha256(DATA).digest()
BIG = hashlib.shake_128(b"big").digest(3 * 2**20 + 7)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Acknowledge soon, so that no test waits for it."""
    monkeypatch.setattr(receiving, "ACKNOWLEDGED_AFTER_S", 0.01)


def upload(rpc: Rpc, **call: Any) -> Stream:
    return Stream(rpc.stub.Upload, pb.UploadRequest, **call)


def begun(rpc: Rpc, data: bytes = DATA, **start: Any) -> tuple[Stream, pb.FileOpened]:
    stream = upload(rpc).send(start=pb.FileStart(size_bytes=len(data), **start))
    return stream, stream.next()


def look(rpc: Rpc, upload_id: str) -> pb.GetUploadResponse:
    return rpc.stub.GetUpload(pb.GetUploadRequest(upload_id=upload_id), timeout=WITHIN_S)


def stored(rpc: Rpc, upload_id: str) -> bytes:
    found = rpc.api.stores.uploads.upload(UUID(upload_id), "local")
    return rpc.api.stores.blobs.get_bytes(found.key)


def received_after_break(rpc: Rpc, upload_id: str, expected: int) -> int:
    """What is safe once the gateway has noticed that the sender is gone."""
    until = time.monotonic() + WITHIN_S
    while (received := look(rpc, upload_id).received.received_bytes) != expected:
        assert time.monotonic() < until, received
        time.sleep(0.01)
    return int(received)


@pytest.mark.parametrize("data", [b"x", DATA, BIG])
def test_a_whole_file_in_one_call(rpc: Rpc, data: bytes) -> None:
    stream, opened = begun(rpc, data, sha256=hashlib.sha256(data).digest())
    assert (opened.received_bytes, opened.role) == (0, "")
    assert opened.expires_at.seconds > time.time() + 3600
    last = stream.send_file(data).end().rest()[-1]
    assert (last.upload_id, last.received_bytes) == (opened.upload_id, len(data))
    assert last.is_complete
    assert last.sha256 == hashlib.sha256(data).digest()
    assert stored(rpc, opened.upload_id) == data
    seen = look(rpc, opened.upload_id)
    assert (seen.size_bytes, seen.received) == (len(data), last)
    assert len(rpc.api.stores.blobs.list("uploads/")) == 1 + False
    assert list(rpc.api.app.state.desk.spool.root.iterdir()) == []


@given(cuts=st.lists(st.integers(0, len(DATA) - 1), max_size=5).map(sorted), clean=st.booleans())
@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_a_transfer_broken_at_any_byte_goes_on_from_there(
    rpc: Rpc, cuts: list[int], clean: bool
) -> None:
    upload_id, received = "", 0
    for cut in [*cuts, len(DATA)]:
        stream, opened = begun(rpc, upload_id=upload_id)
        assert opened.received_bytes == received
        upload_id = opened.upload_id
        if cut > received:
            stream.send(chunk=chunk(DATA[received:cut], received))
        if not clean and received < cut < len(DATA):
            assert stream.next().received_bytes == cut
            stream.break_off()
        else:
            assert stream.end().rest()[-1].received_bytes == cut
        received = cut
    assert stored(rpc, upload_id) == DATA
    assert len(rpc.api.stores.blobs.list(f"uploads/{upload_id}/")) == 1


def test_what_came_before_a_break_is_kept(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, opened = begun(rpc, BIG)
    monkeypatch.setattr(receiving, "ACKNOWLEDGED_AFTER_S", 100.0)
    written = threading.Event()
    write = Growing.write

    def noticed(self: Growing, batch: list[bytes]) -> None:
        write(self, batch)
        if self.end == 2**20 + 5:
            written.set()

    monkeypatch.setattr(Growing, "write", noticed)
    stream.send_file(BIG[: 2**20])
    stream.send(chunk=chunk(BIG[2**20 : 2**20 + 5], 2**20))
    assert written.wait(WITHIN_S)
    assert look(rpc, opened.upload_id).received.received_bytes == 0
    stream.break_off()
    received_after_break(rpc, opened.upload_id, 2**20 + 5)


def test_bytes_are_acknowledged_while_more_is_coming(
    rpc: Rpc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving, "ACKNOWLEDGED_BYTES", 2**19)
    monkeypatch.setattr(receiving, "ACKNOWLEDGED_AFTER_S", 100.0)
    stream, _ = begun(rpc, BIG)
    stream.send_file(BIG[: 2**20])
    assert 2**19 <= stream.next().received_bytes <= 2**20
    stream.send_file(BIG, 2**20).end()
    assert stream.rest()[-1].is_complete


def test_an_upload_is_the_same_over_rest(rpc: Rpc) -> None:
    stream, opened = begun(rpc)
    stream.send(chunk=chunk(DATA[:100], 0)).end().rest()
    url = f"/v1/uploads/{opened.upload_id}"
    assert rpc.api.get(url).json()["received"] == 100
    rpc.api.call("PATCH", url, content=DATA[100:300], headers={"Upload-Offset": "100"})
    stream, again = begun(rpc, upload_id=opened.upload_id)
    assert again.received_bytes == 300
    stream.send(chunk=chunk(DATA[300:500], 300)).end().rest()
    headers = {"Upload-Offset": "500"}
    assert rpc.api.call("PATCH", url, content=DATA[500:], headers=headers).json()["complete"]
    assert stored(rpc, opened.upload_id) == DATA
    stream, whole = begun(rpc, upload_id=opened.upload_id)
    assert whole.received_bytes == len(DATA)
    last = stream.end().rest()[-1]
    assert (last.is_complete, last.sha256) == (True, SHA256)


@pytest.mark.parametrize(
    ("bad", "reason", "field"),
    [
        (chunk(DATA[:10], 100, crc32=1), "checksum-mismatch", "chunk.crc32"),
        (chunk(DATA[:10], 101), "chunk-out-of-order", "chunk.offset"),
        (chunk(DATA[:10], 99), "chunk-out-of-order", "chunk.offset"),
        (chunk(DATA, 100), "chunk-out-of-order", "chunk.data"),
        (chunk(b"", 100), "chunk-size", "chunk.data"),
        (chunk(bytes(2**20 + 1), 100), "chunk-size", "chunk.data"),
        (None, "validation-failed", "part"),
        (pb.FileStart(size_bytes=3), "validation-failed", "part"),
    ],
)
def test_a_bad_chunk_ends_the_call_and_what_came_before_stays(
    rpc: Rpc, bad: Any, reason: str, field: str
) -> None:
    stream, opened = begun(rpc)
    stream.send(chunk=chunk(DATA[:100], 0))
    if isinstance(bad, pb.FileStart):
        stream.send(start=bad)
    else:
        stream.send(**({} if bad is None else {"chunk": bad}))
    told = refusal(lambda: stream.call)
    assert (told.reason, told.fields) == (reason, (field,))
    assert received_after_break(rpc, opened.upload_id, 100) == 100


@pytest.mark.parametrize(
    ("start", "reason", "field"),
    [
        ({"size_bytes": 0}, "validation-failed", "size_bytes"),
        ({"size_bytes": 5, "sha256": b"short"}, "validation-failed", "sha256"),
        ({"size_bytes": 2 * 2**20}, "body-too-large", "size_bytes"),
        ({"size_bytes": 2**64 - 1}, "body-too-large", "size_bytes"),
        ({"upload_id": "no-uuid"}, "validation-failed", "upload_id"),
        ({"upload_id": str(uuid4())}, "upload-not-found", None),
    ],
)
def test_a_bad_start_is_refused_before_anything_is_received(
    make_rpc: Callable[..., Rpc], start: dict[str, Any], reason: str, field: str | None
) -> None:
    rpc = make_rpc(max_upload_mib=1)
    told = refusal(lambda: upload(rpc).send(start=pb.FileStart(**start)).call)
    assert (told.reason, told.fields) == (reason, (field,) if field else ())
    assert rpc.api.stores.blobs.list("uploads/") == []


def test_start_comes_first(rpc: Rpc) -> None:
    assert refusal(lambda: upload(rpc).send(chunk=chunk(b"x", 0)).call).fields == ("start",)
    assert refusal(lambda: upload(rpc).end().call).fields == ("start",)


def test_a_file_that_is_not_the_announced_one_is_dropped(rpc: Rpc) -> None:
    stream, opened = begun(rpc, sha256=hashlib.sha256(b"other").digest())
    stream.send_file(DATA)
    told = refusal(lambda: stream.call)
    assert (told.reason, told.code) == ("checksum-mismatch", "DATA_LOSS")
    assert refusal(lambda: look(rpc, opened.upload_id)).reason == "upload-not-found"
    assert rpc.api.stores.blobs.list("uploads/") == []


def test_going_on_with_another_file_is_refused(rpc: Rpc) -> None:
    stream, opened = begun(rpc, sha256=SHA256)
    stream.send(chunk=chunk(DATA[:9], 0)).end().rest()
    other = hashlib.sha256(b"other").digest()
    for change in ({"size_bytes": 5}, {"size_bytes": len(DATA), "sha256": other}):
        start = pb.FileStart(upload_id=opened.upload_id, **change)
        told = refusal(lambda start=start: upload(rpc).send(start=start).call)
        assert (told.reason, told.fields) == ("validation-failed", (list(change)[-1],))


def test_uploads_are_their_owners(make_rpc: Callable[..., Rpc]) -> None:
    rpc = make_rpc(api_keys=KEY_ENTRIES)
    stream = upload(rpc, metadata=bearer("ada")).send(start=pb.FileStart(size_bytes=5))
    upload_id = stream.next().upload_id
    start = pb.FileStart(size_bytes=5, upload_id=upload_id)
    asked: list[Callable[[], Any]] = [
        lambda: upload(rpc, metadata=bearer("grace")).send(start=start).call,
        lambda: rpc.stub.GetUpload(
            pb.GetUploadRequest(upload_id=upload_id), metadata=bearer("grace")
        ),
        lambda: rpc.stub.DeleteUpload(
            pb.DeleteUploadRequest(upload_id=upload_id), metadata=bearer("grace")
        ),
    ]
    assert [refusal(call).reason for call in asked] == ["upload-not-found"] * 3
    assert stream.send(chunk=chunk(b"12345", 0)).rest()[-1].is_complete


def test_a_dropped_or_expired_upload_is_gone(make_rpc: Callable[..., Rpc]) -> None:
    rpc = make_rpc()
    stream, opened = begun(rpc)
    stream.send(chunk=chunk(DATA[:10], 0)).end().rest()
    rpc.stub.DeleteUpload(pb.DeleteUploadRequest(upload_id=opened.upload_id))
    start = pb.FileStart(upload_id=opened.upload_id)
    assert refusal(lambda: upload(rpc).send(start=start).call).reason == "upload-not-found"
    assert rpc.api.stores.blobs.list("uploads/") == []
    hasty = make_rpc(upload_ttl_h=1e-9)
    _, late = begun(hasty)
    assert refusal(lambda: look(hasty, late.upload_id)).reason == "upload-not-found"


def test_a_silent_sender_is_cut_off_and_what_came_stays(
    make_rpc: Callable[..., Rpc], monkeypatch: pytest.MonkeyPatch
) -> None:
    rpc = make_rpc(body_idle_timeout_s=WITHIN_S)
    came = Patience.count

    def is_hasty_now(self: Patience[Any], size: int) -> None:
        came(self, size)
        self.idle_timeout_s = 0.2

    monkeypatch.setattr(Patience, "count", is_hasty_now)
    stream, opened = begun(rpc)
    stream.send(chunk=chunk(DATA[:700], 0))
    told = refusal(lambda: stream.call)
    assert (told.reason, told.code) == ("request-timeout", "DEADLINE_EXCEEDED")
    assert look(rpc, opened.upload_id).received.received_bytes == 700


def test_a_full_disk_is_told(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_args: Any) -> None:
        raise StorageFullError

    stream, opened = begun(rpc, BIG)
    monkeypatch.setattr(Growing, "write", full)
    stream.send_file(BIG)
    assert refusal(lambda: stream.call).reason == "storage-full"
    assert look(rpc, opened.upload_id).received.received_bytes == 0
    monkeypatch.setattr(Spool, "require_room", full)
    start = pb.FileStart(size_bytes=9)
    assert refusal(lambda: upload(rpc).send(start=start).call).reason == "storage-full"


def test_two_senders_of_one_upload_do_not_mix(rpc: Rpc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "ACKNOWLEDGED_AFTER_S", 0.01)
    first, opened = begun(rpc, BIG)
    second, _ = begun(rpc, BIG, upload_id=opened.upload_id)
    first.send(chunk=chunk(BIG[: 2**20], 0)).next()
    second.send(chunk=chunk(BIG[: 2**19], 0))
    assert refusal(lambda: second.call).reason == "conflict"
    third, again = begun(rpc, BIG, upload_id=opened.upload_id)
    assert again.received_bytes == 2**20
    assert third.send_file(BIG, 2**20).end().rest()[-1].is_complete
    assert stored(rpc, opened.upload_id) == BIG
