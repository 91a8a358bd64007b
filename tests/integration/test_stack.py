"""The processes of docker-compose.yml, with its command lines and settings, on real servers.

Docker is not needed: what compose would start is started here, its hosts replaced by loopback.
"""

import gzip
import hashlib
import json
import os
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import grpc
import httpx
import nibabel as nib
import numpy as np
import pytest
import yaml
from scipy.ndimage import gaussian_filter, shift

from service.pb import warpline_pb2 as pb
from service.pb.warpline_pb2_grpc import LiveServiceStub, WarplineServiceStub
from service.settings import Settings
from service.stores.build import open_stores
from tests.balls import losses_of, packed, small_training, write_balls
from tests.integration.serving import check_a_new_model_is_served, ended
from tests.integration.serving import fetched as fetched_result
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text("utf-8"))["services"]
KEY = "wl_" + secrets.token_hex(16)
PATIENCE_S = 300  # of a busy machine
MOVED_VOXELS = (3.0, -2.0, 1.5)

pytestmark = pytest.mark.servers


@dataclass(frozen=True)
class Addresses:
    """Where the test's servers are, in place of compose's host names."""

    database_url: str
    redis_url: str
    s3_port: int
    bucket: str
    port: int
    grpc_port: int
    live_port: int


def environment(service: str, chosen: dict[str, str], at: Addresses) -> dict[str, str]:
    """A service's environment as compose would make it, with loopback for its host names."""

    def value(match: re.Match[str]) -> str:
        name, default = match[1], match[2] or ""
        assert name in chosen or default.startswith(":-"), f"{name} is not set"
        return chosen.get(name, default.removeprefix(":-"))

    made = {
        name: re.sub(r"\$\{(\w+)(:[^}]*)?\}", value, str(text))
        for name, text in SERVICES[service]["environment"].items()
    }
    server, _, database = at.database_url.rpartition("@")[2].partition("/")
    loopback = {
        "@database:5432/warpline": f"@{server}/{database}",
        "redis://broker:6379/0": at.redis_url,
        "http://objects:8333": f"http://127.0.0.1:{at.s3_port}",
        "s3://warpline": f"s3://{at.bucket}",
        "live:8090": f"127.0.0.1:{at.live_port}",
    }
    for (name, text), (theirs, ours) in product(made.items(), loopback.items()):
        if theirs in text:
            made[name] = text.replace(theirs, ours)
    if "WARPLINE_HOST" in made:
        made |= {"WARPLINE_HOST": "127.0.0.1", "WARPLINE_PORT": str(at.port)}
        made["WARPLINE_GRPC_PORT"] = str(at.grpc_port)
    if "WARPLINE_LIVE_HOST" in made:
        made |= {"WARPLINE_LIVE_HOST": "127.0.0.1", "WARPLINE_LIVE_PORT": str(at.live_port)}
        made["WARPLINE_LIVE_HTTP_PORT"] = str(free_port())
    return made


def command(service: str) -> list[str]:
    first, *rest = SERVICES[service]["command"]
    assert first == "python"
    return [sys.executable, *rest]


class Stack:
    """Compose's processes, without compose."""

    def __init__(self, chosen: dict[str, str], at: Addresses, folder: Path) -> None:
        self.chosen, self.at, self.folder = chosen, at, folder

    def start(self, service: str) -> "subprocess.Popen[bytes]":
        own = {
            "WARPLINE_DATA_DIR": str(self.folder / service),
            "PYTHONPATH": str(ROOT),
            "WARPLINE_HEADER_TIMEOUT_S": "300",
            "WARPLINE_BODY_IDLE_TIMEOUT_S": "300",
            **environment(service, self.chosen, self.at),
        }
        with (self.folder / f"{service}.log").open("wb") as log:
            return subprocess.Popen(
                command(service),
                env={**os.environ, **own},
                cwd=self.folder,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def settings(self) -> Settings:
        """What another process of the stack would read: here a trainer on a host of its own."""
        return Settings(
            data_dir=self.folder / "trainer",
            database_url=self.at.database_url,
            redis_url=self.at.redis_url,
            store_url=f"s3://{self.at.bucket}",
            s3_endpoint=f"http://127.0.0.1:{self.at.s3_port}",
            s3_access_key=self.chosen["WARPLINE_S3_ACCESS_KEY"],
            s3_secret_key=self.chosen["WARPLINE_S3_SECRET_KEY"],
        )

    def log(self, service: str) -> str:
        return (self.folder / f"{service}.log").read_text(errors="replace")[-4000:]

    def wait_until_ready(self, gateway: "subprocess.Popen[bytes]") -> None:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            assert gateway.poll() is None, self.log("gateway")
            try:
                if httpx.get(f"http://127.0.0.1:{self.at.port}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        pytest.fail(f"the gateway is not ready:\n{self.log('gateway')}")


def stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@pytest.fixture
def stack(redis_server, postgres_url, s3_server, tmp_path) -> Iterator[Stack]:
    at = Addresses(
        postgres_url,
        redis_server.url,
        s3_server.port,
        s3_server.new_bucket(),
        *(free_port() for _ in range(3)),
    )
    chosen = {
        "POSTGRES_PASSWORD": "of-no-use-here",
        "WARPLINE_S3_ACCESS_KEY": s3_server.access_key,
        "WARPLINE_S3_SECRET_KEY": s3_server.secret_key,
        # Another name for the same server, so that signing for the wrong host is noticed.
        "WARPLINE_S3_PUBLIC_ENDPOINT": f"http://localhost:{s3_server.port}",
        "WARPLINE_TRAINING": "true",
        "WARPLINE_API_KEYS": f"tester:{hashlib.sha256(KEY.encode()).hexdigest()}",
    }
    made = Stack(chosen, at, tmp_path)
    with ExitStack() as running:
        migrated = made.start("migrate")
        assert migrated.wait(PATIENCE_S) == 0, made.log("migrate")
        for service in ("gateway", "worker"):
            process = made.start(service)
            running.callback(stop, process)
            if service == "gateway":
                made.wait_until_ready(process)
        yield made


@pytest.fixture
def http(stack: Stack) -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(
        base_url=f"http://127.0.0.1:{stack.at.port}", headers=headers, timeout=PATIENCE_S
    ) as client:
        yield client


@dataclass(frozen=True)
class Pair:
    fixed: Path
    moving: Path
    labels: Path


@pytest.fixture
def pair(tmp_path: Path, rng: np.random.Generator) -> Pair:
    """Blobs, and the same blobs shifted."""
    blobs = gaussian_filter(rng.normal(size=(56, 48, 40)), 3)
    ball = np.linalg.norm(np.indices(blobs.shape).T - (28, 24, 20), axis=-1).T < 17
    image = np.where(ball, 100 + 400 * blobs / blobs.std(), 0).astype(np.float32)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    volumes = {
        "fixed": image,
        "moving": shift(image, MOVED_VOXELS, order=1).astype(np.float32),
        "labels": shift(ball.astype(np.uint8), MOVED_VOXELS, order=0),
    }
    paths = {}
    for name, data in volumes.items():
        volume = nib.Nifti1Image(data, affine)
        volume.header.set_xyzt_units("mm")
        paths[name] = tmp_path / f"{name}.nii.gz"
        nib.save(volume, paths[name])
    return Pair(**paths)


def upload(http: httpx.Client, path: Path) -> str:
    """Send a file in two pieces."""
    data = path.read_bytes()
    reply = http.post("/v1/uploads", json={"bytes": len(data)})
    assert reply.status_code == 201, reply.text
    half = len(data) // 2
    for start, piece in ((0, data[:half]), (half, data[half:])):
        sent = http.patch(
            reply.headers["Location"], content=piece, headers={"Upload-Offset": str(start)}
        )
        assert sent.status_code == 200, sent.text
    assert sent.json()["sha256"] == hashlib.sha256(data).hexdigest()
    return str(sent.json()["id"])


def events(http: httpx.Client, job_id: str) -> list[dict]:
    """Follow a job to its end."""
    with http.stream("GET", f"/v1/jobs/{job_id}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        return [json.loads(line[5:]) for line in stream.iter_lines() if line.startswith("data:")]


def test_grpc_sees_the_same_jobs_and_passes_live_sessions_on(http, stack, pair):
    sent = {role: (role, getattr(pair, role).read_bytes()) for role in ("fixed", "moving")}
    job = http.post("/v1/register", files=sent, data={"refine": "fast"}).json()["id"]
    key = (("authorization", f"Bearer {KEY}"),)
    with ExitStack() as running:
        running.callback(stop, stack.start("live"))
        channel = running.enter_context(grpc.insecure_channel(f"127.0.0.1:{stack.at.grpc_port}"))
        warpline = WarplineServiceStub(channel)
        watch = warpline.WatchJob(pb.WatchJobRequest(job_id=job), metadata=key, timeout=PATIENCE_S)
        last = [answer.event for answer in watch if answer.HasField("event")][-1]
        assert last.type == "succeeded", last
        asked = pb.ListResultsRequest(job_id=job)
        files = {one.name: one for one in warpline.ListResults(asked, metadata=key).files}
        warped = get(files["warped.nii.gz"].url).content
        assert hashlib.sha256(warped).digest() == files["warped.nii.gz"].sha256
        beat = pb.LiveRequest(heartbeat=pb.Heartbeat(nonce=5))
        until = time.monotonic() + PATIENCE_S
        while (answered := nonce(channel, beat, key)) is None:
            assert time.monotonic() < until, stack.log("live")
            time.sleep(0.2)
        assert answered == 5


def nonce(channel: grpc.Channel, beat: pb.LiveRequest, key: tuple) -> int | None:
    """What the live process answers; None while it is away."""
    try:
        session = LiveServiceStub(channel).Live(iter([beat]), metadata=key, timeout=PATIENCE_S)
        return next(session).heartbeat.nonce
    except grpc.RpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return None


def test_a_pair_goes_through_the_whole_stack(http, stack, pair):
    sent = {role: upload(http, getattr(pair, role)) for role in ("fixed", "moving")}
    order = {
        "inputs": {role: {"upload_id": upload_id} for role, upload_id in sent.items()},
        "options": {"initialise": "none", "refine": "fast"},
    }
    accepted = http.post("/v1/register", json=order, headers={"Idempotency-Key": "once"})
    assert accepted.status_code == 202, accepted.text
    job_id = accepted.json()["id"]

    happened = events(http, job_id)
    assert [event["seq"] for event in happened] == list(range(1, len(happened) + 1))
    assert happened[0]["type"] == "queued"
    assert happened[-1]["type"] == "succeeded", (happened[-1], stack.log("worker"))

    again = http.post("/v1/register", json=order, headers={"Idempotency-Key": "once"})
    assert again.json()["id"] == job_id

    results = http.get(f"/v1/jobs/{job_id}/results").json()
    fetched = fetch_all(results["files"], stack)
    assert {"warped.nii.gz", "ddf.nii.gz", "report.json", "report.html"} <= fetched.keys()
    check_shift(fetched["ddf.nii.gz"])
    report = json.loads(fetched["report.json"])
    assert report["metrics"]["ncc_after"] > 0.95 > report["metrics"]["ncc_before"]

    warp(http, stack, job_id, pair)
    stores = open_stores(stack.settings)
    check_a_new_model_is_served(http, stores, stack.folder / "trainer")
    stores.close()

    assert http.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert http.get(f"/v1/jobs/{job_id}").status_code == 404
    gone = get(results["files"]["warped.nii.gz"]["url"])
    assert gone.status_code == 404


def fetch_all(files: dict[str, dict], stack: Stack) -> dict[str, bytes]:
    """Fetch by presigned URL, without a key; a tampered URL gets nothing."""
    fetched = {}
    for name, file in files.items():
        assert file["url"].startswith(f"http://localhost:{stack.at.s3_port}/")
        reply = get(file["url"])
        assert reply.status_code == 200, reply.text
        assert hashlib.sha256(reply.content).hexdigest() == file["sha256"]
        fetched[name] = reply.content
        other = re.sub(r"(X-Amz-Signature=)(.)", lambda m: m[1] + "0f"[m[2] == "0"], file["url"])
        assert other != file["url"]
        assert get(other).status_code == 403
    return fetched


def check_shift(ddf: bytes) -> None:
    """The field's middle says the known shift: LPS+ mm, two millimetres a voxel."""
    vectors = nib.Nifti1Image.from_bytes(gzip.decompress(ddf)).get_fdata()[:, :, :, 0]
    middle = np.median(vectors[20:36, 16:32, 14:26].reshape(-1, 3), axis=0)
    expected = np.array(MOVED_VOXELS) * 2 * (-1, -1, 1)
    np.testing.assert_allclose(middle, expected, atol=1.0)


def get(url: str) -> httpx.Response:
    return httpx.get(url, timeout=PATIENCE_S)


def warp(http: httpx.Client, stack: Stack, job_id: str, pair: Pair) -> None:
    """Carry the moving labels over with the job's transform; they must lie on the fixed ball."""
    reply = http.post(
        "/v1/warp",
        data={"job_id": job_id},
        files={"labels": pair.labels.read_bytes()},
        headers={"Prefer": "wait=60"},
    )
    job = ended(http, reply.json())
    assert job["state"] == "succeeded", (job, stack.log("worker"))
    files = http.get(f"/v1/jobs/{job['id']}/results").json()["files"]
    labels = fetch_all(files, stack)["warped_labels.nii.gz"]
    warped = np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(labels)).dataobj) > 0
    fixed = nib.load(pair.fixed).get_fdata() != 0
    assert 2 * (warped & fixed).sum() / (warped.sum() + fixed.sum()) > 0.95


@pytest.mark.slow
def test_a_training_is_served_by_the_worker_that_was_there_before(http, stack, tmp_path):
    pytest.importorskip("torch")
    archive = tmp_path / "balls.tar.gz"
    archive.write_bytes(packed(write_balls(tmp_path / "balls")))
    config = small_training(name="balls", epochs=2, picture_every=0)
    order = {"config": config, "data": {"upload_id": upload(http, archive)}}
    with ExitStack() as running:
        running.callback(stop, stack.start("trainer"))
        accepted = http.post("/v1/train", json=order)
        assert accepted.status_code == 202, accepted.text
        happened = events(http, accepted.json()["id"])
    assert happened[-1]["type"] == "succeeded", (happened[-1], stack.log("trainer"))
    results = http.get(f"/v1/jobs/{accepted.json()['id']}/results").json()
    fetched = fetch_all(results["files"], stack)
    assert len(losses_of(fetched["metrics.jsonl"].decode())) == 6
    assert {"model.onnx", "card.json", "train.yaml", "evaluation.html"} <= fetched.keys()
    assert http.get("/v1/models/balls").json()["aliases"] == ["candidate"]

    sides = {side: tmp_path / "balls" / "test" / f"{side}_images" for side in ("fixed", "moving")}
    reply = http.post(
        "/v1/register",
        files={side: (folder / "case5.nii.gz").read_bytes() for side, folder in sides.items()},
        data={"model": "balls@candidate", "initialise": "none", "refine": "none"},
        headers={"Prefer": "wait=60"},
    )
    job = ended(http, reply.json())
    assert job["state"] == "succeeded", (job, stack.log("worker"))
    files = http.get(job["links"]["results"]).json()["files"]
    used = fetched_result(files, "report.json").json()["model"]
    assert (used["name"], used["version"]) == ("balls", "1")
    assert http.post("/v1/models/balls/promote", json={"version": "1"}).status_code == 200


def test_without_a_key_nothing_is_told(stack):
    base = f"http://127.0.0.1:{stack.at.port}"
    refused = get(f"{base}/v1/jobs")
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")
    assert get(f"{base}/healthz").status_code == 200
