"""`warpline igtl` on the command line: what it refuses, and the table."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from service.cli.igtl_setup import host_and_port
from service.cli.igtl_table import table_of
from service.cli.main import app
from service.errors import ValidationError
from service.igtl.frames import Frame
from service.igtl.tally import Tally
from service.registration.files.volume_file import write_volume
from service.registration.grid import Grid
from service.registration.volume import Volume
from tests.fakes.igtl_peers import answer_to


@pytest.fixture
def reference(tmp_path):
    data = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    path = tmp_path / "reference.nii.gz"
    write_volume(path, Volume(data, Grid((4, 5, 6), np.eye(4))))
    return path


def refused(reference, *more):
    result = CliRunner().invoke(app, ["igtl", str(reference), "--listen", "0", "--json", *more])
    assert result.exit_code == 2, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("more", "field", "word"),
    [
        (["--out", "transform,colours"], "out", "colours"),
        (["--out", "labels"], "out", "--labels"),
        (["--out", "points"], "out", "--points"),
        (["--url", "http://127.0.0.1:8080"], "url", "grpc://"),
    ],
)
def test_what_cannot_be_is_refused_before_anybody_connects(reference, more, field, word):
    problem = refused(reference, *more)
    assert problem["field"] == field
    assert word in problem["detail"]


def test_labels_of_a_fixed_reference_stay_where_they_are(reference):
    more = ["--out", "labels", "--role", "fixed", "--labels", str(reference)]
    assert "--role moving" in refused(reference, *more)["detail"]


def test_labels_on_another_grid_are_refused(reference, tmp_path):
    other = tmp_path / "labels.nii.gz"
    write_volume(other, Volume(np.ones((4, 5, 7), np.uint8), Grid((4, 5, 7), np.eye(4))))
    assert refused(reference, "--labels", str(other))["code"] == "grid-mismatch"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("localhost:18945", ("localhost", 18945)),
        ("plus-machine", ("plus-machine", 18944)),
        ("[::1]:18945", ("::1", 18945)),
    ],
)
def test_peers_are_named_by_host_and_port(text, parts):
    assert host_and_port(text) == parts


@pytest.mark.parametrize("text", ["", ":1", "host:", "host:0", "host:65536", "host:x", "host:-1"])
def test_what_is_no_host_and_port_is_refused(text):
    with pytest.raises(ValidationError):
        host_and_port(text)


def shown(tally):
    from rich.console import Console

    console = Console(width=100)
    with console.capture() as captured:
        console.print(table_of(tally))
    return " ".join(captured.get().split())


def test_the_table_shows_what_happens():
    tally = Tally()
    assert "waiting for the first image" in shown(tally)
    frame = Frame(np.zeros((2, 3, 4), np.int16), np.eye(4), 0)
    for number in range(1, 21):
        tally.answered(answer_to(number, frame, latency_ms=float(number)))
    tally.fault("igtl-checksum", "Damaged.")
    tally.add(images=25, overtaken=5)
    text = shown(tally)
    for word in ("25", "20 pass", "5 overtaken", "10 ms, p95 19 ms", "1 igtl-checksum", "1.5 mm"):
        assert word in text
    assert "pass, frame 20" in text
