"""DICOMweb against Debian's Orthanc: fetched byte for byte, stored once and no more."""

from pathlib import Path

import numpy as np
import pytest

from service.errors import (
    PacsRefusedError,
    PacsSeriesNotFoundError,
    PacsSeriesTooLargeError,
    PacsUnavailableError,
)
from service.jobs.job import PacsSeries
from service.pacs.archive import SeriesLimits
from service.pacs.dicomweb import Dicomweb
from service.pacs.objects import Sent, to_send
from service.pacs.peers import DicomwebPeer
from tests.archives import PASSWORD, USER, Orthanc
from tests.dicoms import affine_of, write_series

pytestmark = pytest.mark.servers

STUDY = "1.2.3"


def nothing() -> None:
    """Nobody wants to stop."""


@pytest.fixture
def peer(orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch) -> DicomwebPeer:
    orthanc.clear()
    monkeypatch.setenv("SECRET", PASSWORD)
    return DicomwebPeer(
        protocol="dicomweb",
        url=orthanc.dicomweb,
        auth="basic",
        username=USER,
        password={"env": "SECRET"},
    )


def series(folder: Path, uid: str, slices: int = 5) -> list[Path]:
    rng = np.random.default_rng(3)
    data = rng.integers(-900, 900, (16, 12, slices)).astype(np.int16)
    return write_series(folder, data, affine_of(np.eye(3), (1, 2, 3), (0, 0, 0)), series=uid)


def test_a_series_comes_as_it_was_sent(
    peer: DicomwebPeer, orthanc: Orthanc, tmp_path: Path
) -> None:
    orthanc.take(series(tmp_path / "in", "1.2.3.4"))
    orthanc.take(series(tmp_path / "other", "1.2.3.5"))
    wanted = PacsSeries(pacs="A", study=STUDY, series="1.2.3.4")
    assert Dicomweb(peer).fetch(wanted, tmp_path / "out", SeriesLimits(), nothing) == 5
    files = sorted((tmp_path / "out").iterdir())
    assert [file.name for file in files] == [f"{n:08d}" for n in range(1, 6)]
    here = {to_send(file).meta.uid: file.read_bytes() for file in files}
    assert here == orthanc.objects("1.2.3.4")


def test_what_is_stored_is_there_byte_for_byte_and_once(
    peer: DicomwebPeer, orthanc: Orthanc, tmp_path: Path
) -> None:
    paths = series(tmp_path / "in", "1.2.3.6", slices=70)  # more than one request
    objects = [to_send(path) for path in paths]
    orthanc.take(paths[:2])
    assert Dicomweb(peer).store(objects, nothing) == Sent(68, 2)
    assert Dicomweb(peer).store(objects, nothing) == Sent(0, 70)
    assert orthanc.objects() == {one.meta.uid: one.path.read_bytes() for one in objects}


def test_no_such_series(peer: DicomwebPeer, tmp_path: Path) -> None:
    wanted = PacsSeries(pacs="A", study=STUDY, series="9.9")
    with pytest.raises(PacsSeriesNotFoundError):
        Dicomweb(peer).fetch(wanted, tmp_path / "out", SeriesLimits(), nothing)


def test_too_large(peer: DicomwebPeer, orthanc: Orthanc, tmp_path: Path) -> None:
    orthanc.take(series(tmp_path / "in", "1.2.3.7"))
    wanted = PacsSeries(pacs="A", study=STUDY, series="1.2.3.7")
    for n, limits in enumerate((SeriesLimits(max_files=4), SeriesLimits(max_bytes=2000))):
        with pytest.raises(PacsSeriesTooLargeError):
            Dicomweb(peer).fetch(wanted, tmp_path / f"out{n}", limits, nothing)


def test_a_wrong_secret_is_refused(
    orthanc: Orthanc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "wrong")
    said = {"protocol": "dicomweb", "url": orthanc.dicomweb, "auth": "basic", "username": USER}
    peer = DicomwebPeer.model_validate(said | {"password": {"env": "SECRET"}})
    wanted = PacsSeries(pacs="A", study=STUDY, series="1.2.3.4")
    with pytest.raises(PacsRefusedError, match="401"):
        Dicomweb(peer).fetch(wanted, tmp_path / "out", SeriesLimits(), nothing)


def test_an_archive_that_is_away(tmp_path: Path) -> None:
    peer = DicomwebPeer(protocol="dicomweb", url="http://127.0.0.1:9/dicom-web")
    wanted = PacsSeries(pacs="A", study=STUDY, series="1.2.3.4")
    with pytest.raises(PacsUnavailableError):
        Dicomweb(peer).fetch(wanted, tmp_path / "out", SeriesLimits(), nothing)
