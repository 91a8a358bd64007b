"""Both clients against the real gateway, on a wire that breaks when it is told to."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from service import errors
from service.jobs.model import NewModel
from tests.made_models import publish
from tests.unit.client.conftest import Broken, World


def test_an_order_arrives_as_it_was_given(world: World, pair: dict[str, Path]) -> None:
    job = world.client.register(**pair, initialise="rigid", refine=2.5, priority=3)
    assert (job.state, job.kind, job.priority) == ("queued", "register", 3)
    assert job.options["initialise"] == "rigid"
    assert job.options["refine"] == 2.5
    assert job.place.position == 1
    assert world.client.job(job.id) == job
    assert [other.id for other in world.client.jobs(["queued"]).jobs] == [job.id]
    assert world.client.jobs(["failed"]).jobs == []


def test_a_large_order_goes_through_uploads(
    world: World, pair: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.client.orders.MOST_FORM_BYTES", 0)
    job = world.client.register(**pair)
    assert job.state == "queued"
    sent = [request.method for request in world.wire.seen if "/uploads" in request.url.path]
    assert sent == ["POST", "PATCH", "POST", "PATCH"]
    assert world.wire.seen[-1].headers["content-type"] == "application/json"


def test_an_upload_goes_on_when_an_answer_is_lost(
    world: World, pair: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.client.orders.MOST_FORM_BYTES", 0)
    world.wire.lost = {3}  # the answer to the first PATCH; its bytes did arrive
    assert world.client.register(**pair).state == "queued"
    methods = [request.method for request in world.wire.seen]
    assert methods[2:4] == ["PATCH", "GET"]
    assert methods.count("PATCH") == 2


def test_a_repeated_order_is_carried_out_once(world: World, pair: dict[str, Path]) -> None:
    world.wire.lost = {2}  # the order arrived, its answer did not
    job = world.client.register(**pair)
    assert [other.id for other in world.client.jobs().jobs] == [job.id]
    keys = {request.headers.get("idempotency-key") for request in world.wire.seen[1:3]}
    assert len(keys) == 1
    assert None not in keys


def test_it_waits_as_long_as_the_server_asks(world: World) -> None:
    busy = httpx.Response(503, headers={"retry-after": "7"}, json={"code": "queue-full"})
    world.wire.faults = {1: lambda _request, _response: busy}
    assert world.client.jobs().jobs == []
    assert world.slept[0] >= 7


def test_it_gives_up_when_nobody_answers(world: World) -> None:
    world.wire.lost = set(range(1, 100))
    with pytest.raises(errors.UnavailableError, match="running"):
        world.client.jobs()
    assert len(world.wire.seen) == len(world.slept) + 1 < 10


def test_refusals_are_not_repeated_and_keep_their_name(world: World, pair: dict[str, Path]) -> None:
    pair["moving"].write_bytes(pair["moving"].read_bytes()[:-30])
    with pytest.raises(errors.InvalidFileError) as caught:
        world.client.register(**pair)
    assert caught.value.field == "moving"
    assert len(world.wire.seen) == 2  # limits, then the order
    with pytest.raises(errors.JobNotFoundError):
        world.client.job("6f1f0c1e-54a9-4d0c-9d5f-0d4f4f0e7c11")


def test_the_key_goes_to_the_api(make_world: Callable[..., World]) -> None:
    digest = "5e884898da28047151d0e56f8dc6292773603d0d6aabbdd62a11ef721d1542d8"  # of "password"
    world = make_world("password", api_keys=f"alice:{digest}")
    assert world.client.jobs().jobs == []


def test_a_missing_key_is_told(make_world: Callable[..., World]) -> None:
    world = make_world(api_keys="alice:" + "0" * 64)
    with pytest.raises(errors.UnauthenticatedError):
        world.client.jobs()


def test_results_arrive_whole(world: World, pair: dict[str, Path], tmp_path: Path) -> None:
    job = world.client.register(**pair)
    made = {"warped.nii.gz": b"w" * 5000, "report.json": b"{}"}
    world.work(made)
    fetched = world.client.download(job.id, tmp_path / "result")
    assert {name: path.read_bytes() for name, path in fetched.items()} == made
    assert sorted(path.name for path in (tmp_path / "result").iterdir()) == sorted(made)
    assert "authorization" not in world.wire.seen[-1].headers


def test_a_broken_download_is_taken_up(world: World, pair: dict[str, Path], tmp_path: Path) -> None:
    job = world.client.register(**pair)
    data = bytes(range(256)) * 40
    world.work({"ddf.nii.gz": data})
    number = len(world.wire.seen) + 2

    def cut(_request: httpx.Request, response: httpx.Response) -> httpx.Response:
        return httpx.Response(200, headers=_plain(response), stream=Broken(data[:3000]))

    world.wire.faults = {number: cut}
    fetched = world.client.download(job.id, tmp_path / "result")
    assert fetched["ddf.nii.gz"].read_bytes() == data
    assert world.wire.seen[-1].headers["range"] == "bytes=3000-"


def test_a_damaged_download_is_not_kept(
    world: World, pair: dict[str, Path], tmp_path: Path
) -> None:
    job = world.client.register(**pair)
    world.work({"ddf.nii.gz": b"field"})
    damaged = httpx.Response(200, content=b"fjeld")
    world.wire.faults = dict.fromkeys(range(1, 50), _only_objects(damaged))
    with pytest.raises(errors.ChecksumMismatchError):
        world.client.download(job.id, tmp_path / "result")
    assert list((tmp_path / "result").iterdir()) == []


def test_a_result_cannot_leave_its_folder(
    world: World, pair: dict[str, Path], tmp_path: Path
) -> None:
    job = world.client.register(**pair)
    world.work({"ddf.nii.gz": b"field"})

    def renamed(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if not request.url.path.endswith("/results"):
            return response
        body = response.json()
        body["files"] = {"../escaped": body["files"]["ddf.nii.gz"]}
        return httpx.Response(200, json=body)

    world.wire.faults = dict.fromkeys(range(1, 50), renamed)
    with pytest.raises(errors.ResultNotFoundError):
        world.client.download(job.id, tmp_path / "result")
    assert not (tmp_path / "escaped").exists()


def test_events_come_once_across_a_broken_stream(world: World, pair: dict[str, Path]) -> None:
    job = world.client.register(**pair)
    world.work({"ddf.nii.gz": b"field"})
    number = len(world.wire.seen) + 1

    def cut(_request: httpx.Request, response: httpx.Response) -> httpx.Response:
        whole = response.content
        half = whole[: whole.index(b"\n\n", whole.index(b"data:")) + 2]
        return httpx.Response(200, headers=_plain(response), stream=Broken(half))

    def from_a_proxy(_request: httpx.Request, _response: httpx.Response) -> httpx.Response:
        return httpx.Response(502)  # while the gateway behind it is started again

    world.wire.faults = {number: cut} | dict.fromkeys(range(number + 1, number + 9), from_a_proxy)
    events = list(world.client.events(job.id))
    assert len(world.slept) == 9
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert events[-1].type == "succeeded"
    assert world.wire.seen[-1].headers["last-event-id"] == "1"


def test_waiting_tells_progress_and_why_a_job_failed(world: World, pair: dict[str, Path]) -> None:
    job = world.client.register(**pair)
    assert world.client.cancel(job.id).state == "cancelled"
    seen: list[Any] = []
    with pytest.raises(errors.JobCancelledError):
        world.client.wait(job.id, seen.append)
    assert [told.state for told in seen] == ["cancelled"]


def test_only_an_ended_job_can_be_deleted(world: World, pair: dict[str, Path]) -> None:
    job = world.client.register(**pair)
    with pytest.raises(errors.ConflictError):
        world.client.delete(job.id)
    world.client.cancel(job.id)
    world.client.delete(job.id)
    with pytest.raises(errors.JobNotFoundError):
        world.client.job(job.id)


def test_a_missing_file_is_told_before_anything_is_sent(world: World, tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidRequestError):
        world.client.register(tmp_path / "no.nii", tmp_path / "neither.nii")
    assert world.wire.seen == []


def _plain(response: httpx.Response) -> dict[str, str]:
    return {"content-type": response.headers["content-type"]}


def _only_objects(changed: httpx.Response) -> Callable[..., httpx.Response]:
    def fault(request: httpx.Request, response: httpx.Response) -> httpx.Response:
        if "/objects/" not in request.url.path:
            return response
        return httpx.Response(changed.status_code, content=changed.content)

    return fault


def test_a_model_goes_into_production_and_comes_back_though_an_answer_is_lost(
    world: World, tmp_path: Path
) -> None:
    stores = world.wire.app.state.desk.stores
    publish(stores, tmp_path, NewModel(name="toy"))
    assert world.client.promote("toy", "1")["aliases"] == ["candidate", "production"]
    publish(stores, tmp_path, NewModel(name="toy"))
    with pytest.raises(errors.NotComparedError):
        world.client.promote("toy", "2")
    assert world.client.promote("toy", "2", force=True)["version"] == "2"
    publish(stores, tmp_path, NewModel(name="toy"))
    world.client.promote("toy", "3", force=True)
    world.wire.lost = {len(world.wire.seen) + 2}  # the answer to the order, after a look
    assert world.client.roll_back("toy")["version"] == "2"
    assert world.client.model("toy")["version"] == "2"
    assert world.client.roll_back("toy", "candidate")["version"] == "2"


def test_a_version_is_deleted(world: World, tmp_path: Path) -> None:
    stores = world.wire.app.state.desk.stores
    for _ in range(2):
        publish(stores, tmp_path, NewModel(name="toy"))
    with pytest.raises(errors.ModelInUseError):
        world.client.delete_model("toy", "2")
    world.client.delete_model("toy", "1")
    with pytest.raises(errors.ModelNotFoundError):
        world.client.delete_model("toy", "1")


def test_a_cohort_sends_each_file_once(world: World, pair: dict[str, Path], tmp_path: Path) -> None:
    copy = tmp_path / "copy.nii.gz"
    copy.write_bytes(pair["moving"].read_bytes())
    subjects = {"a": {"moving": pair["moving"]}, "b": {"moving": copy}}
    made = world.client.register_cohort({"fixed": pair["fixed"]}, subjects, refine="none")
    assert (made.subjects, made.counts, made.ended) == (2, {"queued": 2}, False)
    sent = [request for request in world.wire.seen if request.method == "POST"]
    assert [request.url.path for request in sent] == ["/v1/uploads", "/v1/uploads", "/v1/cohorts"]
    assert [row.figures["id"] for row in world.client.cohort(made.id).table or ()] == ["a", "b"]
    cancelled = world.client.delete_cohort(made.id)
    assert cancelled is not None
    assert cancelled.counts == {"cancelled": 2}
    assert [found.id for found in world.client.cohorts().cohorts] == [made.id]
    assert world.client.delete_cohort(made.id) is None
    with pytest.raises(errors.CohortNotFoundError):
        world.client.cohort(made.id)
    with pytest.raises(errors.InvalidRequestError):
        world.client.register_cohort({"fixed": pair["fixed"]}, {"a": {"moving": tmp_path / "no"}})
