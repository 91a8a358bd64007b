"""DIMSE against DCMTK's archive: stored, found, and fetched back by C-GET and C-MOVE.

It gives objects back in implicit little endian, so they are compared element by element.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from service.jobs.job import PacsSeries
from service.pacs.archive import SeriesLimits
from service.pacs.dimse import Dimse
from service.pacs.objects import Sent, meta_of, to_send
from service.pacs.peers import DimsePeer
from tests.archives import LEFT_OPEN
from tests.integration.test_dicomweb import STUDY, nothing, series
from tests.servers import free_port, missing, wait_for_port

pytestmark = [
    pytest.mark.servers,
    pytest.mark.usefixtures("collected"),
    pytest.mark.filterwarnings(LEFT_OPEN),
]
CONFIGURATION = """\
NetworkTCPPort = {port}
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
us = (WARPLINE, 127.0.0.1, {ours})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
ARCHIVE {folder} RW (10, 64mb) ANY
AETable END
"""


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[dict[str, Any]]:
    """What we say of `dcmqrscp`, which is running."""
    binary = shutil.which("dcmqrscp")
    if binary is None:
        missing("DCMTK's dcmqrscp")
    folder, port, ours = tmp_path / "archive", free_port(), free_port()
    folder.mkdir()
    configured = tmp_path / "dcmqrscp.cfg"
    configured.write_text(CONFIGURATION.format(port=port, ours=ours, folder=folder))
    command = [str(binary), "-c", str(configured), str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        yield {
            "protocol": "dimse",
            "host": "127.0.0.1",
            "port": port,
            "ae_title": "ARCHIVE",
            "connect_timeout_s": 3,
            "timeout_s": 10,
            "move_port": ours,
        }
    finally:
        process.terminate()
        process.wait(10)


@pytest.mark.parametrize("how", ["get", "move"])
def test_what_is_stored_comes_back_as_it_was_sent(
    how: str, peer: dict[str, Any], tmp_path: Path
) -> None:
    paths = series(tmp_path / "in", "1.2.3.4")
    archive = Dimse(DimsePeer(**peer, retrieve=how))
    assert archive.store([to_send(path) for path in paths], nothing) == Sent(5, 0)
    assert archive.store([to_send(path) for path in paths], nothing) == Sent(0, 5)
    wanted = PacsSeries(pacs="A", study=STUDY, series="1.2.3.4")
    assert archive.fetch(wanted, tmp_path / "out", SeriesLimits(), nothing) == 5
    sent = {meta_of(path).uid: dcmread(path) for path in paths}
    came = {meta_of(file).uid: dcmread(file) for file in (tmp_path / "out").iterdir()}
    assert came == sent
