"""Register over one stream: the same checks, errors and job as over REST; breaks lose nothing."""

import hashlib
import threading
import zlib
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from service.errors import NoContrastError
from service.gateway.rpc import receiving
from service.jobs.job import Queue, State
from service.pb import warpline_pb2 as pb
from service.registration.options import RegisterOptions
from tests.unit.gateway.conftest import LEASE, PAIR, volume, zipped
from tests.unit.gateway.rpc.conftest import (
    WITHIN_S,
    Rpc,
    begun_before_its_deadline,
    refusal,
)
from tests.upload_sender import Stream, chunk

RESULTS = {"warped.nii.gz": bytes(range(256)) * 9000, "ddf.nii.gz": b"field", "empty.csv": b""}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receiving, "ACKNOWLEDGED_AFTER_S", 0.01)


def register(rpc: Rpc, *, call: dict[str, Any] | None = None, **start: Any) -> Stream:
    stream = Stream(rpc.stub.Register, pb.RegisterRequest, **call or {})
    return stream.send(start=pb.RegisterStart(**start))


def file_start(role: str, data: bytes, **more: Any) -> pb.FileStart:
    digest = hashlib.sha256(data).digest()
    return pb.FileStart(role=role, size_bytes=len(data), sha256=digest, **more)


def send_pair(stream: Stream, files: dict[str, bytes] | None = None) -> Stream:
    for role, data in (files or PAIR).items():
        stream.send(file=file_start(role, data)).send_file(data, size=1000)
    return stream


def accepted(stream: Stream) -> pb.JobAccepted:
    while not isinstance(part := stream.next(), pb.JobAccepted):
        assert isinstance(part, pb.FileOpened | pb.FileReceived)
    return part


@pytest.fixture
def worker(rpc: Rpc) -> Iterator[Callable[..., None]]:
    """Does the next job once it is there."""
    threads: list[threading.Thread] = []
    ended = threading.Event()

    def work(do: Callable[[], Any]) -> None:
        while not rpc.api.stores.jobs.counts(states=[State.QUEUED]) and not ended.wait(0.01):
            pass
        if not ended.is_set():
            do()

    def start(do: Callable[[], Any]) -> None:
        threads.append(threading.Thread(target=work, args=(do,)))
        threads[-1].start()

    yield start
    ended.set()
    for thread in threads:
        thread.join()


def test_a_pair_becomes_a_job_that_holds_the_very_bytes(rpc: Rpc) -> None:
    options = pb.RegisterOptions(initialise="rigid", refine="2.5")
    ticket = pb.Ticket(queue="batch", priority=2, idempotency_key="k")
    stream = send_pair(register(rpc, options=options, ticket=ticket)).send(submit=pb.Submit())
    opened = stream.next()
    assert (opened.role, opened.received_bytes) == ("fixed", 0)
    told = accepted(stream)
    assert not told.is_replayed
    assert told.job.jobs_before == 0
    job = rpc.api.stores.jobs.job(UUID(told.job.id))
    assert (job.queue, job.priority, job.owner) == (Queue.BATCH, 2, "local")
    assert job.request.options == RegisterOptions(initialise="rigid", refine=2.5).model_dump()
    for role, data in PAIR.items():
        file = job.request.inputs[role]
        assert (file.sha256, file.bytes) == (hashlib.sha256(data).hexdigest(), len(data))
        assert rpc.api.stores.blobs.get_bytes(file.key or "") == data
    stream.break_off()


def test_the_result_comes_back_over_the_same_stream(rpc: Rpc, worker: Callable[..., None]) -> None:
    worker(lambda: rpc.api.work(RESULTS))
    stream = send_pair(register(rpc, delivery=pb.DELIVERY_INLINE)).send(submit=pb.Submit()).end()
    job = accepted(stream).job
    parts = stream.rest()
    events = [part for part in parts if isinstance(part, pb.JobEvent)]
    types = [event.type for event in events if event.type != "progress"]  # where it was seen to run
    assert types == ["queued", "started", "succeeded"]
    [result] = [part for part in parts if isinstance(part, pb.RegisterResult)]
    assert (result.job.id, result.job.state) == (job.id, pb.JOB_STATE_SUCCEEDED)
    assert [file.name for file in result.files] == sorted(RESULTS)
    assert all(file.url for file in result.files)
    got = dict.fromkeys(RESULTS, b"")
    for part in parts[parts.index(result) + 1 :]:
        assert part.offset == len(got[part.name])
        assert zlib.crc32(part.data) == part.crc32
        assert 0 < len(part.data) <= 2**20
        got[part.name] += part.data
    assert got == RESULTS
    assert rpc.api.stores.blobs.list("uploads/") == []  # nobody needs the inputs any more


def test_only_what_is_wanted_is_sent(rpc: Rpc, worker: Callable[..., None]) -> None:
    worker(lambda: rpc.api.work(RESULTS))
    wanted = {"delivery": pb.DELIVERY_INLINE, "wanted": ["ddf.nii.gz"]}
    parts = send_pair(register(rpc, **wanted)).send(submit=pb.Submit()).end().rest()
    assert [part.data for part in parts if isinstance(part, pb.ResultChunk)] == [b"field"]


def test_urls_are_the_default_and_files_may_be_referred_to(
    rpc: Rpc, worker: Callable[..., None]
) -> None:
    worker(lambda: rpc.api.work(RESULTS))
    fixed = rpc.api.upload(PAIR["fixed"])
    stream = register(rpc, inputs={"fixed": pb.FileReference(upload_id=fixed)})
    stream.send(file=file_start("moving", PAIR["moving"])).send_file(PAIR["moving"]).end()
    parts = stream.rest()
    assert isinstance(parts[-1], pb.RegisterResult)
    assert rpc.api.get(f"/v1/uploads/{fixed}").json()["complete"]  # it was not sent here


def test_a_job_that_fails_ends_the_call_with_its_own_error(
    rpc: Rpc, worker: Callable[..., None]
) -> None:
    def fail() -> None:
        claim = rpc.api.stores.jobs.claim([Queue.INTERACTIVE], "worker-1", LEASE)
        assert claim is not None
        problem = NoContrastError("fixed is 7 everywhere.", field="fixed").problem()
        assert rpc.api.stores.jobs.end(claim, State.FAILED, problem)

    worker(fail)
    stream = send_pair(register(rpc)).send(submit=pb.Submit())
    told = refusal(lambda: stream.call)
    assert (told.reason, told.sentence) == ("no-contrast", "fixed is 7 everywhere.")
    assert (told.code, told.fields) == ("INVALID_ARGUMENT", ("fixed",))


def test_a_cancelled_job_ends_the_call(rpc: Rpc) -> None:
    stream = send_pair(register(rpc)).send(submit=pb.Submit())
    rpc.stub.CancelJob(pb.CancelJobRequest(job_id=accepted(stream).job.id))
    told = refusal(lambda: stream.call)
    assert (told.reason, told.code) == ("job-cancelled", "CANCELLED")


def test_a_call_that_is_cancelled_leaves_an_accepted_job_alone(rpc: Rpc) -> None:
    stream = send_pair(register(rpc)).send(submit=pb.Submit())
    job = accepted(stream).job.id
    stream.break_off()
    assert rpc.api.work(RESULTS) == job
    assert rpc.stub.GetJob(pb.GetJobRequest(job_id=job)).job.state == pb.JOB_STATE_SUCCEEDED


def test_a_call_that_breaks_before_that_makes_none_and_is_gone_on_with(rpc: Rpc) -> None:
    fixed, moving = PAIR["fixed"], PAIR["moving"]
    ticket = pb.Ticket(idempotency_key="again")
    stream = register(rpc, ticket=ticket).send(file=file_start("fixed", fixed)).send_file(fixed)
    first = stream.next()
    while not stream.next().is_complete:
        pass
    second = stream.send(file=file_start("moving", moving)).next()
    stream.send(chunk=chunk(moving[:700], 0))
    assert stream.next().received_bytes == 700
    stream.break_off()
    assert rpc.api.stores.jobs.counts() == {}

    jobs = []
    for received in (700, len(moving)):  # the second time JobAccepted itself was lost
        stream = register(rpc, ticket=ticket)
        stream.send(file=file_start("fixed", fixed, upload_id=first.upload_id))
        assert stream.next().received_bytes == len(fixed)
        assert stream.next().is_complete
        stream.send(file=file_start("moving", moving, upload_id=second.upload_id))
        assert stream.next().received_bytes == received
        stream.send_file(moving, received).send(submit=pb.Submit())
        jobs.append(accepted(stream))
        stream.break_off()
    assert [job.is_replayed for job in jobs] == [False, True]
    assert jobs[0].job.id == jobs[1].job.id


def test_the_same_pair_sent_again_with_the_same_key_leaves_no_second_copy(rpc: Rpc) -> None:
    ticket = pb.Ticket(idempotency_key="k1")
    told = []
    for _ in range(2):
        stream = send_pair(register(rpc, ticket=ticket)).send(submit=pb.Submit())
        told.append(accepted(stream))
        stream.break_off()
    assert [one.is_replayed for one in told] == [False, True]
    assert len(rpc.api.stores.blobs.list("uploads/")) == 2
    stream = send_pair(register(rpc, ticket=ticket, options=pb.RegisterOptions(refine="best")))
    told_off = refusal(lambda: stream.send(submit=pb.Submit()).call)
    assert told_off.reason == "idempotency-key-reused"


@pytest.mark.parametrize(
    ("start", "reason", "field"),
    [
        ({"options": {"refine": "nonsense"}}, "validation-failed", "/options/refine"),
        ({"ticket": {"queue": "fast"}}, "validation-failed", "/queue"),
        ({"ticket": {"priority": 10}}, "validation-failed", "/priority"),
        ({"ticket": {"idempotency_key": "k" * 256}}, "validation-failed", "idempotency_key"),
        ({"options": {"model": "unknown"}}, "model-not-found", "/options/model"),
        ({"inputs": {"third": {"upload_id": "x"}}}, "validation-failed", "/inputs/third"),
    ],
)
def test_a_bad_order_is_refused_before_a_file_is_sent(
    rpc: Rpc, start: dict[str, Any], reason: str, field: str
) -> None:
    told = refusal(lambda: register(rpc, **start).call)
    assert told.reason == reason
    assert told.fields[0].startswith(field)


def test_files_are_checked_at_the_door_as_over_rest(rpc: Rpc) -> None:
    broken = {**PAIR, "fixed_labels": zipped(volume(dtype="uint8"))[:-20]}
    told = refusal(lambda: send_pair(register(rpc), broken).send(submit=pb.Submit()).call)
    assert (told.reason, told.fields) == ("truncated-file", ("fixed_labels",))
    other = {**PAIR, "fixed_labels": volume((12, 9, 8), dtype="uint8")}
    told = refusal(lambda: send_pair(register(rpc), other).send(submit=pb.Submit()).call)
    assert (told.reason, told.fields) == ("grid-mismatch", ("fixed_labels",))
    told = refusal(lambda: send_pair(register(rpc), {"fixed": PAIR["fixed"]}).end().call)
    assert (told.reason, told.fields[-1]) == ("validation-failed", "/inputs/moving")
    assert rpc.api.stores.jobs.counts() == {}


def _no_start(rpc: Rpc) -> Stream:
    return Stream(rpc.stub.Register, pb.RegisterRequest).send(submit=pb.Submit())


@pytest.mark.parametrize(
    ("sent", "reason", "field"),
    [
        (_no_start, "validation-failed", "start"),
        (lambda rpc: register(rpc).send(chunk=chunk(b"x", 0)), "validation-failed", "chunk"),
        (lambda rpc: register(rpc).send(start={}), "validation-failed", "part"),
        (lambda rpc: register(rpc).send(file={"role": "third"}), "validation-failed", "file.role"),
        (lambda rpc: register(rpc).send(file={"role": "fixed"}), "validation-failed", "fixed"),
        (
            lambda rpc: register(rpc).send(file={"role": "fixed", "size_bytes": 9}).end(),
            "upload-incomplete",
            "fixed",
        ),
        (
            lambda rpc: send_pair(register(rpc)).send(file={"role": "fixed", "size_bytes": 9}),
            "validation-failed",
            "fixed",
        ),
        (
            lambda rpc: (
                register(rpc)
                .send(file={"role": "moving", "size_bytes": 9})
                .send(chunk=chunk(b"x", 1))
            ),
            "chunk-out-of-order",
            "moving",
        ),
    ],
)
def test_messages_out_of_place_are_told(
    rpc: Rpc, sent: Callable[[Rpc], Stream], reason: str, field: str
) -> None:
    told = refusal(lambda: sent(rpc).call)
    assert (told.reason, told.fields) == (reason, (field,))
    assert rpc.api.stores.jobs.counts() == {}


def test_a_deadline_ends_the_call_not_the_job(rpc: Rpc) -> None:
    def begin(timeout_s: float) -> tuple[Stream, str]:
        stream = send_pair(register(rpc, call={"timeout": timeout_s})).send(submit=pb.Submit())
        return stream, accepted(stream).job.id

    stream, job = begun_before_its_deadline(begin, soon_s=1.0)
    with pytest.raises(Exception, match="DEADLINE_EXCEEDED"):
        stream.rest()
    assert rpc.stub.GetJob(pb.GetJobRequest(job_id=job), timeout=WITHIN_S).job.state == (
        pb.JOB_STATE_QUEUED
    )
