"""Canaries: a patient's words are planted wherever they can come in, and everything is searched.

Only the DICOM objects of a result may hold them, and the stored inputs themselves.
"""

import gzip
import io
import os
import subprocess
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import nibabel as nib
import numpy as np
import pytest
import redis as redis_client
from anyio.from_thread import start_blocking_portal
from pydicom import Dataset
from pydicom.sequence import Sequence
from scipy.ndimage import gaussian_filter

from service.client import GrpcClient
from service.errors import WarplineError
from service.gateway.app import create_app
from service.settings import Settings
from service.stores.build import open_stores
from tests.conftest import DIRECTIONS
from tests.dicoms import affine_of, write_series
from tests.e2e.conftest import PATIENCE_S, WARPLINE, Up, start
from tests.servers import RedisServer

SHAPE = (30, 32, 20)
UIDS = {"study": "1.2.826.0.77.31", "fixed": "1.2.826.0.77.32", "moving": "1.2.826.0.77.33"}
# Everything that is planted holds one of these.
CANARIES = ("canary", "gwendolyn", "1.2.826.0.77", "19481231", "20310203", "230917.5")


def planted(made: Any, _k: int) -> None:
    made.StudyDescription, made.SeriesDescription = "Canary study", "Canary series"
    made.ProtocolName = made.InstitutionName = made.PatientComments = "Canary"
    made.StationName = made.OperatorsName = "Canary"
    made.StudyTime = "230917.5"
    made.ImageComments = made.DeviceSerialNumber = "Canary"
    made.private_block(0x0099, "CANARY", create=True).add_new(1, "LO", "Canary^Private")
    request = Dataset()
    request.RequestedProcedureDescription = request.ScheduledProcedureStepID = "Canary"
    made.RequestAttributesSequence = Sequence([request])


def told(patient: str = "CANARY-ID-1") -> dict[str, Any]:
    return {
        "patient": patient,
        "change": planted,
        "PatientName": "Canary^Gwendolyn",
        "PatientBirthDate": "19481231",
        "StudyDate": "20310203",
        "SeriesDate": "20310203",
        "AccessionNumber": "CANARY-ACC",
        "StudyID": "CANARY-ST",
        "StudyInstanceUID": UIDS["study"],
        "ReferringPhysicianName": "Canary^Doctor",
    }


def blobs(seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=SHAPE)
    return np.asarray(gaussian_filter(noise, 2.0) * 20000).astype(np.int16)


@dataclass
class Sources:
    """What is sent."""

    root: Path
    fixed: Path = field(init=False)
    moving: Path = field(init=False)
    stranger: Path = field(init=False)
    labels: Path = field(init=False)

    def __post_init__(self) -> None:
        affine = affine_of(DIRECTIONS["LPS"], (1.5, 1.5, 2.5), (3, -5, 7))
        self.fixed, self.moving = self.root / "Canary^Gwendolyn", self.root / "CANARY-ID-1"
        self.stranger = self.root / "CANARY-ID-2"
        for folder, uid, patient in (
            (self.fixed, UIDS["fixed"], "CANARY-ID-1"),
            (self.fixed / "Canary other", UIDS["fixed"] + ".5", "CANARY-ID-1"),
            (self.moving, UIDS["moving"], "CANARY-ID-1"),
            (self.stranger, UIDS["moving"] + ".6", "CANARY-ID-2"),
        ):
            write_series(folder, blobs(1), affine, series=uid, **told(patient))
        for path in sorted(self.root.rglob("*.dcm")):
            path.rename(path.with_name(f"Canary_Gwendolyn_{path.name}"))
        self.labels = self.root / "canary_labels.nii.gz"
        mask = (blobs(1) > 0).astype(np.uint8)
        image = nib.Nifti1Image(mask, affine)
        image.header["descrip"] = b"Canary Gwendolyn 19481231"
        image.header["aux_file"] = b"canary-id-1.hdr"
        image.header["intent_name"] = b"canary"
        image.header["db_name"] = b"CANARY-ID-1"
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"Canary Gwendolyn"))
        nib.save(image, self.labels)


def zipped(folder: Path) -> bytes:
    """With the folder's and the files' own names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.glob("*.dcm")):
            archive.write(path, f"Canary^Gwendolyn/19481231/{path.name}")
    return buffer.getvalue()


def found_in(data: bytes | str) -> list[str]:
    """The canaries in there, plain, as a URL writes them, or in UTF-16."""
    raw = data.encode() if isinstance(data, str) else data
    lower = raw.lower()
    ways = ((word, word.encode()) for word in CANARIES)
    return [
        word
        for word, plain in ways
        if plain in lower or quote(word).encode() in lower or word.encode("utf-16-le") in lower
    ]


@dataclass
class Wire:
    """Every answer that came back: heads and bodies, but for the bytes of result files."""

    url: str
    heard: list[str] = field(default_factory=list)

    def call(self, method: str, path: str, **what: Any) -> httpx.Response:
        answer = httpx.request(method, self.url + path, timeout=PATIENCE_S, **what)
        self.heard.append(f"{answer.status_code} {answer.headers}\n{answer.text}")
        return answer

    def register(self, files: dict[str, Any], **fields: Any) -> httpx.Response:
        headers = {"Prefer": "wait=60"}
        answer = self.call("POST", "/v1/register", files=files, data=fields, headers=headers)
        while answer.json().get("state") in ("queued", "running"):
            time.sleep(0.2)
            answer = self.call("GET", f"/v1/jobs/{answer.json()['id']}")
        return answer


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Sources:
    return Sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Up, Path]]:
    """A stack that logs all it can, and where its temporary files are."""
    temporary = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WARPLINE_LOG_LEVEL", "DEBUG")
        patch.setenv("TMPDIR", str(temporary))
        up = start(tmp_path_factory.mktemp("data"), "--workers", "1")
        yield up, temporary
        if up.process.poll() is None:
            up.stop()


def part(sources: Sources, role: str, data: bytes) -> tuple[str, bytes, str]:
    return (f"Canary^Gwendolyn {role}.zip", data, "application/canary")


def send_everything(wire: Wire, grpc: str, sources: Sources, folder: Path) -> list[str]:
    """Good and bad requests with canaries; gives the jobs that succeeded."""
    fixed, moving = zipped(sources.fixed), zipped(sources.moving)
    pair = {"fixed": part(sources, "fixed", fixed), "moving": part(sources, "moving", moving)}
    labelled = pair | {"moving_labels": ("canary.nii.gz", sources.labels.read_bytes())}
    good = wire.register(
        labelled, refine="none", fixed_series=UIDS["fixed"], moving_series=UIDS["moving"]
    )
    clean = wire.register(pair, refine="none", deidentify="true")
    bad = [
        wire.register(pair, refine="none", moving_series=UIDS["moving"] + ".9"),
        wire.register(pair | {"moving": part(sources, "moving", zipped(sources.stranger))}),
        wire.register(pair | {"moving": ("canary.dcm", b"Canary^Gwendolyn " * 50)}),
        wire.register(pair | {"moving": ("canary.zip", moving[: len(moving) // 2])}),
        wire.register({**pair, "canary-role": ("canary", b"Canary")}),
        wire.register(pair, refine="canary"),
        wire.register(pair, canary="Gwendolyn"),
        wire.call("POST", "/v1/register", json={"inputs": {"fixed": {"url": "http://canary/1"}}}),
        wire.call("POST", "/v1/register", content=b'{"Canary": ', headers={"content-type": "x/y"}),
        wire.call("GET", "/v1/jobs/Canary?patient=Gwendolyn"),
        wire.call("GET", "/v1/canary/1.2.826.0.77.31"),
    ]
    states = [answer.json().get("state") for answer in (good, clean)]
    assert states == ["succeeded", "succeeded"], [good.text, clean.text]
    assert not [one.text for one in bad if one.json().get("state") == "succeeded"]
    over_grpc(wire, grpc, sources, folder)
    return [good.json()["id"], clean.json()["id"]]


def over_grpc(wire: Wire, grpc: str, sources: Sources, folder: Path) -> None:
    packed = {}
    for role, source in (("fixed", sources.fixed), ("moving", sources.moving)):
        packed[role] = folder / f"Canary Gwendolyn {role}.zip"
        packed[role].write_bytes(zipped(source))
    other = folder / "Canary other.zip"
    other.write_bytes(zipped(sources.stranger))
    with GrpcClient(f"grpc://{grpc}") as client:
        job = client.register(**packed, wait=True, refine="none", moving_series=UIDS["moving"])
        wire.heard += [repr(job), *(repr(event) for event in client.events(job.id))]
        for terms in ({"moving": other}, {"moving_series": UIDS["moving"] + ".7"}):
            with pytest.raises(WarplineError) as caught:
                client.register(**packed | terms, wait=True, refine="none")
            wire.heard.append(repr(caught.value.problem()))


def ask_about(wire: Wire, jobs: list[str]) -> None:
    """Everything that the service tells about jobs and itself."""
    for job in jobs:
        wire.call("GET", f"/v1/jobs/{job}")
        wire.call("GET", f"/v1/jobs/{job}/results")
        wire.call("GET", f"/v1/jobs/{job}/events", headers={"accept": "text/event-stream"})
    for path in ("/v1/jobs?limit=200", "/metrics", "/healthz", "/readyz", "/v1/limits"):
        wire.call("GET", path)


def results_of(wire: Wire, job: str) -> Iterator[tuple[str, bytes]]:
    listed = httpx.get(f"{wire.url}/v1/jobs/{job}/results", timeout=PATIENCE_S).json()["files"]
    for name, file in listed.items():
        data = httpx.get(file["url"], timeout=PATIENCE_S).content
        yield name, gzip.decompress(data) if name.endswith(".gz") else data


def is_dicom(name: str) -> bool:
    return name.endswith(".dcm") or name == "warped_dicom.zip"


def test_nothing_of_the_patient_is_anywhere_but_in_the_objects(
    stack: tuple[Up, Path], sources: Sources, tmp_path: Path
) -> None:
    up, temporary = stack
    wire = Wire(up.url)
    jobs = send_everything(wire, up.grpc, sources, tmp_path)
    ask_about(wire, jobs)
    with_patient, without = (dict(results_of(wire, job)) for job in jobs)
    assert [name for name in with_patient if is_dicom(name) and found_in(with_patient[name])]
    for files in (with_patient, without):
        for name, data in files.items():
            assert (files is with_patient and is_dicom(name)) or not found_in(data), name
    for answer in wire.heard:
        assert not found_in(answer), answer
    assert up.stop() == 0
    for path in sorted(up.data_dir.rglob("*")):
        inside = path.relative_to(up.data_dir)
        assert not found_in(str(inside)), inside
        if path.is_file() and inside.parts[0] != "objects":  # those are the inputs and results
            assert not found_in(path.read_bytes()), inside
    assert (up.data_dir / "audit.jsonl").stat().st_size > 0
    for path in temporary.rglob("*"):
        assert not path.is_file() or not found_in(path.read_bytes()), path
        assert not found_in(str(path.relative_to(temporary))), path
    checked = subprocess.run(
        [*WARPLINE, "audit", "verify", str(up.data_dir / "audit.jsonl")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stderr


def run(*arguments: str, temporary: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"WARPLINE_LOG_LEVEL": "DEBUG", "TMPDIR": str(temporary)}
    return subprocess.run(
        [*WARPLINE, *arguments], capture_output=True, text=True, check=False, env=env, cwd=temporary
    )


def test_in_process_nothing_is_said_either(sources: Sources, tmp_path: Path) -> None:
    temporary, out = tmp_path / "temporary", tmp_path / "out"
    temporary.mkdir()
    fixed, moving = str(sources.fixed), str(sources.moving)
    series = ("--fixed-series", UIDS["fixed"], "--moving-series", UIDS["moving"])
    done = run(
        "register", fixed, moving, *series, "--refine=none", "-o", str(out), "--json",
        temporary=temporary,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not found_in(done.stdout + done.stderr)
    for path in out.iterdir():
        data = path.read_bytes()
        data = gzip.decompress(data) if path.suffix == ".gz" else data
        assert is_dicom(path.name) or not found_in(data), path.name
    for arguments in (
        (fixed, moving),
        (moving, str(sources.stranger)),
        (moving, fixed, "--moving-series", UIDS["fixed"] + ".9"),
    ):
        failed = run("register", *arguments, "-o", str(tmp_path / "no"), temporary=temporary)
        assert failed.returncode == 2
        assert not found_in(failed.stdout + failed.stderr), failed.stderr
    assert not [path for path in temporary.rglob("*") if path.is_file()]


def dumped(redis: "redis_client.Redis[bytes]") -> list[bytes]:
    """Every key of the broker, and what is in it."""
    found = []
    for key in redis.scan_iter():
        kind = redis.type(key)
        read = {b"list": lambda key: redis.lrange(key, 0, -1), b"set": redis.smembers}.get(kind)
        found.append(key + repr(read(key) if read else redis.dump(key)).encode())
    return found


def test_the_broker_is_told_which_job_and_no_more(
    sources: Sources, redis_server: RedisServer, tmp_path: Path
) -> None:
    settings = Settings(data_dir=tmp_path, redis_url=redis_server.url, min_free_mib=0)
    pair = {role: zipped(sources.fixed) for role in ("fixed", "moving")}
    with (
        redis_client.Redis.from_url(redis_server.url) as redis,
        closing(open_stores(settings)) as stores,
        start_blocking_portal() as portal,
    ):
        transport = httpx.ASGITransport(create_app(settings, stores))
        client = httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080")
        files = {role: part(sources, role, data) for role, data in pair.items()}
        headers = {"Idempotency-Key": "Canary^Gwendolyn"}
        post = partial(client.post, "/v1/register", files=files, headers=headers)
        job = portal.call(post).json()["id"]
        until = time.monotonic() + PATIENCE_S
        while not any(job.encode() in told for told in dumped(redis)):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert not [told for told in dumped(redis) if found_in(told)]
    assert not found_in((tmp_path / "warpline.sqlite").read_bytes())
