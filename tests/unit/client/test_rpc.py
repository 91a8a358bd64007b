"""Both gRPC clients against a small server, over a wire that breaks."""

import asyncio
import inspect
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from service.client import AsyncClient, AsyncGrpcClient, Client, GrpcClient, rpc_aio, rpc_sync
from service.client.retrying import TRIES
from service.client.rpc_channel import Address
from service.errors import (
    ChecksumMismatchError,
    InvalidRequestError,
    JobCancelledError,
    JobNotFoundError,
    NoOverlapError,
    QuotaExceededError,
    ResultNotFoundError,
    StorageFullError,
    UnavailableError,
)
from service.pb import warpline_pb2 as pb
from service.registration.options import RegisterOptions
from tests.fakes.breaking_wire import BreakingWire
from tests.fakes.rpc_service import FakeService, serve_fake

BYTES = 3 * 2**20 + 12345


class Blocking:
    """An async client, called as if it were the other one."""

    def __init__(self, client: AsyncGrpcClient, portal: BlockingPortal) -> None:
        self._client, self._portal = client, portal

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            async def run() -> Any:
                result = getattr(self._client, name)(*args, **options)
                if inspect.isasyncgen(result):
                    return [item async for item in result]
                return await result

            return self._portal.call(run)

        return call


@dataclass
class World:
    """A server, the wire to it, and a client on it."""

    service: FakeService
    wire: BreakingWire
    client: Any
    slept: list[float]


@pytest.fixture(scope="module")
def portal() -> Iterator[BlockingPortal]:
    with start_blocking_portal() as made:
        yield made


@pytest.fixture(params=["sync", "async"])
def world(
    request: pytest.FixtureRequest, portal: BlockingPortal, monkeypatch: pytest.MonkeyPatch
) -> Iterator[World]:
    service = FakeService()
    server = serve_fake(service)
    wire = BreakingWire(server.port)
    slept: list[float] = []
    url = f"grpc://127.0.0.1:{wire.port}"

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        time.sleep(min(seconds, 0.1))

    async def asleep(seconds: float) -> None:
        slept.append(seconds)
        await asyncio.sleep(min(seconds, 0.1))

    # In the clients' modules alone: threads of others sleep meanwhile.
    monkeypatch.setattr(rpc_sync, "time", SimpleNamespace(sleep=sleep))
    slow = SimpleNamespace(**vars(asyncio) | {"sleep": asleep})
    monkeypatch.setattr(rpc_aio, "asyncio", slow)
    client: Any
    if request.param == "sync":
        client = GrpcClient(url, "secret")
    else:
        client = Blocking(AsyncGrpcClient(url, "secret"), portal)
    yield World(service, wire, client, slept)
    client.close()
    wire.close()
    server.stop()


@pytest.fixture
def pair(tmp_path: Path, rng: Any) -> dict[str, Path]:
    files = {}
    for role, size in (("fixed", BYTES), ("moving", 2**20)):
        files[role] = tmp_path / f"{role}.nii.gz"
        files[role].write_bytes(rng.bytes(size))
    return files


def kept(world: World) -> list[bytes]:
    """The complete files that the server has, by role."""
    whole = [one for one in world.service.uploads.values() if one.is_complete]
    return [bytes(one.data) for one in sorted(whole, key=lambda one: one.start.role)]


def test_a_pair_is_sent_and_its_job_followed(world: World, pair: dict[str, Path]) -> None:
    seen, sent = [], []
    job = world.client.register(
        **pair,
        wait=True,
        progress=seen.append,
        sent=lambda *so_far: sent.append(so_far),
        refine=2.5,
        queue="batch",
        deadline_s=90,
    )
    assert kept(world) == [pair["fixed"].read_bytes(), pair["moving"].read_bytes()]
    assert job.state == "succeeded"
    assert job.summary == {"verdict": {"status": "pass"}}
    assert [one.fraction for one in seen] == sorted(one.fraction for one in seen)
    assert seen[0].place.position == 1
    assert sent[-1] == (BYTES + 2**20, BYTES + 2**20)
    start = world.service.starts[0]
    assert (start.options.refine, start.ticket.queue) == ("2.5", "batch")
    assert start.ticket.deadline.seconds == 90
    assert not start.options.HasField("model")
    assert world.service.seen_metadata[0]["authorization"] == "Bearer secret"


@pytest.mark.parametrize("at", [[500], [20_000, 30_000], [2**20 + 77], [3_500_000, 700_000]])
def test_an_upload_that_breaks_anywhere_goes_on(
    world: World, pair: dict[str, Path], at: list[int]
) -> None:
    world.wire.up[:] = at
    job = world.client.register(**pair, idempotency_key="once")
    assert kept(world) == [pair["fixed"].read_bytes(), pair["moving"].read_bytes()]
    assert world.wire.connections == len(at) + 1
    assert {start.ticket.idempotency_key for start in world.service.starts} == {"once"}
    assert list(world.service.jobs) == [str(job.id)]


def test_safe_bytes_are_not_sent_again(world: World, pair: dict[str, Path]) -> None:
    world.wire.up[:] = [BYTES - 2**20]
    world.client.upload(pair["fixed"])
    assert len(world.service.uploads) == 1  # went on with it, made no second one


def test_a_lost_upload_is_begun_again(world: World, pair: dict[str, Path]) -> None:
    world.wire.up[:] = [BYTES - 2**20]
    original = world.service._keep

    def forgetful(start: Any) -> Any:
        if start.upload_id:
            world.service.uploads.clear()
        return original(start)

    world.service._keep = forgetful  # type: ignore[method-assign]
    upload = world.client.upload(pair["fixed"])
    assert upload.complete
    assert list(world.service.uploads) == [str(upload.id)]


def test_a_watch_goes_on_after_the_last_event(world: World, pair: dict[str, Path]) -> None:
    job = world.client.register(**pair)
    world.service.failures["WatchJob"] = [UnavailableError(), UnavailableError()]
    events = list(world.client.events(job.id))
    assert [event.seq for event in events] == [1, 2, 3]
    assert [event.type for event in events] == ["queued", "running", "succeeded"]
    assert len(world.slept) == 2


def test_a_job_that_failed_raises_its_own_error(world: World, pair: dict[str, Path]) -> None:
    world.service.ends_as = pb.JOB_STATE_FAILED
    world.service.problem = pb.Problem(code="no-overlap", detail="They do not meet.", field="fixed")
    with pytest.raises(NoOverlapError, match="They do not meet"):
        world.client.register(**pair, wait=True)
    world.service.ends_as, world.service.problem = pb.JOB_STATE_CANCELLED, None
    with pytest.raises(JobCancelledError):
        world.client.register(**pair, wait=True)


def test_a_refusal_is_not_tried_again(world: World, pair: dict[str, Path]) -> None:
    world.service.failures["Register"] = [NoOverlapError("No.", field="moving")]
    with pytest.raises(NoOverlapError) as caught:
        world.client.register(**pair)
    assert (caught.value.detail, caught.value.field) == ("No.", "moving")
    assert world.service.calls == ["Register"]


def test_the_server_says_how_long_to_wait(world: World) -> None:
    world.service.failures["GetLimits"] = [QuotaExceededError(retry_after_s=7)]
    assert world.client.limits().max_body_bytes == 1000
    assert world.slept == [pytest.approx(7)]


def test_no_server_is_told_after_some_tries(world: World) -> None:
    world.service.failures["GetLimits"] = [UnavailableError("Later.")] * TRIES
    with pytest.raises(UnavailableError, match="Later"):
        world.client.limits()
    world.wire.close()
    with pytest.raises(UnavailableError, match="does not answer"):
        world.client.limits()


@pytest.mark.parametrize("at", [[], [300_000], [270_000, 270_000, 400_000]])
def test_a_download_goes_on_where_it_broke(
    world: World, pair: dict[str, Path], tmp_path: Path, at: list[int]
) -> None:
    job = world.client.register(**pair)
    world.wire.down[:] = at
    world.wire.cut()
    paths = world.client.download(job.id, tmp_path / "out")
    assert {name: path.read_bytes() for name, path in paths.items()} == world.service.results
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(paths)


def test_a_damaged_download_is_fetched_again_once(
    world: World, pair: dict[str, Path], tmp_path: Path
) -> None:
    job = world.client.register(**pair)
    (tmp_path / "warped.nii.gz.part").write_bytes(b"rubbish")
    name = "warped.nii.gz"
    fetched = world.client.download(job.id, tmp_path, [name])
    assert fetched[name].read_bytes() == world.service.results[name]
    world.service._files = lambda: [pb.ResultFile(name="bad", size_bytes=2, sha256=b"0" * 32)]  # type: ignore[method-assign]
    world.service.results["bad"] = b"ab"
    with pytest.raises(ChecksumMismatchError, match="damaged twice"):
        world.client.download(job.id, tmp_path)


def test_unknown_things_are_told(world: World, pair: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(JobNotFoundError):
        world.client.job("0" * 32)
    job = world.client.register(**pair)
    with pytest.raises(ResultNotFoundError, match="nothing"):
        world.client.download(job.id, tmp_path, ["nothing"])
    with pytest.raises(InvalidRequestError, match="option"):
        world.client.register(**pair, colour="red")
    with pytest.raises(InvalidRequestError, match="no file"):
        world.client.register(tmp_path / "none", tmp_path / "none")


def test_jobs_are_listed_and_cancelled(world: World, pair: dict[str, Path]) -> None:
    job = world.client.register(**pair)
    page = world.client.jobs(["queued"])
    assert [one.id for one in page.jobs] == [job.id]
    assert page.cursor == "more"
    assert world.client.cancel(job.id).state == "cancelled"
    assert set(world.client.results(job.id).files) == set(world.service.results)


def test_a_full_disk_is_worth_another_try(world: World, pair: dict[str, Path]) -> None:
    world.service.failures["Register"] = [StorageFullError()]
    assert world.client.register(**pair).state == "queued"


def test_the_clients_of_both_apis_have_the_same_methods() -> None:
    def methods(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    both = methods(Client)
    assert methods(AsyncClient) == both
    assert methods(GrpcClient) == methods(AsyncGrpcClient) == both | {"upload"}
    for name in both:
        theirs = inspect.signature(getattr(Client, name)).parameters
        ours = inspect.signature(getattr(GrpcClient, name)).parameters
        assert theirs.keys() <= ours.keys()
        assert inspect.getdoc(getattr(GrpcClient, name))


def test_every_option_of_the_science_has_its_field() -> None:
    assert set(RegisterOptions.model_fields) == set(pb.RegisterOptions.DESCRIPTOR.fields_by_name)


@pytest.mark.parametrize(
    ("url", "target", "is_secure"),
    [
        ("grpc://127.0.0.1:8081", "127.0.0.1:8081", False),
        ("grpcs://scanner.example.org", "scanner.example.org:443", True),
        ("grpc://[::1]:5", "[::1]:5", False),
    ],
)
def test_addresses(url: str, target: str, is_secure: bool) -> None:
    assert Address.of(url) == Address(target, is_secure)


@pytest.mark.parametrize("url", ["127.0.0.1:8081", "http://a:1", "grpc://", "grpc://a:1/x"])
def test_what_is_no_address(url: str) -> None:
    with pytest.raises(InvalidRequestError):
        Address.of(url)
