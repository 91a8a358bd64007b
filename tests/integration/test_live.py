"""The real live process with the real engine, on a small phantom, seen by a client of the proto."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import nibabel as nib
import numpy as np
import pytest

from service.pb import warpline_pb2 as pb
from service.registration.fields import DisplacementField
from service.registration.files.field_file import read_field
from service.registration.files.limits import Limits
from service.registration.files.volume_file import read_volume, write_volume
from service.registration.grid import Grid
from service.registration.models_folder import ModelFolder
from service.registration.options import RegisterOptions
from service.registration.pipeline import register_files
from service.registration.volume import Volume
from tests.live_client import LiveClient, chunks, frame, header
from tests.phantoms import PhantomPair, phantom_pair
from tests.servers import free_port

ROOT = Path(__file__).parents[2]
GRID = Grid((40, 36, 32), np.diag([3.0, 3.0, 3.5, 1.0]))
STARTS_WITHIN_S = 300
STOPS_WITHIN_S = 120
IDLE_STREAMS = 100


@dataclass
class LiveProcess:
    """`python -m service.live.main`, which can be killed and started again on the same ports."""

    folder: Path
    port: int = field(default_factory=free_port)
    http_port: int = field(default_factory=free_port)
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        chosen = {
            "WARPLINE_DATA_DIR": str(self.folder),
            "WARPLINE_LIVE_PORT": str(self.port),
            "WARPLINE_LIVE_HTTP_PORT": str(self.http_port),
            "WARPLINE_LIVE_MAX_SESSIONS": "200",
            "WARPLINE_LIVE_SESSIONS_PER_KEY": "200",
            "WARPLINE_LIVE_IDLE_TIMEOUT_S": "600",  # clients here send no heartbeats
            "WARPLINE_PROVIDER": "cpu",
        }
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service.live.main"],
                cwd=ROOT,
                env=os.environ | chosen,
                stderr=log,
            )
        self._wait()

    def _wait(self) -> None:
        until = time.monotonic() + STARTS_WITHIN_S
        while not self.is_ready():
            assert self.process is not None
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < until, "the live process does not become ready"
            time.sleep(0.05)

    def is_ready(self) -> bool:
        url = f"http://127.0.0.1:{self.http_port}/readyz"
        try:
            with urllib.request.urlopen(url, timeout=5) as reply:
                return reply.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def stop(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(STOPS_WITHIN_S)


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
    return phantom_pair(GRID, GRID, most_mm=6.0)


async def ready(client: LiveClient, pair: PhantomPair, **more: Any) -> pb.Opened:
    """A session whose reference is the phantom's moving image."""
    reference, labels = pair.moving.data, pair.moving_labels.data
    wish = {
        "role": pb.REFERENCE_ROLE_MOVING,
        "reference": header(reference, GRID.affine),
        "labels": header(labels, GRID.affine),
        "frame": header(pair.fixed.data, GRID.affine),
        "outputs": pb.LiveOutputs(field=pb.FIELD_OUTPUT_FULL, warped_labels=True),
        "options": pb.RegisterOptions(initialise="none", refine="none"),
        "policy": pb.FRAME_POLICY_EVERY,
    }
    opened = await client.open(**wish | more)
    await client.send(*chunks(reference, pb.VOXEL_TARGET_REFERENCE))
    await client.send(*chunks(labels, pb.VOXEL_TARGET_LABELS))
    await client.expect("ready")
    return opened


async def answers(client: LiveClient, pair: PhantomPair, numbers: range) -> list[Any]:
    """Send the phantom's fixed image as these frames, one after the other."""
    found = []
    for number in numbers:
        await client.send(*frame(number, pair.fixed.data))
        found.append(await client.answer())
    return found


def registered(
    fixed: Volume, moving: Volume, options: RegisterOptions, folder: Path
) -> DisplacementField:
    """What `warpline register` gives for a pair."""
    files = {"fixed": folder / "fixed.nii.gz", "moving": folder / "moving.nii.gz"}
    write_volume(files["fixed"], fixed)
    write_volume(files["moving"], moving)
    register_files(files, options, folder / "out", ModelFolder(provider="cpu"))
    return read_field(folder / "out" / "ddf.nii.gz", Limits())


def test_the_field_that_comes_back_is_that_of_warpline_register(live, pair, tmp_path):
    async def test():
        async with LiveClient(live.target) as client:
            await ready(client, pair)
            ((head, arrays),) = await answers(client, pair, range(1, 2))
            ours = DisplacementField(arrays[pb.VOXEL_TARGET_FIELD], GRID)
            off_mm = np.linalg.norm(ours.vectors_mm - pair.truth.vectors_mm, axis=-1)
            still_mm = np.linalg.norm(pair.truth.vectors_mm, axis=-1)
            inside = pair.fixed_labels.data > 0
            assert off_mm[inside].mean() < 0.7 * still_mm[inside].mean()
            options = RegisterOptions(initialise="none", refine="none")
            theirs = registered(pair.fixed, pair.moving, options, tmp_path)
            apart_mm = np.abs(ours.vectors_mm - theirs.vectors_mm).max()
            assert apart_mm < 0.01 * GRID.spacing_mm.min()
            assert head.similarity_after > head.similarity_before
            warped = arrays[pb.VOXEL_TARGET_WARPED_LABELS]
            same = (warped == pair.fixed_labels.data).mean()
            assert same > (pair.moving_labels.data == pair.fixed_labels.data).mean()
            await client.send(pb.LiveRequest(close=pb.Close()))
            with pytest.raises(EOFError):
                await client.read()

    asyncio.run(test())


def beating_heart(shared_data: Path) -> tuple[list[np.ndarray], Grid]:
    series = nib.load(shared_data / "heart_tee_4d" / "greedy_img4d.nii.gz")
    voxels = np.ascontiguousarray(np.asarray(series.dataobj, np.float32))
    phases = [np.ascontiguousarray(voxels[..., phase]) for phase in (0, 3, 5)]
    return phases, Grid(phases[0].shape, series.affine)


def breathing_liver(shared_data: Path) -> tuple[list[np.ndarray], Grid]:
    """A part of the liver at end of exhale and in two states of inhaling."""
    folder, part = shared_data / "liver_4dmri_eth" / "dataset19", np.s_[20:140, 30:150, 0:25]
    names = ("exhMaster_unmasked", "cyc_1_6", "cyc_1_9")
    whole = [
        read_volume(folder / f"{name}.force_direction.mha", Limits(), "fixed") for name in names
    ]
    affine = whole[0].grid.affine.copy()
    affine[:3, 3] = whole[0].grid.to_world([index.start for index in part])
    phases = [np.ascontiguousarray(volume.data[part], np.float32) for volume in whole]
    return phases, Grid(phases[0].shape, affine)


@pytest.mark.real_data
@pytest.mark.parametrize("series", [beating_heart, breathing_liver])
def test_a_series_is_registered_frame_by_frame_as_by_warpline_register(
    series, live, shared_data, tmp_path
):
    phases, grid = series(shared_data)
    chosen = pb.RegisterOptions(initialise="moments", refine="none")

    async def test() -> list[Any]:
        async with LiveClient(live.target) as client:
            lies = header(phases[0], grid.affine)
            await client.open(
                role=pb.REFERENCE_ROLE_MOVING,
                reference=lies,
                frame=lies,
                options=chosen,
                outputs=pb.LiveOutputs(field=pb.FIELD_OUTPUT_FULL),
            )
            await client.send(*chunks(phases[0], pb.VOXEL_TARGET_REFERENCE))
            await client.expect("ready")
            found = []
            for number, phase in enumerate(phases[1:], 1):
                await client.send(*frame(number, phase))
                found.append((await client.answer())[1][pb.VOXEL_TARGET_FIELD])
            await client.send(pb.LiveRequest(close=pb.Close()))
            return found

    for number, (ours, phase) in enumerate(zip(asyncio.run(test()), phases[1:], strict=True)):
        (tmp_path / str(number)).mkdir()
        theirs = registered(
            Volume(phase, grid),
            Volume(phases[0], grid),
            RegisterOptions(initialise="moments", refine="none"),
            tmp_path / str(number),
        )
        apart_voxels = np.abs(ours - theirs.vectors_mm).max() / grid.spacing_mm.min()
        assert apart_voxels < 0.01


def test_heartbeats_come_back_before_the_frame_that_was_sent_before_them(live, pair):
    async def test():
        async with LiveClient(live.target) as client:
            await ready(client, pair, options=pb.RegisterOptions(refine="best"))
            # One in so many: a client that is held up sends its heartbeats when all is done.
            for number in range(1, 6):
                if await has_overtaken(client, number, pair.fixed.data):
                    break
            else:
                pytest.fail("heartbeats wait for frames")
            await client.send(pb.LiveRequest(close=pb.Close()))

    asyncio.run(test())


async def has_overtaken(client: LiveClient, number: int, voxels: np.ndarray) -> bool:
    """Whether three heartbeats, sent one by one after a frame, all come before its answer."""
    before = len(client.seen)
    await client.send(*frame(number, voxels))
    for nonce in range(3):
        await client.send(pb.LiveRequest(heartbeat=pb.Heartbeat(nonce=nonce)))
        await client.expect("heartbeat")
    if any(message.HasField("answer") for message in client.seen[before:]):
        return False
    await client.answer()
    return True


def test_a_hundred_idle_streams_change_nothing_for_another_one(live, pair):
    async def test():
        async with LiveClient(live.target) as client:
            await ready(client, pair)
            alone = await answers(client, pair, range(1, 3))
            idle = [LiveClient(live.target) for _ in range(IDLE_STREAMS)]
            for number, other in enumerate(idle):
                # Half of them have opened a session and sent nothing, half are only connected.
                if number % 2:
                    await other.open(
                        role=pb.REFERENCE_ROLE_FIXED,
                        reference=header(pair.fixed.data, GRID.affine),
                        frame=header(pair.fixed.data, GRID.affine),
                    )
                else:
                    await other.send(pb.LiveRequest(heartbeat=pb.Heartbeat(nonce=number)))
                    await other.expect("heartbeat")
            beside = await answers(client, pair, range(3, 6))
            assert [head.number for head, _ in beside] == [3, 4, 5]
            assert {head.dropped for head, _ in beside} == {0}
            for _, arrays in beside:
                np.testing.assert_array_equal(
                    arrays[pb.VOXEL_TARGET_FIELD], alone[0][1][pb.VOXEL_TARGET_FIELD]
                )
            for other in idle:
                await other.close()

    asyncio.run(test())


def test_a_kill_loses_the_session_and_the_client_opens_it_again(live, pair):
    async def test():
        async with LiveClient(live.target) as client:
            session_id = (await ready(client, pair)).session_id
            (before,) = await answers(client, pair, range(1, 2))
            live.stop(signal.SIGKILL)
            assert (await client.ended()).code() is grpc.StatusCode.UNAVAILABLE
        live.start()
        async with LiveClient(live.target) as client:
            await client.send(pb.LiveRequest(open=pb.Open(session_id=session_id)))
            assert (await client.read()).closed.problem.code == "session-not-found"
        async with LiveClient(live.target) as client:
            await ready(client, pair)
            (after,) = await answers(client, pair, range(2, 3))
            np.testing.assert_array_equal(
                after[1][pb.VOXEL_TARGET_FIELD], before[1][pb.VOXEL_TARGET_FIELD]
            )

    asyncio.run(test())


def test_a_break_of_the_connection_loses_nothing(live, pair):
    async def test():
        async with LiveClient(live.target) as client:
            session_id = (await ready(client, pair, warm_start=True)).session_id
            await answers(client, pair, range(1, 2))
            await client.send(*frame(2, pair.fixed.data))
            await client.send(pb.LiveRequest(heartbeat=pb.Heartbeat()))
            await client.expect("heartbeat")
        async with LiveClient(live.target) as client:
            opened = await client.open(session_id=session_id, last_answer=1)
            assert opened.is_resumed
            assert (await client.answer())[0].number == 2
            await answers(client, pair, range(3, 4))
            await client.send(pb.LiveRequest(close=pb.Close()))

    asyncio.run(test())


def test_sigterm_tells_the_sessions_and_ends_well(live, pair):
    async def test():
        async with LiveClient(live.target) as client:
            await ready(client, pair)
            assert live.process is not None
            live.process.send_signal(signal.SIGTERM)
            closed = (await client.expect("closed")).closed
            assert closed.problem.code == "live-stopping"
            assert (await client.ended()).code() is grpc.StatusCode.UNAVAILABLE
        assert live.process.wait(STOPS_WITHIN_S) == 0
        events = (live.folder / "audit.jsonl").read_text()
        assert '"reason":"live-stopping"' in events

    asyncio.run(test())
    live.start()
