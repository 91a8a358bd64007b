"""DIMSE behind TLS: Orthanc as the archive, DCMTK's programs on either side.

Debian's `dcmqrscp`, `getscu` and `movescu` are built without it.
"""

import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pynetdicom.presentation import build_context

from service.errors import PacsUnavailableError
from service.jobs.job import PacsSeries
from service.pacs.archive import SeriesLimits
from service.pacs.association import SUCCESS, associated, status_of
from service.pacs.dimse import Dimse
from service.pacs.objects import Sent, to_send
from service.pacs.peers import DimsePeer
from service.pacs.tls import Tls
from tests.archives import LEFT_OPEN, Orthanc
from tests.certificates import certified
from tests.integration.test_dicomweb import STUDY, nothing, series
from tests.integration.test_dimse import data_set
from tests.integration.test_listener import Listening
from tests.servers import PATIENCE_S, free_port, wait_for_port

pytestmark = [
    pytest.mark.servers,
    pytest.mark.usefixtures("collected"),
    pytest.mark.filterwarnings(LEFT_OPEN),
]
LISTENING = """
[listener]
port = {port}
quiet_s = 0.2
callers = {{ SCANNER = "127.0.0.1" }}
tls = {{ certificate = "OURS.pem", key = "OURS.key", ca_file = "THEIRS.pem" }}

[[listener.rules]]
name = "any"
fixed = {{ modality = "CT" }}
moving = {{ modality = "MR" }}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of ours, theirs and a stranger."""
    made = tmp_path_factory.mktemp("certificates")
    for name in ("ours", "theirs", "stranger"):
        certified(made, name)
    return made


@pytest.fixture(scope="module")
def hidden(
    orthanc_binary: str, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Orthanc]:
    """An archive that takes associations by TLS only, from those that show our certificate."""
    more = {
        "DicomTlsEnabled": True,
        "DicomTlsCertificate": str(folder / "theirs.pem"),
        "DicomTlsPrivateKey": str(folder / "theirs.key"),
        "DicomTlsTrustedCertificates": str(folder / "ours.pem"),
        "DicomTlsRemoteCertificateRequired": True,
    }
    made = Orthanc(tmp_path_factory.mktemp("orthanc") / "archive", more=more)
    made.start()
    yield made
    made.stop()


def shown(folder: Path, own: str | None = "ours", known: str = "theirs") -> dict[str, Any]:
    """The part `tls` of a peer."""
    told = {"ca_file": folder / f"{known}.pem"}
    if own is not None:
        told |= {"certificate": folder / f"{own}.pem", "key": folder / f"{own}.key"}
    return told


@pytest.fixture
def said(hidden: Orthanc, folder: Path) -> dict[str, Any]:
    hidden.clear()
    port = free_port()
    hidden.knows("WARPLINE", port, UseDicomTls=True)
    return {
        "protocol": "dimse",
        "host": "localhost",
        "port": hidden.dicom_port,
        "ae_title": "ARCHIVE",
        "connect_timeout_s": PATIENCE_S,
        "timeout_s": PATIENCE_S,
        "move_port": port,
        "tls": shown(folder),
    }


@pytest.mark.parametrize("how", ["get", "move"])
def test_a_series_comes_as_it_was_sent(
    how: str, said: dict[str, Any], hidden: Orthanc, tmp_path: Path
) -> None:
    hidden.take(series(tmp_path / "in", "1.2.3.4"))
    wanted = PacsSeries(pacs="A", study=STUDY, series="1.2.3.4")
    archive = Dimse(DimsePeer(**said, retrieve=how))
    assert archive.fetch(wanted, tmp_path / "out", SeriesLimits(), nothing) == 5
    here = {data_set(file.read_bytes()) for file in (tmp_path / "out").iterdir()}
    assert here == {data_set(file) for file in hidden.objects("1.2.3.4").values()}


def test_what_is_stored_is_there_and_committed(
    said: dict[str, Any], hidden: Orthanc, tmp_path: Path
) -> None:
    objects = [to_send(path) for path in series(tmp_path / "in", "1.2.3.6")]
    back = {"commitment_port": said["move_port"], "commitment_timeout_s": PATIENCE_S}
    peer = DimsePeer(**said | back, storage_commitment=True)
    assert Dimse(peer).store(objects, nothing) == Sent(5, 0)
    there = {uid: data_set(file) for uid, file in hidden.objects().items()}
    assert there == {one.meta.uid: data_set(one.path.read_bytes()) for one in objects}


@pytest.mark.parametrize(
    ("own", "known"), [("ours", "stranger"), ("stranger", "theirs"), (None, "theirs")]
)
def test_with_another_certificate_there_is_no_association(
    own: str | None, known: str, said: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    wanted = PacsSeries(pacs="A", study=STUDY, series="1.2.3.4")
    peer = DimsePeer(**said | {"tls": shown(folder, own, known), "move_port": None})
    with pytest.raises(PacsUnavailableError):
        Dimse(peer).fetch(wanted, tmp_path / "out", SeriesLimits(), nothing)


def test_a_name_that_the_certificate_does_not_have(
    said: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    wanted = PacsSeries(pacs="A", study=STUDY, series="1.2.3.4")
    peer = DimsePeer(**said | {"host": "127.0.0.2"})
    with pytest.raises(PacsUnavailableError):
        Dimse(peer).fetch(wanted, tmp_path / "out", SeriesLimits(), nothing)


# ---- DCMTK ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("dcmtk")
def test_storescp_takes_what_we_send(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    port = free_port()
    command = ["storescp", "+tls", str(folder / "theirs.key"), str(folder / "theirs.pem")]
    command += ["+cf", str(folder / "ours.pem"), "-rc", "-aet", "ARCHIVE", "+B"]
    process = subprocess.Popen([*command, "-od", str(tmp_path / "taken"), str(port)])
    peer = DimsePeer(
        protocol="dimse",
        host="localhost",
        port=port,
        ae_title="ARCHIVE",
        connect_timeout_s=PATIENCE_S,
        tls=Tls(**shown(folder)),
    )
    objects = [to_send(path) for path in series(tmp_path / "in", "1.2.3.4")]
    kind = build_context(objects[0].meta.sop_class, objects[0].meta.transfer_syntax)
    try:
        wait_for_port(port, process)
        with associated(peer, [kind]) as association:
            answers = [association.send_c_store(one.path) for one in objects]
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
    assert [status_of(answer) for answer in answers] == [SUCCESS] * 5
    taken = {data_set(file.read_bytes()) for file in (tmp_path / "taken").iterdir()}
    assert taken == {data_set(one.path.read_bytes()) for one in objects}


@pytest.fixture
def listening(folder: Path, tmp_path: Path, dcmtk: None) -> Iterator[Listening]:
    told = LISTENING.replace("OURS", str(folder / "ours")).replace("THEIRS", str(folder / "theirs"))
    made = Listening(tmp_path, rules=told)
    yield made
    made.close()


def push(listening: Listening, files: list[Path], *tls: str) -> int:
    """The exit code of storescu."""
    command = ["storescu", *tls, "-to", "60", "-aet", "SCANNER", "-aec", "WARPLINE"]
    command += ["localhost", str(listening.port), *map(str, files)]
    return subprocess.run(command, capture_output=True, check=False, timeout=300).returncode


def by_tls(folder: Path, own: str, known: str) -> list[str]:
    pair = [str(folder / f"{own}.key"), str(folder / f"{own}.pem")]
    return ["+tls", *pair, "+cf", str(folder / f"{known}.pem")]


def test_storescu_gets_in_with_its_certificate_only(
    listening: Listening, folder: Path, tmp_path: Path
) -> None:
    files = series(tmp_path / "in", "1.2.3.4")
    assert push(listening, files) != 0
    assert push(listening, files, *by_tls(folder, "stranger", "ours")) != 0
    assert push(listening, files, "+tla", "+cf", str(folder / "ours.pem")) != 0
    assert push(listening, files, *by_tls(folder, "theirs", "stranger")) != 0
    assert not list(listening.incoming.series())
    assert push(listening, files, *by_tls(folder, "theirs", "ours")) == 0
    (came,) = listening.incoming.series()
    assert len(came.objects) == 5


def test_one_that_connects_and_is_silent_keeps_nobody_out(
    listening: Listening, folder: Path, tmp_path: Path
) -> None:
    files = series(tmp_path / "in", "1.2.3.4")
    with (
        socket.create_connection(("localhost", listening.port)) as silent,
        socket.create_connection(("localhost", listening.port)) as stuck,
    ):
        stuck.sendall(b"\x16\x03\x01\x02\x00")  # a record that says hello, and never does
        assert push(listening, files, *by_tls(folder, "theirs", "ours")) == 0
        assert silent.fileno() >= 0
