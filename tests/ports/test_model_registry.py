"""Every model registry: versions never collide nor change, aliases move and come back."""

import threading
from datetime import timedelta
from uuid import uuid4

import pytest

from service.errors import (
    ConflictError,
    ModelInUseError,
    ModelNotFoundError,
    NothingToRollBackError,
)
from service.jobs.job import Claim, Kind, Manifest, Queue, Request, State
from service.jobs.model import (
    CANDIDATE,
    PRODUCTION,
    Comparison,
    ModelFile,
    ModelId,
    NewModel,
    PublishedModel,
    Shelf,
    Verdict,
    model_prefix,
)
from tests.ports.conftest import Bench, new_job

LEASE = timedelta(seconds=30)
TOY = NewModel(name="toy")


def submit(bench: Bench, wish: NewModel = TOY, **changes: object) -> ModelId:
    """A new job that makes a model; gives the version that it may publish."""
    asked = Request(kind=Kind.REGISTER, inputs={})
    job, _ = bench.jobs.add(new_job(request=asked, publishes=wish, **changes))
    assert job.request.publishes is not None
    assert bench.jobs.job(job.id) == job
    return job.request.publishes


def made(claim: Claim, of: ModelId | None = None, **changes: object) -> Manifest:
    """What the claim's worker publishes."""
    model_id = of or claim.job.request.publishes
    assert model_id is not None
    key = model_prefix(model_id, claim.job.id, claim.fence) + "model.onnx"
    values: dict[str, object] = {
        **model_id.model_dump(),
        "files": {"model.onnx": ModelFile(key=key, bytes=3, sha256="a" * 64)},
        "card": {"name": model_id.name, "figures": [0.5, 1e-7], "none": None},
    }
    return Manifest(files={}, model=PublishedModel.model_validate(values | changes))


def claim(bench: Bench) -> Claim:
    taken = bench.jobs.claim([Queue.INTERACTIVE], "w", LEASE)
    assert taken is not None
    return taken


def publish(bench: Bench, wish: NewModel = TOY, **changes: object) -> ModelId:
    """A whole job that makes a model."""
    version = submit(bench, wish)
    taken = claim(bench)
    assert bench.jobs.succeed(taken, made(taken, **changes))
    return version


def test_a_version_is_reserved_with_the_job_and_seen_when_the_job_succeeds(bench: Bench) -> None:
    first, second = submit(bench), submit(bench)
    assert (str(first), str(second)) == ("toy/1", "toy/2")
    assert str(submit(bench, NewModel(name="other"))) == "other/1"
    assert (bench.models.list(), bench.models.shelf("toy")) == ([], Shelf())

    one, two = claim(bench), claim(bench)
    assert bench.jobs.succeed(two, made(two))
    assert bench.models.shelf("toy").versions == ("2",)
    assert bench.jobs.succeed(one, made(one))
    assert bench.models.shelf("toy") == Shelf(versions=("1", "2"), aliases={CANDIDATE: "1"})
    assert [(model.name, model.version) for model in bench.models.list()] == [
        ("toy", "1"),
        ("toy", "2"),
    ]


def test_what_was_published_is_what_is_read(bench: Bench) -> None:
    compared = Comparison(against="toy/1", pairs=4, digest="b" * 64, verdict=Verdict.BETTER)
    version = publish(bench, comparison=compared)
    found = bench.models.model("toy", version.version)
    job = bench.jobs.page(None).jobs[0]
    assert job.manifest is not None
    assert job.manifest.model is not None
    assert found.model_dump(exclude={"job_id", "owner", "created_at"}) == (
        job.manifest.model.model_dump()
    )
    assert (found.job_id, found.owner, found.created_at) == (job.id, "alice", job.finished_at)
    assert found.comparison == compared


@pytest.mark.parametrize("version", ["2", "0", "1.0", "x", "9" * 31, "01"])
def test_a_version_that_is_not_there_is_said_so(bench: Bench, version: str) -> None:
    publish(bench)
    with pytest.raises(ModelNotFoundError):
        bench.models.model("toy", version)
    with pytest.raises(ModelNotFoundError):
        bench.models.model("other", "1")


def test_numbers_go_on_above_the_shipped_ones_and_are_never_used_twice(bench: Bench) -> None:
    assert submit(bench, NewModel(name="toy", above=7)).version == "8"
    assert submit(bench, NewModel(name="toy", above=7)).version == "9"
    assert submit(bench).version == "10"
    for _ in range(3):
        bench.jobs.end(claim(bench), State.FAILED, None)
    for job in bench.jobs.page(None).jobs:
        bench.jobs.delete(job.id)
    assert submit(bench).version == "11"


def test_a_repeated_request_gets_the_version_that_it_had(bench: Bench) -> None:
    assert submit(bench, idempotency_key="k") == submit(bench, idempotency_key="k")
    assert submit(bench).version == "2"


def test_a_retried_job_keeps_its_version(bench: Bench) -> None:
    version = submit(bench)
    first = claim(bench)
    assert bench.jobs.retry(first, timedelta(0), "worker-stopped")
    again = claim(bench)
    assert again.job.request.publishes == version


def test_a_worker_that_was_fenced_out_publishes_nothing(bench: Bench) -> None:
    submit(bench)
    lost = claim(bench)
    bench.clock.forward(31)
    bench.jobs.reap(3)
    bench.clock.forward(60)
    again = claim(bench)
    assert not bench.jobs.succeed(lost, made(lost))
    assert bench.models.shelf("toy") == Shelf()
    assert bench.jobs.succeed(again, made(again))
    kept = bench.models.model("toy", "1").files["model.onnx"].key
    assert kept == model_prefix(ModelId(name="toy", version="1"), again.job.id, again.fence) + (
        "model.onnx"
    )


def test_only_the_reserved_version_can_be_published(bench: Bench) -> None:
    submit(bench)
    taken = claim(bench)
    for wrong in (ModelId(name="toy", version="2"), ModelId(name="other", version="1")):
        with pytest.raises(ConflictError):
            bench.jobs.succeed(taken, made(taken, wrong))
    assert bench.models.list() == []
    assert bench.jobs.job(taken.job.id).state == State.RUNNING
    bench.jobs.add(new_job())
    plain = claim(bench)
    with pytest.raises(ConflictError):
        bench.jobs.succeed(plain, made(plain, ModelId(name="toy", version="1")))


def test_a_model_stays_when_its_job_is_forgotten_and_so_do_its_files(bench: Bench) -> None:
    version = publish(bench)
    job = bench.jobs.page(None).jobs[0]
    prefix = model_prefix(version, job.id, job.fence)
    lost, other = model_prefix(version, job.id, 7), model_prefix(version, uuid4(), 1)
    asked = [prefix, lost, other]
    assert bench.jobs.live_keys(asked) == {prefix}
    bench.jobs.delete(job.id)
    assert bench.jobs.live_keys(asked) == {prefix}
    assert bench.models.model("toy", "1").job_id == job.id


def test_files_of_an_attempt_that_runs_are_not_touched(bench: Bench) -> None:
    version = submit(bench)
    taken = claim(bench)
    prefix = model_prefix(version, taken.job.id, taken.fence)
    assert bench.jobs.live_keys([prefix]) == {prefix}
    bench.jobs.end(taken, State.FAILED, None)
    assert bench.jobs.live_keys([prefix]) == set()


def test_aliases_move_and_go_back_step_by_step(bench: Bench) -> None:
    registry = bench.models
    before: str | None = None
    for version in ("1", "2", "2.0-beta"):
        registry.set_alias("toy", PRODUCTION, version, instead_of=before)
        before = version
    assert registry.aliases() == {"toy": {PRODUCTION: "2.0-beta"}}
    assert registry.roll_back("toy", PRODUCTION) == "2"
    registry.set_alias("toy", PRODUCTION, "3", instead_of="2")
    assert registry.shelf("toy").aliases == {PRODUCTION: "3"}
    assert [registry.roll_back("toy", PRODUCTION) for _ in range(3)] == ["2", "1", None]
    assert registry.aliases() == {}
    with pytest.raises(NothingToRollBackError):
        registry.roll_back("toy", PRODUCTION)
    registry.set_alias("toy", PRODUCTION, "1", instead_of=None)
    assert registry.aliases() == {"toy": {PRODUCTION: "1"}}


def test_an_alias_is_moved_only_from_where_it_was_seen(bench: Bench) -> None:
    bench.models.set_alias("toy", PRODUCTION, "1", instead_of=None)
    for seen in (None, "2"):
        with pytest.raises(ConflictError):
            bench.models.set_alias("toy", PRODUCTION, "3", instead_of=seen)
    bench.models.set_alias("toy", "staging", "9", instead_of=None)
    assert bench.models.aliases() == {"toy": {PRODUCTION: "1", "staging": "9"}}


def test_jobs_submitted_at_once_get_versions_of_their_own(bench: Bench) -> None:
    versions: list[str] = []

    def some() -> None:
        for _ in range(5):
            versions.append(submit(bench).version)

    threads = [threading.Thread(target=some) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(int, versions)) == list(range(1, 21))


def test_a_deleted_version_is_gone_and_its_number_is_not_given_again(bench: Bench) -> None:
    first, second = publish(bench), publish(bench)
    kept = bench.models.model("toy", "1")
    prefix = kept.files["model.onnx"].key.removesuffix("model.onnx")
    bench.jobs.delete(kept.job_id)
    assert bench.models.delete("toy", "1") == kept
    assert bench.models.shelf("toy") == Shelf(versions=("2",), aliases={CANDIDATE: "2"})
    assert bench.jobs.live_keys([prefix]) == set()
    for version in ("1", "3", "2.0-beta"):
        with pytest.raises(ModelNotFoundError):
            bench.models.delete("toy", version)
    with pytest.raises(ModelNotFoundError):
        bench.models.delete("other", "2")
    assert (first.version, second.version, publish(bench).version) == ("1", "2", "3")


def test_a_version_that_an_alias_points_to_is_not_deleted_and_none_comes_back_to_one_that_was(
    bench: Bench,
) -> None:
    for _ in range(4):
        publish(bench)  # the candidate is each of them in turn
    registry, before = bench.models, None
    for version in ("1", "2", "3"):
        registry.set_alias("toy", PRODUCTION, version, instead_of=before)
        before = version
    for version in ("3", "4"):
        with pytest.raises(ModelInUseError):
            registry.delete("toy", version)
    registry.delete("toy", "2")
    assert registry.roll_back("toy", PRODUCTION) == "1"
    assert registry.roll_back("toy", CANDIDATE) == "3"
    registry.delete("toy", "4")
    assert registry.shelf("toy").versions == ("1", "3")
