"""From DCMTK's archive to DCMTK's archive: a pair by UID, registered, all results stored back.

Pushed by `storescu`, kept by `dcmqrscp`, looked up and fetched again by `findscu` and `getscu`:
none of that is ours.
"""

import re
import subprocess
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from anyio.from_thread import start_blocking_portal
from pydicom import Dataset, FileDataset, dcmread

from service.settings import Settings
from tests.archives import LEFT_OPEN
from tests.integration.test_pacs_to_pacs import (
    MOVING,
    OBJECTS,
    STUDY,
    Service,
    objects_of,
    once,
    write_pair,
)

pytestmark = [
    pytest.mark.servers,
    pytest.mark.usefixtures("dcmtk", "collected"),
    pytest.mark.filterwarnings(LEFT_OPEN),
    pytest.mark.filterwarnings("ignore::UserWarning:pydicom"),
]
LABELS = "1.2.3.300"
# Values that are bytes: pixels, and the vectors of a deformable registration.
BYTES = ("PixelData", "VectorGridData")
KINDS = {
    "1.2.840.10008.5.1.4.1.1.2": 20,  # the warped slices
    "1.2.840.10008.5.1.4.1.1.66.4": 1,  # the segmentation
    "1.2.840.10008.5.1.4.1.1.66.1": 1,  # both registrations
    "1.2.840.10008.5.1.4.1.1.66.3": 1,
    "1.2.840.10008.5.1.4.1.1.88.33": 1,  # the report
}


class Dcmtk:
    """DCMTK's programs, calling its archive."""

    def __init__(self, port: int) -> None:
        self._port = str(port)

    def push(self, files: list[Path]) -> None:
        self._run("storescu", "-R", *map(str, files))

    def find(self) -> set[str]:
        """Each object of the study, series by series."""
        found = self._found("SERIES", "SeriesInstanceUID")
        return {
            uid
            for series in found
            for uid in self._found("IMAGE", "SOPInstanceUID", f"SeriesInstanceUID={series}")
        }

    def _found(self, level: str, wanted: str, *keys: str) -> set[str]:
        told = [word for key in (*keys, wanted) for word in ("-k", key)]
        said = self._run("findscu", "-S", "-v", *_keys(level), *told)
        return set(re.findall(rf"UI \[([0-9.]+)[\0 ]*\] .* {wanted}", said))

    def get(self, folder: Path) -> dict[str, FileDataset]:
        """The same, fetched."""
        folder.mkdir()
        self._run("getscu", "-S", *_keys("STUDY"), "-od", str(folder))
        fetched = [dcmread(path) for path in folder.iterdir()]
        return {str(one.SOPInstanceUID): one for one in fetched}

    def _run(self, program: str, *words: str) -> str:
        command = [program, "-aet", "SCANNER", "-aec", "ARCHIVE", "127.0.0.1", self._port, *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr


def _keys(level: str) -> list[str]:
    return ["-k", f"QueryRetrieveLevel={level}", "-k", f"StudyInstanceUID={STUDY}"]


def segmentation(files: list[Path]) -> Dataset:
    """Two segments of the moving series."""
    images = [dcmread(path) for path in files]
    code = highdicom.sr.CodedConcept("85756007", "SCT", "Tissue")
    described = [
        highdicom.seg.SegmentDescription(
            n, f"part {n}", code, code, highdicom.seg.SegmentAlgorithmTypeValues.MANUAL
        )
        for n in (1, 2)
    ]
    labels = np.zeros((len(images), images[0].Rows, images[0].Columns), np.uint8)
    labels[4:12, 5:15, 6:20] = 1
    labels[10:16, 16:24, 6:20] = 2
    return highdicom.seg.Segmentation(
        images, labels, "BINARY", described, LABELS, 300, f"{LABELS}.1", 1, "us", "made", "1", "1"
    )


@pytest.fixture(params=["get", "move"])
def service(
    request: pytest.FixtureRequest, dcmqrscp: dict[str, Any], tmp_path: Path
) -> Iterator[Service]:
    lines = {key: value for key, value in dcmqrscp.items() if key != "move_port"}
    lines |= {"retrieve": request.param}
    if request.param == "move":
        lines["move_port"] = dcmqrscp["move_port"]
    told = tmp_path / "peers.toml"
    text = "".join(
        f"{key} = {value if isinstance(value, int) else repr(value)}\n"
        for key, value in lines.items()
    )
    told.write_text("[peers.MAIN]\n" + text)
    with start_blocking_portal() as portal:
        made = Service(Settings(data_dir=tmp_path / "data", pacs_file=told, threads=1), portal)
        yield made
        made.stores.close()


def registered(service: Service) -> dict[str, Any]:
    """The job that has registered the pair, once all is stored."""
    job = service.order(("moving_labels", LABELS), store_to="MAIN")
    worker = service.worker()
    worker.work_off(once())
    done = service.job(job["links"]["self"])
    assert done["state"] == "succeeded", done["problem"]
    worker.work_off(once())
    stored = service.job(done["links"]["store"])
    assert stored["state"] == "succeeded", stored["problem"]
    return done | {"sent": stored["summary"]["sent"]}


def test_from_its_archive_to_its_archive(
    service: Service, dcmqrscp: dict[str, Any], tmp_path: Path
) -> None:
    theirs = Dcmtk(dcmqrscp["port"])
    files = write_pair(tmp_path / "pair")
    labels = tmp_path / "labels.dcm"
    segmentation([file for file in files if MOVING in str(file)]).save_as(labels)
    theirs.push([*files, labels])
    before = theirs.find()
    assert len(before) == 41

    done = registered(service)
    ours = objects_of(service, done["id"], OBJECTS | {"warped_labels.seg.dcm"})
    assert done["sent"] == len(ours) == sum(KINDS.values())
    assert theirs.find() == before | ours.keys()
    fetched = theirs.get(tmp_path / "fetched")
    assert fetched.keys() == before | ours.keys()
    kinds = [str(fetched[uid].SOPClassUID) for uid in ours]
    assert {kind: kinds.count(kind) for kind in kinds} == KINDS
    for uid, file in ours.items():
        require_same(fetched[uid], dcmread(BytesIO(file)))
    for path in [*files, labels]:  # and what was there is as it was
        sent = dcmread(path)
        require_same(fetched[str(sent.SOPInstanceUID)], sent)


def require_same(fetched: FileDataset, sent: FileDataset) -> None:
    """Every element, and those of bytes to the byte, whatever the encoding around them."""
    assert fetched.file_meta.MediaStorageSOPInstanceUID == sent.SOPInstanceUID
    assert fetched.file_meta.MediaStorageSOPClassUID == sent.SOPClassUID
    assert fetched == sent
    for keyword in BYTES:
        assert bytes_of(fetched, keyword) == bytes_of(sent, keyword)


def bytes_of(dataset: Dataset, keyword: str) -> list[bytes]:
    """The values of an element, wherever it is."""
    return [bytes(one.value) for one in dataset.iterall() if one.keyword == keyword]
