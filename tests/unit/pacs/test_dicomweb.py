"""An archive that is slow, refuses, breaks off, forgets to answer, or sends half a series."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.errors import (
    JobCancelledError,
    PacsIncompleteError,
    PacsObjectRefusedError,
    PacsRefusedError,
    PacsUnavailableError,
)
from service.jobs.job import PacsSeries
from service.pacs import dicomweb
from service.pacs.archive import SeriesLimits
from service.pacs.dicomweb import Dicomweb
from service.pacs.objects import Sending, Sent, to_send
from service.pacs.peers import DicomwebPeer
from tests.dicoms import affine_of, write_series
from tests.fakes.dicomweb_archive import FakeArchive

WANTED = PacsSeries(pacs="A", study="1.2.3", series="1.2.3.4")


def nothing() -> None:
    """Nobody wants to stop."""


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeArchive]:
    monkeypatch.setattr(dicomweb, "FIRST_PAUSE_S", 0.01)
    made = FakeArchive(tmp_path)
    yield made
    made.close()


@pytest.fixture
def ours(tmp_path: Path) -> list[Sending]:
    data = np.arange(4 * 4 * 6, dtype=np.int16).reshape(4, 4, 6)
    placed = affine_of(np.eye(3), (1, 2, 3), (0, 0, 0))
    return [to_send(path) for path in write_series(tmp_path / "in", data, placed)]


@pytest.fixture
def client(archive: FakeArchive) -> Dicomweb:
    return Dicomweb(DicomwebPeer(protocol="dicomweb", url=archive.url, timeout_s=120))


def holds(archive: FakeArchive, ours: list[Sending]) -> None:
    archive.objects = {one.meta.uid: one.path.read_bytes() for one in ours}


@pytest.mark.parametrize(
    "faults", [["503"], ["", "503"], ["", "breaks off"], ["429", "", "502", "breaks off", "503"]]
)
def test_a_series_comes_whole_in_spite_of_faults_that_pass(
    faults: list[str], archive: FakeArchive, client: Dicomweb, ours: list[Sending], tmp_path: Path
) -> None:
    holds(archive, ours)
    archive.faults.extend(faults)
    assert client.fetch(WANTED, tmp_path / "out", SeriesLimits(), nothing) == 6
    files = sorted((tmp_path / "out").iterdir())
    assert {to_send(file).meta.uid: file.read_bytes() for file in files} == archive.objects


def test_half_a_series_is_none(
    archive: FakeArchive, client: Dicomweb, ours: list[Sending], tmp_path: Path
) -> None:
    holds(archive, ours)
    archive.sends_only = 3
    with pytest.raises(PacsIncompleteError, match="lists 6 instances of the series and sent 3"):
        client.fetch(WANTED, tmp_path / "out", SeriesLimits(), nothing)
    assert PacsIncompleteError.retryable


@pytest.mark.parametrize(
    ("faults", "error"), [(["503"] * 9, PacsUnavailableError), (["403"], PacsRefusedError)]
)
def test_faults_that_stay(
    faults: list[str],
    error: type[Exception],
    archive: FakeArchive,
    client: Dicomweb,
    tmp_path: Path,
) -> None:
    archive.faults.extend(faults)
    with pytest.raises(error) as caught:
        client.fetch(WANTED, tmp_path / "out", SeriesLimits(), nothing)
    assert "1.2.3" not in str(caught.value)


def test_a_job_that_is_not_wanted_any_more_stops(
    archive: FakeArchive, client: Dicomweb, ours: list[Sending], tmp_path: Path
) -> None:
    holds(archive, ours)

    def stop() -> None:
        raise JobCancelledError

    with pytest.raises(JobCancelledError):
        client.fetch(WANTED, tmp_path / "out", SeriesLimits(), stop)


@pytest.mark.parametrize("faults", [["answer is lost"], ["503"], ["reason A700"], ["reason 0110"]])
def test_each_object_is_stored_once(
    faults: list[str], archive: FakeArchive, client: Dicomweb, ours: list[Sending]
) -> None:
    archive.faults.extend(["", *faults])  # the first request looks what is there
    assert client.store(ours, nothing) == Sent(6, 0)
    assert archive.objects == {one.meta.uid: one.path.read_bytes() for one in ours}
    again = len(archive.received) - 6
    assert again == (1 if faults[0].startswith("reason") else 0)


def test_an_object_that_is_refused_for_good_is_said_and_the_others_are_stored(
    archive: FakeArchive, client: Dicomweb, ours: list[Sending]
) -> None:
    archive.faults.extend(["", "reason 0122"])
    with pytest.raises(PacsObjectRefusedError, match="refused 1 of 6"):
        client.store(ours, nothing)
    assert len(archive.objects) == 5


def test_an_archive_that_does_not_take_now_is_asked_another_time(
    archive: FakeArchive, client: Dicomweb, ours: list[Sending]
) -> None:
    archive.faults.extend(["", *(["503", ""] * 3)])
    with pytest.raises(PacsUnavailableError):
        client.store(ours, nothing)
    assert client.store(ours, nothing) == Sent(6, 0)


def test_an_archive_that_never_answers_is_away(archive: FakeArchive, tmp_path: Path) -> None:
    archive.faults.extend(["sleeps"] * 9)
    slow = Dicomweb(DicomwebPeer(protocol="dicomweb", url=archive.url, timeout_s=0.2))
    with pytest.raises(PacsUnavailableError):
        slow.fetch(WANTED, tmp_path / "out", SeriesLimits(), nothing)
