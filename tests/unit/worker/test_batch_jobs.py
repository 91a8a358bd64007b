"""A worker keeps the fixed image of a batch job for the next one, and of no other."""

from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest

from service.jobs.job import InputFile, Job, Kind, Queue, Request, State
from service.registration.files.limits import Limits
from service.registration.files.volume_file import write_volume
from service.registration.grid import Grid
from service.registration.models_folder import ModelFolder
from service.stores.local_blobs import LocalBlobStore
from service.stores.signing import UrlSigner
from service.worker.fetch import UrlRules
from service.worker.work import Registration
from tests.phantoms import phantom_pair

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def work(tmp_path: Path) -> Registration:
    blobs = LocalBlobStore(tmp_path / "objects", UrlSigner(b"secret", "http://127.0.0.1"))
    grid = Grid((24, 22, 20), np.diag([4.0, 4.0, 4.0, 1.0]))
    pair = phantom_pair(grid, grid, most_mm=4.0)
    for name in ("fixed", "moving"):
        write_volume(tmp_path / "sent.nii.gz", getattr(pair, name))
        blobs.put_file(f"uploads/{name}/data", tmp_path / "sent.nii.gz")
    models = ModelFolder(provider="cpu", is_late=True)
    return Registration(blobs, models, Limits(), UrlRules(frozenset(), 1 << 20))


def job(queue: Queue) -> Job:
    files = {name: InputFile(key=f"uploads/{name}/data") for name in ("fixed", "moving")}
    options = {"refine": "none", "initialise": "none"}
    return Job(
        id=uuid4(),
        owner="alice",
        request=Request(kind=Kind.REGISTER, inputs=files, options=options),
        request_digest="d" * 64,
        state=State.RUNNING,
        queue=queue,
        created_at=NOW,
        not_before=NOW,
        deadline_at=NOW,
    )


def test_batch_jobs_share_a_fixed_image(work: Registration, tmp_path: Path) -> None:
    kept = []
    for number, queue in enumerate([Queue.BATCH, Queue.BATCH, Queue.INTERACTIVE, Queue.BATCH]):
        folder = tmp_path / str(number)
        folder.mkdir()
        outcome = work(job(queue), folder, lambda *_: None)
        assert "warped.nii.gz" in outcome.files
        kept.append(work.kept._prepared)
    assert kept[0] is not None
    assert kept[1] is kept[0]
    assert kept[2] is None
    assert kept[3] is not None
    same = [(tmp_path / str(number) / "out" / "ddf.nii.gz").read_bytes() for number in range(4)]
    assert len(set(same)) == 1
