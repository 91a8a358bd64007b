"""Scanner push, with DCMTK's storescu as the scanner: kept, paired once, whatever happens."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from service.jobs.job import State
from service.pacs.incoming import Incoming
from service.pacs.listener import incoming_of, intake_of
from service.pacs.pairing import Pairing
from service.pacs.peers import Peers
from service.pacs.receiver import Receiver
from service.settings import Settings
from service.stores.build import open_stores
from service.worker.making import make_work
from service.worker.worker import Worker
from tests.archives import LEFT_OPEN, Orthanc
from tests.dicoms import affine_of, write_series
from tests.integration.test_pacs_to_pacs import FIXED, MOVING, once, write_pair
from tests.servers import PATIENCE_S, free_port

pytestmark = [
    pytest.mark.servers,
    pytest.mark.usefixtures("dcmtk", "collected"),
    pytest.mark.filterwarnings(LEFT_OPEN),
]

RULES = """
[listener]
port = {port}
quiet_s = 0.2
max_object_mib = 1
max_instances = 25
callers = {{ SCANNER = "127.0.0.1", ELSEWHERE = "192.0.2.1" }}

[[listener.rules]]
name = "follow-up"
calling = "SCANNER"
fixed = {{ description = "*planning*", modality = "ct" }}
moving = {{ description = "day ?" }}
owner = "radiology"
options = {{ initialise = "none", refine = "none" }}
"""


class Listening:
    """A listener in this process."""

    def __init__(
        self, folder: Path, peers_told: str = "", rule_told: str = "", rules: str = RULES
    ) -> None:
        peers = folder / "peers.toml"
        self.port = free_port()
        peers.write_text(peers_told + rules.format(port=self.port) + rule_told)
        self.settings = Settings(data_dir=folder / "data", pacs_file=peers, threads=1)
        told = Peers.of(self.settings).listener
        assert told is not None
        self.stores = open_stores(self.settings)
        self.incoming: Incoming = incoming_of(self.settings, told)
        self.receiver = Receiver(told, self.incoming)
        self.receiver.start()
        intake = intake_of(self.settings, self.stores)
        self.pairing = Pairing(told, self.incoming, self.stores, intake)

    def pairs(self) -> int:
        """Jobs that were made once all has been quiet for long enough."""
        time.sleep(0.3)
        return self.pairing.look()

    def close(self) -> None:
        self.receiver.stop()
        self.stores.close()


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[Listening]:
    made = Listening(tmp_path)
    yield made
    made.close()


@pytest.fixture
def pair(tmp_path: Path) -> dict[str, list[Path]]:
    """The files of both series, by role, as a scanner describes them."""
    placed = affine_of(np.eye(3), (1, 2, 3), (0, 0, 0))
    data = np.random.default_rng(3).integers(-900, 900, (16, 12, 5)).astype(np.int16)
    return {
        role: write_series(tmp_path / role, data, placed, series=uid, SeriesDescription=description)
        for role, uid, description in (
            ("fixed", FIXED, "CT PLANNING 3mm"),
            ("moving", MOVING, "Day 2"),
        )
    }


def push(port: int, files: list[Path], calling: str = "SCANNER") -> int:
    """The exit code of storescu."""
    command = ["storescu", "-aet", calling, "-aec", "WARPLINE", "127.0.0.1", str(port)]
    done = subprocess.run([*command, *map(str, files)], capture_output=True, check=False)
    return done.returncode


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.05)


def is_sent(listening: Listening) -> bool:
    return all(not one.is_open for one in listening.incoming.series())


def test_a_pair_becomes_one_job_however_often_it_is_sent(
    listening: Listening, pair: dict[str, list[Path]]
) -> None:
    assert push(listening.port, pair["fixed"]) == 0
    wait_for(lambda: is_sent(listening))
    assert listening.pairs() == 0
    assert push(listening.port, pair["moving"]) == 0
    wait_for(lambda: is_sent(listening))
    assert listening.pairs() == 1
    assert push(listening.port, pair["fixed"] + pair["moving"]) == 0
    wait_for(lambda: is_sent(listening))
    assert listening.pairs() == 0
    (job,) = listening.stores.jobs.page("radiology").jobs
    assert (job.state, job.request.options["refine"]) == (State.QUEUED, "none")
    for role in ("fixed", "moving"):
        size = listening.stores.blobs.size(str(job.request.inputs[role].key))
        assert size == job.request.inputs[role].bytes
    # Without its note the same pair is still the same job.
    for note in (listening.settings.data_dir / "incoming" / "pairs").iterdir():
        note.unlink()
    assert listening.pairs() == 1
    assert len(listening.stores.jobs.page("radiology").jobs) == 1


def test_names_on_the_disk_say_nothing(listening: Listening, pair: dict[str, list[Path]]) -> None:
    push(listening.port, pair["fixed"])
    paths = " ".join(map(str, (listening.settings.data_dir / "incoming").rglob("*")))
    assert FIXED not in paths
    assert "Doe" not in paths


def test_who_is_not_known_is_refused(listening: Listening, pair: dict[str, list[Path]]) -> None:
    assert push(listening.port, pair["fixed"], calling="STRANGER") != 0
    push(listening.port, pair["fixed"], calling="ELSEWHERE")  # known, but not from here
    assert list(listening.incoming.series()) == []


def test_more_than_is_allowed_is_refused(listening: Listening, tmp_path: Path) -> None:
    placed = affine_of(np.eye(3), (1, 2, 3), (0, 0, 0))
    many = write_series(tmp_path / "many", np.zeros((4, 4, 26), np.int16), placed, series="1.2.7")
    push(listening.port, many)
    assert [len(one.objects) for one in listening.incoming.series()] == [25]
    large = write_series(
        tmp_path / "large", np.zeros((1024, 1024, 1), np.int16), placed, series="1.2.8"
    )
    assert push(listening.port, large) != 0
    assert len(list(listening.incoming.series())) == 1


def test_a_name_that_is_too_long_is_not_read(listening: Listening, tmp_path: Path) -> None:
    placed = affine_of(np.eye(3), (1, 2, 3), (0, 0, 0))
    zeros = np.zeros((4, 4, 1), np.int16)
    (path,) = write_series(tmp_path / "s", zeros, placed, series="1.2.9", ProtocolName="P")
    content = path.read_bytes()
    name = b"\x18\0\x30\x10LO\2\0P "
    assert name in content
    for length, code in ((4096, 0), (4098, 1), (500_000, 1)):
        long = b"\x18\0\x30\x10UT\0\0" + length.to_bytes(4, "little") + b"P" * length
        path.write_bytes(content.replace(name, long))
        assert bool(push(listening.port, [path])) == bool(code)


def test_a_sender_that_goes_away_in_the_middle_leaves_no_half_pair(
    listening: Listening, pair: dict[str, list[Path]]
) -> None:
    push(listening.port, pair["fixed"])
    command = ["storescu", "--repeat", "100000", "-aet", "SCANNER", "-aec", "WARPLINE"]
    scanner = subprocess.Popen(
        [*command, "127.0.0.1", str(listening.port), *map(str, pair["moving"][:2])],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for(lambda: len(list(listening.incoming.series())) == 2)
    scanner.kill()
    scanner.wait()
    assert listening.pairs() == 0
    assert push(listening.port, pair["moving"]) == 0
    wait_for(lambda: is_sent(listening))
    assert listening.pairs() == 1


def started(settings: Settings) -> "subprocess.Popen[bytes]":
    env = os.environ | {
        "WARPLINE_DATA_DIR": str(settings.data_dir),
        "WARPLINE_PACS_FILE": str(settings.pacs_file),
    }
    return subprocess.Popen([sys.executable, "-m", "service.pacs.listener"], env=env)


def test_a_listener_that_is_killed_goes_on_where_it_was(
    listening: Listening, pair: dict[str, list[Path]]
) -> None:
    listening.receiver.stop()
    first = started(listening.settings)
    try:
        wait_for(lambda: push(listening.port, pair["fixed"]) == 0)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    second = started(listening.settings)
    try:
        wait_for(lambda: push(listening.port, pair["fixed"] + pair["moving"]) == 0)
        wait_for(lambda: len(listening.stores.jobs.page("radiology").jobs) == 1)
    finally:
        second.terminate()
        assert second.wait(PATIENCE_S) == 0


def test_from_the_scanner_to_the_archive(orthanc: Orthanc, tmp_path: Path) -> None:
    """Pushed, paired, registered, stored by DIMSE with storage commitment."""
    orthanc.clear()
    back = free_port()
    orthanc.knows("WARPLINE", back)
    peer = (
        f'[peers.MAIN]\nprotocol = "dimse"\nhost = "127.0.0.1"\nport = {orthanc.dicom_port}\n'
        f'ae_title = "ARCHIVE"\nstorage_commitment = true\ncommitment_port = {back}\n'
        f"connect_timeout_s = {PATIENCE_S}\ncommitment_timeout_s = {PATIENCE_S}\n"
    )
    listening = Listening(tmp_path, peer, 'store_to = "MAIN"\n')
    try:
        files = write_pair(tmp_path / "pair")
        for path in files:
            described(path, "planning" if FIXED in str(path) else "day 1")
        assert push(listening.port, files) == 0
        wait_for(lambda: is_sent(listening))
        assert listening.pairs() == 1
        work = make_work(listening.settings, listening.stores)
        worker = Worker.of(listening.settings, listening.stores, work, threading.Event())
        assert [worker.work_off(once()) for _ in range(2)] == [1, 1]
        jobs = listening.stores.jobs.page("radiology").jobs
        assert [job.state for job in jobs] == [State.SUCCEEDED] * 2, [job.problem for job in jobs]
        assert len(orthanc.objects()) == 20 + 3  # slices; two registrations, a report
    finally:
        listening.close()


def described(path: Path, description: str) -> None:
    from pydicom import dcmread

    said = dcmread(path)
    said.SeriesDescription = description
    said.save_as(path)
