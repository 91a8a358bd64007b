"""The OpenIGTLink bridge with pyigtl on the other side, and with a real live process behind it."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyigtl
import pytest
from numpy.testing import assert_allclose

from service.igtl import peers as peers_module
from service.igtl.bridge import Bridge
from service.igtl.outputs import OUTPUTS, Outputs
from service.igtl.tally import Tally
from service.registration.files.field_file import read_field
from service.registration.files.limits import Limits
from service.registration.files.points_file import read_points, write_points
from service.registration.files.volume_file import read_volume, write_volume
from service.registration.grid import Grid
from service.registration.models_folder import ModelFolder
from service.registration.options import RegisterOptions
from service.registration.pipeline import register_files
from service.registration.points import WorldPoints
from tests.conftest import DIRECTIONS
from tests.fakes.igtl_peers import AFFINE, FakeService, wait_for
from tests.integration.test_live import LiveProcess
from tests.phantoms import PhantomPair, phantom_pair
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
VOXELS = np.arange(60, dtype=np.int16).reshape(3, 4, 5)  # axes k, j, i
PLACE = np.diag((0.7, 1.3, 4.0, 1.0))
PATIENCE_S = 300  # of a busy machine


@pytest.fixture(autouse=True)
def _signals_stay_as_they_are() -> Iterator[None]:
    """Servers of pyigtl take SIGINT and SIGTERM and do not give them back."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)


@contextmanager
def their_client(port: int) -> Iterator[pyigtl.OpenIGTLinkClient]:
    client = pyigtl.OpenIGTLinkClient("127.0.0.1", port, body_receive_timeout_sec=PATIENCE_S)
    try:
        yield client
    finally:
        client.stop()


@contextmanager
def their_server(port: int) -> Iterator[pyigtl.OpenIGTLinkServer]:
    server = pyigtl.OpenIGTLinkServer(port, body_receive_timeout_sec=PATIENCE_S)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def bridging(service: FakeService, outputs: Outputs, to: int | None = None) -> Iterator[int]:
    """A bridge at work; the port that it listens at, or connects to."""
    bridge = Bridge(service, outputs, Tally())
    if to is None:
        to = bridge.peers.listen(0, "127.0.0.1")
    else:
        bridge.peers.connect("127.0.0.1", to)
    thread = threading.Thread(target=bridge.run)
    thread.start()
    try:
        yield to
    finally:
        bridge.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def image(voxels: np.ndarray = VOXELS, affine: np.ndarray = PLACE, **more: Any) -> Any:
    said = {"world_coordinate_system": "ras", "device_name": "Volume"} | more
    return pyigtl.ImageMessage(voxels, affine, **said)


def received(peer: Any, name: str) -> Any:
    message = peer.wait_for_message(name, timeout=PATIENCE_S)
    assert message is not None, f"{name} did not come"
    return message


def check_outputs(peer: Any, stamp_s: float) -> None:
    """Everything that an answer of the fake brings, as pyigtl reads it."""
    transform = received(peer, "ReferenceToImage")
    assert_allclose(transform.matrix, np.linalg.inv(AFFINE), atol=1e-5)
    assert transform.timestamp == pytest.approx(stamp_s, abs=1e-6)
    for name in ("WarplineImage", "WarplineFrame"):
        got = received(peer, name)
        assert (got.image == VOXELS).all()
        assert_allclose(got.ijk_to_world_matrix, PLACE, atol=1e-6)
        assert got.timestamp == pytest.approx(stamp_s, abs=1e-6)
    assert (received(peer, "WarplineLabels").image == (VOXELS > 3)).all()
    assert (received(peer, "WarplineGrid").image == 0.5).all()
    assert_allclose(received(peer, "WarplinePoints").positions, [(1, 2, 3)])
    assert json.loads(received(peer, "WarplineText").string)["verdict"] == "pass"


def test_a_client_of_pyigtl_sends_images_and_reads_every_output():
    service = FakeService()
    with bridging(service, Outputs(frozenset(OUTPUTS))) as port, their_client(port) as client:
        client.send_message(image(timestamp=1_795_000_000.25))
        check_outputs(client, 1_795_000_000.25)
    assert (service.sessions[0].frames[1].voxels == VOXELS).all()


def test_a_server_of_pyigtl_is_connected_to_again_and_again(monkeypatch):
    monkeypatch.setattr(peers_module, "FIRST_WAIT_S", 0.02)
    port = free_port()
    with bridging(FakeService(), Outputs(frozenset(OUTPUTS)), to=port):  # which is not there yet
        for stamp_s in (1_795_000_000.5, 1_795_000_001.5):
            with their_server(port) as server:
                wait_for(server.is_connected)
                server.send_message(image(timestamp=stamp_s), wait=False)
                check_outputs(server, stamp_s)


def test_an_image_in_lps_lies_where_it_lay_in_ras():
    service = FakeService()
    oblique = np.eye(4)
    oblique[:3, :3] = DIRECTIONS["oblique-left-handed"] * (0.7, 1.3, 4.0)
    oblique[:3, 3] = (5, -6, 7)
    flipped = np.diag((-1, -1, 1, 1)) @ oblique
    with bridging(service, Outputs(frozenset({"frame"}))) as port, their_client(port) as client:
        client.send_message(image(affine=flipped, world_coordinate_system="lps"))
        got = received(client, "WarplineFrame")
    assert got.world_coordinate_system == "ras"
    assert_allclose(got.ijk_to_world_matrix, oblique, atol=1e-5)


def grid_of(orientation: str, shape: tuple[int, int, int], centre: tuple[float, ...]) -> Grid:
    affine = np.eye(4)
    affine[:3, :3] = DIRECTIONS[orientation] * (3.0, 2.5, 3.5)
    affine[:3, 3] = np.array(centre) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return Grid(shape, affine)


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveProcess]:
    process = LiveProcess(tmp_path_factory.mktemp("live"))
    process.start()
    yield process
    if process.process is not None:
        process.process.kill()
        process.process.wait()


@pytest.fixture(scope="module")
def pair() -> PhantomPair:
    fixed = grid_of("oblique", (34, 30, 26), (10, -20, 30))
    return phantom_pair(fixed, grid_of("LPS", (40, 36, 32), (10, -20, 30)), most_mm=4.0)


@pytest.fixture(scope="module")
def files(pair: PhantomPair, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The phantom's files; the live image is the fixed one."""
    folder = tmp_path_factory.mktemp("phantom")
    made = {role: folder / f"{role}.nii.gz" for role in ("fixed", "moving", "moving_labels")} | {
        "moving_points": folder / "moving_points.csv"
    }
    write_volume(made["fixed"], pair.fixed)
    write_volume(made["moving"], pair.moving)
    write_volume(made["moving_labels"], pair.moving_labels)
    centre = pair.moving.grid.centre_mm
    write_points(made["moving_points"], WorldPoints(centre + np.array([(0, 0, 0), (5, -6, 7)])))
    return made


@contextmanager
def command(
    files: dict[str, Path], live: LiveProcess, *more: str
) -> Iterator[tuple[int, "subprocess.Popen[str]"]]:
    """`warpline igtl` in a process of its own: the port that it listens at, and the process."""
    port = free_port()
    asked = [
        sys.executable, "-m", "service.cli.main", "igtl", str(files["moving"]),
        "--labels", str(files["moving_labels"]), "--points", str(files["moving_points"]),
        "--listen", str(port), "--url", f"grpc://{live.target}",
        "--out", "transform,grid,labels,image,points", "--send-failed",
        "--initialise", "none", "--refine", "none", "--cold-start", "--json", *more,
    ]  # fmt: skip
    process = subprocess.Popen(
        asked, cwd=ROOT, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == f"Listening at 127.0.0.1:{port}.\n"
        yield port, process
    finally:
        process.kill()
        process.communicate()


def live_image(pair: PhantomPair) -> Any:
    voxels = np.ascontiguousarray(pair.fixed.data.T, np.float32)
    return image(voxels, pair.fixed.grid.affine, timestamp=1_795_000_000.5)


def registered(files: dict[str, Path], folder: Path) -> Path:
    """The folder that `warpline register` writes for the same pair and options."""
    options = RegisterOptions(initialise="none", refine="none")
    register_files(files, options, folder, ModelFolder(provider="cpu"))
    return folder


def test_pyigtl_gets_what_warpline_register_gives(live, pair, files, tmp_path):
    with command(files, live, "--answers", "1") as (port, process), their_client(port) as client:
        client.send_message(live_image(pair))
        got = {
            name: received(client, f"Warpline{name}")
            for name in ("Grid", "Labels", "Image", "Points")
        }
        transform = received(client, "ReferenceToImage")
        out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert json.loads(out)["answers"] == 1

    folder = registered(files, tmp_path)
    field = read_field(folder / "ddf.nii.gz", Limits())
    for message in (got["Grid"], got["Labels"], got["Image"]):
        assert_allclose(message.ijk_to_world_matrix, field.grid.affine, atol=1e-4)
    ours_mm = got["Grid"].image.transpose(2, 1, 0, 3)
    assert_allclose(ours_mm, field.vectors_mm, atol=0.01 * field.grid.spacing_mm.min())
    labels = read_volume(folder / "warped_labels.nii.gz", Limits()).data
    assert (labels == got["Labels"].image.T).all()
    warped = read_volume(folder / "warped.nii.gz", Limits()).data
    assert_allclose(got["Image"].image.T, warped, atol=1e-2 * np.ptp(warped))
    affine = np.loadtxt(folder / "affine.txt")
    assert_allclose(transform.matrix, np.linalg.inv(affine), atol=1e-4)
    # A point of the reference is where the field, which goes the other way, brings it back.
    there = np.array(got["Points"].positions)
    wanted = read_points(files["moving_points"]).positions_mm
    assert_allclose(field.move(there), wanted, atol=0.2)  # mm


@pytest.mark.slow
def test_a_service_that_is_killed_is_found_again(live, pair, files):
    with command(files, live) as (port, _), their_client(port) as client:
        client.send_message(live_image(pair))
        before = received(client, "WarplineGrid").image
        live.stop(signal.SIGKILL)
        live.start()
        client.send_message(live_image(pair))
        assert (received(client, "WarplineGrid").image == before).all()
