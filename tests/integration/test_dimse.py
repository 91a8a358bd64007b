"""DIMSE against Debian's Orthanc: looked up, fetched by C-GET and C-MOVE, stored, committed."""

from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from service.errors import (
    PacsRefusedError,
    PacsSeriesNotFoundError,
    PacsSeriesTooLargeError,
    PacsUnavailableError,
    StorageNotCommittedError,
)
from service.jobs.job import PacsSeries
from service.pacs.archive import SeriesLimits
from service.pacs.dimse import Dimse
from service.pacs.objects import Sent, meta_of, to_send
from service.pacs.peers import DimsePeer
from tests.archives import LEFT_OPEN, Orthanc
from tests.integration.test_dicomweb import STUDY, nothing, series
from tests.servers import PATIENCE_S, free_port

pytestmark = [
    pytest.mark.servers,
    pytest.mark.usefixtures("collected"),
    pytest.mark.filterwarnings(LEFT_OPEN),
]


@pytest.fixture
def said(orthanc: Orthanc) -> dict[str, Any]:
    orthanc.clear()
    port = free_port()
    orthanc.knows("WARPLINE", port)
    return {
        "protocol": "dimse",
        "host": "127.0.0.1",
        "port": orthanc.dicom_port,
        "ae_title": "ARCHIVE",
        "connect_timeout_s": PATIENCE_S,
        "timeout_s": PATIENCE_S,
        "move_port": port,
        "commitment_port": port,
        "commitment_timeout_s": PATIENCE_S,
    }


def data_set(file: bytes) -> bytes:
    """Without the file meta information, in which each writer names itself."""
    length = int.from_bytes(file[140:144], "little")
    return file[144 + length :]


@pytest.mark.parametrize("how", ["get", "move"])
def test_a_series_comes_as_it_was_sent(
    how: str, said: dict[str, Any], orthanc: Orthanc, tmp_path: Path
) -> None:
    orthanc.take(series(tmp_path / "in", "1.2.3.4"))
    orthanc.take(series(tmp_path / "other", "1.2.3.5"))
    peer = DimsePeer(**said, retrieve=how)
    wanted = PacsSeries(pacs="A", study=STUDY, series="1.2.3.4")
    assert Dimse(peer).fetch(wanted, tmp_path / "out", SeriesLimits(), nothing) == 5
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == [f"{n:08d}" for n in range(1, 6)]
    here = {meta_of(file).uid: data_set(file.read_bytes()) for file in files}
    there = orthanc.objects("1.2.3.4")
    assert here == {uid: data_set(file) for uid, file in there.items()}
    assert dcmread(files[0]).PatientID == "P1"


@pytest.mark.parametrize("how", ["get", "move"])
def test_too_large(how: str, said: dict[str, Any], orthanc: Orthanc, tmp_path: Path) -> None:
    orthanc.take(series(tmp_path / "in", "1.2.3.7"))
    peer = DimsePeer(**said, retrieve=how)
    wanted = PacsSeries(pacs="A", study=STUDY, series="1.2.3.7")
    for n, limits in enumerate((SeriesLimits(max_files=4), SeriesLimits(max_bytes=2000))):
        with pytest.raises(PacsSeriesTooLargeError):
            Dimse(peer).fetch(wanted, tmp_path / f"out{n}", limits, nothing)


def test_what_is_stored_is_there_and_committed(
    said: dict[str, Any], orthanc: Orthanc, tmp_path: Path
) -> None:
    paths = series(tmp_path / "in", "1.2.3.6", slices=7)
    objects = [to_send(path) for path in paths]
    orthanc.take(paths[:2])
    peer = DimsePeer(**said, storage_commitment=True)
    assert Dimse(peer).store(objects, nothing) == Sent(5, 2)
    assert Dimse(peer).store(objects, nothing) == Sent(0, 7)
    there = {uid: data_set(file) for uid, file in orthanc.objects().items()}
    assert there == {one.meta.uid: data_set(one.path.read_bytes()) for one in objects}


def test_without_its_word_nothing_is_stored_for_good(said: dict[str, Any], tmp_path: Path) -> None:
    objects = [to_send(path) for path in series(tmp_path / "in", "1.2.3.8", slices=2)]
    deaf = said | {"commitment_port": free_port(), "commitment_timeout_s": 1}
    with pytest.raises(StorageNotCommittedError):
        Dimse(DimsePeer(**deaf, storage_commitment=True)).store(objects, nothing)


def test_no_such_series(said: dict[str, Any], tmp_path: Path) -> None:
    wanted = PacsSeries(pacs="A", study=STUDY, series="9.9")
    with pytest.raises(PacsSeriesNotFoundError):
        Dimse(DimsePeer(**said)).fetch(wanted, tmp_path / "out", SeriesLimits(), nothing)


def test_an_archive_that_does_not_know_us(said: dict[str, Any], tmp_path: Path) -> None:
    wanted = PacsSeries(pacs="A", study=STUDY, series="1.2.3.4")
    peer = DimsePeer(**said | {"ae_title": "SOMEBODY"})
    with pytest.raises(PacsRefusedError):
        Dimse(peer).fetch(wanted, tmp_path / "out", SeriesLimits(), nothing)


def test_an_archive_that_is_away(said: dict[str, Any], tmp_path: Path) -> None:
    wanted = PacsSeries(pacs="A", study=STUDY, series="1.2.3.4")
    peer = DimsePeer(**said | {"port": 9})
    with pytest.raises(PacsUnavailableError):
        Dimse(peer).fetch(wanted, tmp_path / "out", SeriesLimits(), nothing)
