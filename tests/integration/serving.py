"""A model that comes into being while workers run: used, promoted and taken back on any stack."""

import gzip
from pathlib import Path
from typing import Any

import httpx
import nibabel as nib
import numpy as np

from service.jobs.model import NewModel
from service.stores.build import Stores
from tests.made_models import SPACING_MM, FakeTraining, compared, publish

SHAPE = (20, 18, 16)
SHIFTS_VOXELS = {"1": (1.0, 0.0, -0.5), "2": (0.0, -2.0, 1.0)}
PLAIN = {"initialise": "none", "refine": "none"}


def volume(seed: int) -> bytes:
    """A small image with something in it."""
    data = np.random.default_rng(seed).integers(0, 200, SHAPE).astype(np.int16)
    image = nib.Nifti1Image(data, np.diag([SPACING_MM] * 3 + [1.0]))
    image.header.set_xyzt_units("mm")
    return bytes(image.to_bytes())


PAIR = {"fixed": volume(1), "moving": volume(2)}


def check_a_new_model_is_served(http: httpx.Client, stores: Stores, scratch: Path) -> None:
    """From the training's last step to production and back, on workers that were there before."""
    unknown = http.post("/v1/register", files=PAIR, data=PLAIN | {"model": "toy"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "model-not-found")

    publish(stores, scratch, NewModel(name="toy"), FakeTraining(SHIFTS_VOXELS["1"]))
    assert served(http, "toy") == "1"
    assert http.post("/v1/models/toy/promote", json={"version": "1"}).status_code == 200

    rival = FakeTraining(SHIFTS_VOXELS["2"], compared("toy/1"))
    publish(stores, scratch, NewModel(name="toy"), rival)
    assert served(http, "toy@candidate") == "2"
    assert http.get("/v1/models/toy").json()["version"] == "1"

    promoted = http.post("/v1/models/toy/promote", json={"version": "2"})
    assert promoted.json()["aliases"] == ["candidate", "production"], promoted.text
    assert served(http, "toy") == "2"
    assert http.post("/v1/models/toy/rollback").json()["version"] == "1"
    assert served(http, "toy") == "1"


def served(http: httpx.Client, model: str) -> str:
    """The version that a registration was made with, by its report and by its field."""
    job = http.post(
        "/v1/register",
        files=PAIR,
        data=PLAIN | {"model": model},
        headers={"Prefer": "wait=60"},
    ).json()
    job = ended(http, job)
    assert job["state"] == "succeeded", job
    files = http.get(f"/v1/jobs/{job['id']}/results").json()["files"]
    used = fetched(files, "report.json").json()["model"]
    field = nib.Nifti1Image.from_bytes(gzip.decompress(fetched(files, "ddf.nii.gz").content))
    middle = np.median(field.get_fdata()[4:-4, 4:-4, 4:-4, 0].reshape(-1, 3), axis=0)
    expected_mm = np.array(SHIFTS_VOXELS[used["version"]]) * SPACING_MM * (-1, -1, 1)  # LPS
    np.testing.assert_allclose(middle, expected_mm, atol=1e-3)
    return str(used["version"])


def ended(http: httpx.Client, job: dict[str, Any]) -> dict[str, Any]:
    """A job as it is once it has ended: an answer waits for it no longer than a minute."""
    while job["state"] in ("queued", "running"):
        http.get(f"/v1/jobs/{job['id']}/events")  # ends with the job
        job = http.get(f"/v1/jobs/{job['id']}").json()
    return job


def fetched(files: dict[str, Any], name: str) -> httpx.Response:
    """A result by its signed URL, without a key."""
    reply = httpx.get(files[name]["url"], timeout=300)
    assert reply.status_code == 200, reply.text
    return reply
