"""Orders, models, data sets and limits over gRPC, each beside what REST shows."""

import json
from collections.abc import Callable
from pathlib import Path

from service.jobs.job import Queue
from service.pb import warpline_pb2 as pb
from tests.unit.gateway.conftest import LEASE, Api, volume
from tests.unit.gateway.rpc.conftest import Rpc, refusal
from tests.unit.gateway.test_models import card
from tests.unit.gateway.test_train import CONFIG, GOOD, NO_DATA


def warp_request(job: str, upload: str, **ticket: object) -> pb.WarpRequest:
    asked = pb.WarpRequest(
        job_id=job,
        inputs={"labels": pb.FileReference(upload_id=upload)},
        label_interpolation="nearest",
        ticket=pb.Ticket(idempotency_key="again", queue="batch", priority=0, **ticket),
    )
    asked.ticket.deadline.FromSeconds(60)
    return asked


def test_a_warp_is_taken_in_as_ordered_and_once(rpc: Rpc) -> None:
    job = rpc.api.job()
    rpc.api.work()
    asked = warp_request(job, rpc.api.upload(volume(seed=3)))
    made = rpc.stub.Warp(asked)
    again = rpc.stub.Warp(asked)
    assert (made.is_replayed, again.is_replayed) == (False, True)
    assert (made.job.id, made.job.kind, made.job.queue) == (again.job.id, "warp", "batch")
    lives_s = made.job.deadline_at.ToDatetime() - made.job.created_at.ToDatetime()
    assert lives_s.total_seconds() == 60
    claim = rpc.api.stores.jobs.claim([Queue.BATCH], "w", LEASE)
    assert claim is not None
    assert set(claim.job.request.inputs) == {"moving_labels", "ddf"}
    other = pb.WarpRequest()
    other.CopyFrom(asked)
    other.label_interpolation = "linear"
    told = refusal(lambda: rpc.stub.Warp(other))
    assert (told.code, told.reason) == ("INVALID_ARGUMENT", "idempotency-key-reused")


def test_a_bad_file_is_refused_by_its_role(rpc: Rpc) -> None:
    job = rpc.api.job()
    rpc.api.work()
    bad = rpc.api.upload(volume()[:-7])
    told = refusal(lambda: rpc.stub.Warp(warp_request(job, bad)))
    assert (told.code, told.reason, told.fields) == ("DATA_LOSS", "truncated-file", ("labels",))


def test_a_training_is_the_same_document_as_over_rest(rpc: Rpc) -> None:
    asked = pb.TrainRequest(body_json=json.dumps({"config": NO_DATA}), idempotency_key="one")
    made, again = rpc.stub.Train(asked), rpc.stub.Train(asked)
    assert (made.job.kind, made.job.queue) == ("train", "train")
    assert (again.job.id, again.is_replayed) == (made.job.id, True)
    rest = rpc.api.get(f"/v1/jobs/{made.job.id}").json()
    assert json.loads(made.job.options_json) == rest["options"]


def test_where_nobody_trains_it_is_said_first(make_rpc: Callable[..., Rpc]) -> None:
    rpc = make_rpc(training=False)
    told = refusal(lambda: rpc.stub.Train(pb.TrainRequest(body_json="{")))
    assert (told.code, told.reason) == ("UNIMPLEMENTED", "training-not-offered")


def test_an_upload_becomes_a_data_set_that_trainings_name(rpc: Rpc) -> None:
    upload = rpc.api.upload(GOOD)
    made = rpc.stub.CreateDataset(pb.CreateDatasetRequest(name="a", upload_id=upload)).dataset
    assert (made.name, made.files, made.size_bytes, len(made.sha256)) == ("a", 3, len(GOOD), 64)
    rest = rpc.api.get(f"/v1/datasets/{made.id}").json()
    assert (rest["sha256"], rest["files"]) == (made.sha256, made.files)
    again = pb.CreateDatasetRequest(name="a", upload_id=rpc.api.upload(GOOD))
    assert refusal(lambda: rpc.stub.CreateDataset(again)).reason == "conflict"
    order = {"config": CONFIG, "data": {"dataset_id": made.id}}
    assert rpc.stub.Train(pb.TrainRequest(body_json=json.dumps(order))).job.id
    asked = pb.GetDatasetRequest(dataset_id=made.id)
    assert rpc.stub.GetDataset(asked).dataset == made
    rpc.stub.DeleteDataset(pb.DeleteDatasetRequest(dataset_id=made.id))
    assert refusal(lambda: rpc.stub.GetDataset(asked)).reason == "dataset-not-found"


def test_data_sets_by_address_are_listed_page_by_page(make_rpc: Callable[..., Rpc]) -> None:
    rpc = make_rpc(allowed_url_hosts="objects.example.org")
    urls = [pb.FileAddress(url="https://objects.example.org/a.nii.gz", path="images/a.nii.gz")]
    listing = pb.BucketListing(bucket_url="https://objects.example.org/bucket", prefix="t/")
    made = [
        rpc.stub.CreateDataset(asked).dataset
        for asked in (
            pb.CreateDatasetRequest(name="files", urls=urls),
            pb.CreateDatasetRequest(name="bucket", listing=listing),
        )
    ]
    assert (made[0].files, made[0].HasField("size_bytes"), made[0].sha256) == (1, False, "")
    assert not made[1].HasField("files")
    page = rpc.stub.ListDatasets(pb.ListDatasetsRequest(page_size=1))
    rest = rpc.stub.ListDatasets(pb.ListDatasetsRequest(page_token=page.next_page_token))
    assert [*page.datasets, *rest.datasets] == made[::-1]
    assert rest.next_page_token == ""


def test_models_are_shown_promoted_and_taken_back(
    make_rpc: Callable[..., Rpc], tmp_path: Path
) -> None:
    for version in ("1", "2"):
        folder = tmp_path / "models" / "toy" / version
        folder.mkdir(parents=True)
        (folder / "card.json").write_text(card(version).model_dump_json())
    rpc = make_rpc(models_dir=tmp_path / "models")
    assert_models_are_as_over_rest(rpc.api, rpc)
    moved = rpc.stub.PromoteModel(pb.PromoteModelRequest(name="toy", version="1"))
    assert (moved.version, moved.previous_version) == ("1", "2")
    assert list(moved.model.aliases) == ["production"]
    tried = rpc.stub.PromoteModel(pb.PromoteModelRequest(name="toy", version="2", alias="trial"))
    assert (tried.previous_version, list(tried.model.aliases)) == ("", ["trial"])
    assert rpc.stub.GetModel(pb.GetModelRequest(model="toy@trial")).model.version == "2"
    assert rpc.stub.PromoteModel(pb.PromoteModelRequest(name="toy", version="2")).version == "2"
    back = pb.RollBackModelRequest(name="toy", away_from="2")
    assert {rpc.stub.RollBackModel(back).version for _ in range(2)} == {"1"}


def assert_models_are_as_over_rest(api: Api, rpc: Rpc) -> None:
    listed = rpc.stub.ListModels(pb.ListModelsRequest()).models
    rest = api.get("/v1/models").json()["models"]
    assert [(one.name, one.version, one.source, json.loads(one.card_json)) for one in listed] == [
        (one["name"], one["version"], one["source"], one["card"]) for one in rest
    ]
    assert listed[0].sha256 == "0" * 64


def test_limits_are_those_of_rest(make_rpc: Callable[..., Rpc]) -> None:
    for address in (None, "127.0.0.1:1"):
        rpc = make_rpc(live_address=address)
        told = rpc.stub.GetLimits(pb.GetLimitsRequest())
        assert json.loads(told.limits_json) == rpc.api.get("/v1/limits").json()
        assert (told.max_chunk_bytes, told.has_live) == (2**20, address is not None)
