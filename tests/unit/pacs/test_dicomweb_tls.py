"""An archive behind TLS that asks for our certificate: let in with it, refused without."""

import ssl
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from service.errors import PacsUnavailableError
from service.pacs import dicomweb
from service.pacs.archive import SeriesLimits
from service.pacs.dicomweb import Dicomweb
from service.pacs.objects import to_send
from service.pacs.peers import DicomwebPeer
from service.pacs.tls import Tls
from tests.certificates import certified
from tests.dicoms import affine_of, write_series
from tests.fakes.dicomweb_archive import FakeArchive
from tests.unit.pacs.test_dicomweb import WANTED, nothing


@pytest.fixture
def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeArchive]:
    monkeypatch.setattr(dicomweb, "FIRST_PAUSE_S", 0.01)
    certified(tmp_path, "theirs")
    certified(tmp_path, "ours")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "ours.pem")
    context.load_cert_chain(tmp_path / "theirs.pem", tmp_path / "theirs.key")
    context.verify_mode = ssl.CERT_REQUIRED
    made = FakeArchive(tmp_path, context)
    data = np.arange(4 * 4 * 6, dtype=np.int16).reshape(4, 4, 6)
    placed = affine_of(np.eye(3), (1, 2, 3), (0, 0, 0))
    for path in write_series(tmp_path / "in", data, placed):
        made.objects[to_send(path).meta.uid] = path.read_bytes()
    yield made
    made.close()


def test_with_both_certificates_a_series_comes(archive: FakeArchive, tmp_path: Path) -> None:
    tls = Tls(
        ca_file=tmp_path / "theirs.pem",
        certificate=tmp_path / "ours.pem",
        key=tmp_path / "ours.key",
    )
    client = Dicomweb(DicomwebPeer(protocol="dicomweb", url=archive.url, tls=tls, timeout_s=120))
    assert client.fetch(WANTED, tmp_path / "out", SeriesLimits(), nothing) == 6


@pytest.mark.parametrize("knows", ["theirs", "nobody"])
def test_without_ours_or_with_a_stranger_s_nothing_comes(
    knows: str, archive: FakeArchive, tmp_path: Path
) -> None:
    certified(tmp_path, "nobody")
    tls = Tls(ca_file=tmp_path / f"{knows}.pem")
    client = Dicomweb(DicomwebPeer(protocol="dicomweb", url=archive.url, tls=tls, timeout_s=120))
    with pytest.raises(PacsUnavailableError):
        client.fetch(WANTED, tmp_path / "out", SeriesLimits(), nothing)
