"""`POST /train` and `/datasets`: what is taken in, and each fault with its code and its place."""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
import yaml

from service.jobs.job import Queue
from tests.unit.gateway.conftest import LEASE, Api, is_problem

HOST = "objects.example.org"
CONFIG: dict[str, Any] = {
    "name": "toy",
    "data": {"pairing": "unpaired", "labels": "required"},
    "network": {"kind": "voxelmorph"},
    "losses": {"image": [{"kind": "lncc"}], "field": [{"kind": "gradient"}]},
    "train": {"epochs": 2},
}
NO_DATA = CONFIG | {
    "data": {"format": "none", "synthetic": "shapes", "grid": {"shape": [32, 32, 32]}}
}


def zipped(files: dict[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return packed.getvalue()


GOOD = zipped({"images/a.nii.gz": b"a", "images/b.nii.gz": b"b", "labels/a.nii.gz": b"c"})


def link() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    return packed.getvalue()


def order(api: Api, config: dict[str, Any] = CONFIG, **more: Any) -> dict[str, Any]:
    """A good order with an upload of its own, unless it names other data."""
    if "data" not in more:
        more["data"] = {"upload_id": api.upload(GOOD)}
    return {"config": config, **more}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The good configuration with one option changed."""
    config = json.loads(json.dumps(CONFIG))
    *way, last = path.split("/")
    here = config
    for step in way:
        here = here[int(step)] if isinstance(here, list) else here.setdefault(step, {})
    here[int(last) if isinstance(here, list) else last] = value
    return config


def test_an_upload_and_a_configuration_make_a_queued_job(api: Api) -> None:
    upload = api.upload(GOOD)
    answer = api.post("/v1/train", json=order(api, data={"upload_id": upload}, priority=2))
    assert answer.status_code == 202, answer.text
    body = answer.json()
    assert answer.headers["location"] == f"/v1/jobs/{body['id']}"
    assert (body["kind"], body["queue"], body["priority"]) == ("train", "train", 2)
    assert body["options"] == {"config": CONFIG}
    claim = api.stores.jobs.claim([Queue.TRAIN], "w", LEASE)
    assert claim is not None
    request = claim.job.request
    assert request.inputs["archive"].key == f"uploads/{upload}/data"
    assert (request.publishes.name, request.publishes.version) == ("toy", "1")


def test_yaml_says_the_same(api: Api) -> None:
    text = yaml.safe_dump(order(api))
    answer = api.post("/v1/train", content=text, headers={"Content-Type": "application/yaml"})
    assert answer.status_code == 202, answer.text
    assert answer.json()["options"] == {"config": CONFIG}


def test_shapes_need_no_data(api: Api) -> None:
    assert api.post("/v1/train", json={"config": NO_DATA}).status_code == 202
    refused = api.post("/v1/train", json={"config": CONFIG})
    assert is_problem(refused, 422, "validation-failed")
    assert refused.json()["field"] == "/data"


def test_a_repeated_order_is_the_same_job_and_reserves_one_version(api: Api) -> None:
    body, key = order(api), {"Idempotency-Key": "k"}
    first = api.post("/v1/train", json=body, headers=key)
    again = api.post("/v1/train", json=body, headers=key)
    assert first.json()["id"] == again.json()["id"]
    assert again.headers["idempotent-replayed"] == "true"
    other = api.post("/v1/train", json=body | {"config": NO_DATA}, headers=key)
    assert is_problem(other, 422, "idempotency-key-reused")
    second = api.stores.jobs.job(UUID(api.post("/v1/train", json=body).json()["id"]))
    assert second.request.publishes.version == "2"


@pytest.mark.parametrize(
    ("path", "value", "pointer"),
    [
        ("losses/image/0/kind", "ssim3", "/config/losses/image/0/kind"),
        ("losses/image/0/colour", 1, "/config/losses/image/0/colour"),
        ("network/kind", "torch.nn.Conv3d", "/config/network/kind"),
        ("network", None, "/config/network"),
        ("train/epochs", 0, "/config/train/epochs"),
        ("train/epochs", 10**12, "/config/train/epochs"),
        ("train/epochs", 10_001, "/config/train/epochs"),
        ("train/batch_size", 65, "/config/train/batch_size"),
        ("train/max_minutes", 49 * 60, "/config/train/max_minutes"),
        ("data/root", "/etc", "/config/data/root"),
        ("data/folders", {"images": "../x"}, "/config/data/folders/images"),
        ("data/labels", "none", None),
        ("data/grid", {"shape": [33, 32, 32]}, "/config/data/grid/shape/0"),
        ("name", "Not A Name", "/config/name"),
        ("unknown", 1, "/config/unknown"),
    ],
)
def test_each_fault_of_the_configuration_has_a_pointer(
    api: Api, path: str, value: Any, pointer: str | None
) -> None:
    config = changed(path, value)
    if path == "data/labels":  # a label loss without labels
        config["losses"]["label"], pointer = [{"kind": "dice"}], "/config/losses/label"
    answer = api.post("/v1/train", json=order(api, config))
    assert is_problem(answer, 422, "validation-failed")
    assert pointer in [fault["field"] for fault in answer.json()["errors"]], answer.text
    assert api.stores.jobs.counts() == {}


def test_all_faults_are_told_at_once(api: Api) -> None:
    config = changed("train/epochs", 20_000)
    config["losses"]["image"][0]["kind"] = "nonsense"
    config["data"]["root"] = "/"
    answer = api.post("/v1/train", json=order(api, config))
    fields = {fault["field"] for fault in answer.json()["errors"]}
    assert {
        "/config/data/root",
        "/config/train/epochs",
        "/config/losses/image/0/kind",
    } <= fields


def test_the_operator_sets_the_limits(make_api: Callable[..., Api]) -> None:
    api = make_api(train_max_epochs=1, train_max_batch=1)
    answer = api.post("/v1/train", json=order(api, changed("train/batch_size", 2)))
    fields = [fault["field"] for fault in answer.json()["errors"]]
    assert fields == ["/config/train/epochs", "/config/train/batch_size"]


def test_where_nobody_trains_the_door_says_so(make_api: Callable[..., Api]) -> None:
    api = make_api(training=False)
    answer = api.post("/v1/train", json={"config": NO_DATA})
    assert is_problem(answer, 501, "training-not-offered")


BOMB = b"a: &a [x, x]\nb: &b [*a, *a]\nconfig: [*b, *b]\n"


@pytest.mark.parametrize(
    ("body", "media_type", "status", "code"),
    [
        (b"{", "application/json", 422, "validation-failed"),
        (b"[1]", "application/json", 422, "validation-failed"),
        (b"[" * 100_000, "application/json", 422, "validation-failed"),
        (b"a: [", "application/yaml", 422, "validation-failed"),
        (b"- 1", "application/yaml", 422, "validation-failed"),
        (BOMB, "application/yaml", 422, "validation-failed"),
        (
            b"config: !!python/object/apply:os.getcwd []",
            "application/yaml",
            422,
            "validation-failed",
        ),
        (b"config: 2026-11-26", "application/yaml", 422, "validation-failed"),
        (b"[" * 10_000, "application/yaml", 422, "validation-failed"),
        (b"\xff\xfe\x00", "application/yaml", 422, "validation-failed"),
        (b"a: " + b"x" * 300_000, "application/yaml", 413, "body-too-large"),
        (b" " * (1 << 21), "application/json", 413, "body-too-large"),
        (b"config: {}", "text/plain", 415, "unsupported-format"),
    ],
)
def test_a_body_that_is_no_order_is_a_problem(
    api: Api, body: bytes, media_type: str, status: int, code: str
) -> None:
    answer = api.post("/v1/train", content=body, headers={"Content-Type": media_type})
    assert is_problem(answer, status, code)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"config": 3}, "/config"),
        ({"config": NO_DATA, "queue": "train"}, "/queue"),
        ({"config": NO_DATA, "deadline_s": -1}, "/deadline_s"),
        ({"config": NO_DATA, "data": {}}, "/data"),
        ({"config": NO_DATA, "data": {"upload_id": str(uuid4()), "urls": ["x"]}}, "/data"),
    ],
)
def test_each_fault_of_the_envelope_has_a_pointer(api: Api, body: dict, field: str) -> None:
    answer = api.post("/v1/train", json=body)
    assert is_problem(answer, 422, "validation-failed")
    assert answer.json()["errors"][0]["field"] == field


def test_a_number_that_is_not_finite_is_refused(api: Api) -> None:
    text = yaml.safe_dump({"config": changed("losses/image/0/weight", float("inf"))})
    answer = api.post("/v1/train", content=text, headers={"Content-Type": "application/yaml"})
    assert is_problem(answer, 422, "validation-failed")


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (b"no archive", 422, "invalid-archive"),
        (zipped({"../evil": b"x"}), 422, "archive-path"),
        (zipped({"/etc/passwd": b"x"}), 422, "archive-path"),
        (link(), 422, "archive-member"),
        (zipped({"inner.zip": b"x"}), 422, "archive-nested"),
        (zipped({str(n): b"" for n in range(11)}), 413, "archive-too-many-files"),
        (zipped({"zeros": b"\0" * (3 << 20)}), 413, "archive-too-large"),
    ],
)
def test_a_bad_archive_is_refused_at_both_doors(
    make_api: Callable[..., Api], data: bytes, status: int, code: str
) -> None:
    api = make_api(max_dataset_files=10, max_dataset_mib=2)
    upload = api.upload(data)
    trained = api.post("/v1/train", json=order(api, data={"upload_id": upload}))
    assert is_problem(trained, status, code)
    assert trained.json()["field"] == "/data/upload_id"
    kept = api.post("/v1/datasets", json={"name": "bad", "upload_id": upload})
    assert is_problem(kept, status, code)
    assert api.stores.jobs.counts() == {}
    assert list(api.app.state.desk.spool.root.iterdir()) == []


def test_an_upload_must_be_there_and_whole(api: Api) -> None:
    gone = api.post("/v1/train", json=order(api, data={"upload_id": str(uuid4())}))
    assert is_problem(gone, 404, "upload-not-found")
    half = api.post("/v1/uploads", json={"bytes": 10}).json()["id"]
    answer = api.post("/v1/train", json=order(api, data={"upload_id": half}))
    assert is_problem(answer, 409, "upload-incomplete")
    assert answer.json()["field"] == "/data/upload_id"


# --- addresses ---


def test_files_by_address_lie_where_they_are_told_to(make_api: Callable[..., Api]) -> None:
    api = make_api(allowed_url_hosts=HOST)
    urls = [
        f"https://{HOST}/b/a%20b.nii.gz?signature=x",
        {"url": f"https://{HOST}/b/1", "path": "labels/1.nii.gz"},
    ]
    answer = api.post("/v1/train", json=order(api, data={"urls": urls}))
    assert answer.status_code == 202, answer.text
    job = api.stores.jobs.job(UUID(answer.json()["id"]))
    assert {role: file.url for role, file in job.request.inputs.items()} == {
        "data/a b.nii.gz": urls[0],
        "data/labels/1.nii.gz": f"https://{HOST}/b/1",
    }
    listing = {"bucket_url": f"https://{HOST}/bucket/", "prefix": "a b/"}
    answer = api.post("/v1/train", json=order(api, data={"listing": listing}))
    job = api.stores.jobs.job(UUID(answer.json()["id"]))
    wanted = f"https://{HOST}/bucket?list-type=2&prefix=a%20b%2F"
    assert job.request.inputs["listing"].url == wanted


@pytest.mark.parametrize(
    ("data", "code", "field"),
    [
        ({"urls": ["https://elsewhere.example.org/a"]}, "url-not-allowed", "/data/urls/0"),
        ({"urls": [f"https://{HOST}/a", "file:///etc/passwd"]}, "url-not-allowed", "/data/urls/1"),
        (
            {"urls": [f"https://{HOST}/a", f"https://{HOST}/b/A"]},
            "validation-failed",
            "/data/urls/1",
        ),
        ({"urls": [f"https://{HOST}/"]}, "validation-failed", "/data/urls/0"),
        ({"urls": [f"https://{HOST}/%2e%2e"]}, "validation-failed", "/data/urls/0"),
        (
            {"urls": [{"url": f"https://{HOST}/a", "path": "../a"}]},
            "validation-failed",
            "/data/urls/0",
        ),
        (
            {"listing": {"bucket_url": "https://169.254.169.254/x"}},
            "url-not-allowed",
            "/data/listing/bucket_url",
        ),
        (
            {"listing": {"bucket_url": f"https://{HOST}/x?y"}},
            "validation-failed",
            "/data/listing/bucket_url",
        ),
    ],
)
def test_addresses_are_checked(
    make_api: Callable[..., Api], data: dict[str, Any], code: str, field: str
) -> None:
    api = make_api(allowed_url_hosts=HOST)
    answer = api.post("/v1/train", json=order(api, data=data))
    assert is_problem(answer, 422, code)
    assert answer.json()["field"] == field


# --- data sets ---


def test_an_upload_becomes_a_data_set_that_trainings_name(api: Api) -> None:
    upload = api.upload(GOOD)
    made = api.post("/v1/datasets", json={"name": "hippo-1", "upload_id": upload})
    assert made.status_code == 201, made.text
    body = made.json()
    assert (body["files"], body["bytes"]) == (3, len(GOOD))
    assert len(body["sha256"]) == 64
    assert api.get(made.headers["location"]).json() == body
    assert api.get("/v1/datasets").json() == {"datasets": [body], "cursor": None}
    assert is_problem(api.get(f"/v1/uploads/{upload}"), 404, "upload-not-found")
    answer = api.post("/v1/train", json=order(api, data={"dataset_id": body["id"]}))
    assert answer.status_code == 202
    job = api.stores.jobs.job(UUID(answer.json()["id"]))
    assert job.request.inputs["archive"].sha256 == body["sha256"]


def test_a_data_set_is_kept_until_it_is_deleted_and_its_trainings_have_ended(api: Api) -> None:
    upload = api.upload(GOOD)
    key, folder = f"uploads/{upload}/data", f"uploads/{upload}/"
    made = api.post("/v1/datasets", json={"name": "x", "upload_id": upload}).json()
    assert api.stores.jobs.live_keys([folder]) == {folder}
    job = api.post("/v1/train", json=order(api, data={"dataset_id": made["id"]})).json()["id"]
    assert api.call("DELETE", f"/v1/datasets/{made['id']}").status_code == 204
    assert api.stores.blobs.size(key) == len(GOOD), "a queued training reads it"
    api.post(f"/v1/jobs/{job}/cancel")
    assert api.stores.jobs.live_keys([folder]) == set()
    again = api.upload(GOOD)
    made = api.post("/v1/datasets", json={"name": "x", "upload_id": again}).json()
    api.call("DELETE", f"/v1/datasets/{made['id']}")
    assert api.stores.blobs.size(f"uploads/{again}/data") is None


def test_data_sets_by_address_have_no_digest(make_api: Callable[..., Api]) -> None:
    api = make_api(allowed_url_hosts=HOST)
    body = {"name": "remote", "urls": [f"https://{HOST}/a.nii.gz"]}
    made = api.post("/v1/datasets", json=body).json()
    assert (made["files"], made["bytes"], made["sha256"]) == (1, None, None)
    refused = api.post("/v1/datasets", json=body | {"name": "y", "urls": ["https://x.org/a"]})
    assert is_problem(refused, 422, "url-not-allowed")
    assert refused.json()["field"] == "/urls/0"


def test_a_name_is_used_once(api: Api) -> None:
    body = {"name": "one", "upload_id": api.upload(GOOD)}
    assert api.post("/v1/datasets", json=body).status_code == 201
    again = api.post("/v1/datasets", json=body | {"upload_id": api.upload(GOOD)})
    assert is_problem(again, 409, "conflict")
    bad = api.post("/v1/datasets", json=body | {"name": "Ü"})
    assert is_problem(bad, 422, "validation-failed")


def test_unknown_data_sets_are_not_found(api: Api) -> None:
    for answer in (
        api.get(f"/v1/datasets/{uuid4()}"),
        api.call("DELETE", f"/v1/datasets/{uuid4()}"),
        api.post("/v1/train", json=order(api, data={"dataset_id": str(uuid4())})),
    ):
        assert is_problem(answer, 404, "dataset-not-found")


def test_progress_shows_epoch_losses_and_the_time_left(api: Api) -> None:
    from service.jobs.job import Progress

    job = api.post("/v1/train", json={"config": NO_DATA}).json()["id"]
    claim = api.stores.jobs.claim([Queue.TRAIN], "w", LEASE)
    detail = {"epoch": 3, "losses": {"total": 0.5}, "seconds_left": 61.2}
    api.stores.jobs.beat(claim, Progress(stage="train", fraction=0.5, detail=detail), LEASE)
    seen = api.get(f"/v1/jobs/{job}").json()
    assert (seen["detail"], seen["seconds_left"]) == (detail, 61.2)
    headers = {"Accept": "application/json"}
    events = api.get(f"/v1/jobs/{job}/events", headers=headers).json()["events"]
    assert events[-1]["data"]["detail"] == detail
