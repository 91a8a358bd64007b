"""DIMSE against DCMTK's archive: stored, found, and fetched back by C-GET and C-MOVE.

It gives objects back in implicit little endian, so they are compared element by element.
"""

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

pytestmark = [
    pytest.mark.servers,
    pytest.mark.usefixtures("collected"),
    pytest.mark.filterwarnings(LEFT_OPEN),
]


@pytest.mark.parametrize("how", ["get", "move"])
def test_what_is_stored_comes_back_as_it_was_sent(
    how: str, dcmqrscp: dict[str, Any], tmp_path: Path
) -> None:
    paths = series(tmp_path / "in", "1.2.3.4")
    archive = Dimse(DimsePeer(**dcmqrscp, retrieve=how))
    assert archive.store([to_send(path) for path in paths], nothing) == Sent(5, 0)
    assert archive.store([to_send(path) for path in paths], nothing) == Sent(0, 5)
    wanted = PacsSeries(pacs="A", study=STUDY, series="1.2.3.4")
    assert archive.fetch(wanted, tmp_path / "out", SeriesLimits(), nothing) == 5
    sent = {meta_of(path).uid: dcmread(path) for path in paths}
    came = {meta_of(file).uid: dcmread(file) for file in (tmp_path / "out").iterdir()}
    assert came == sent
