"""What is wrong is refused by its name; what can go on goes on."""

import struct

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2, status_pb2

from service.pb import warpline_pb2 as pb
from tests.live_client import LiveClient, chunks, frame, header
from tests.live_fakes import (
    AFFINE,
    BREAK_AT,
    FAIL_AT,
    SHAPE,
    FakeEngines,
    answered,
    image,
    ready,
    run,
    serving,
    target,
    wish,
)


def reason(error: grpc.aio.AioRpcError) -> tuple[str, str]:
    """Status code and ErrorInfo.reason, read as any client would."""
    for key, value in error.trailing_metadata():
        if key == "grpc-status-details-bin":
            for packed in status_pb2.Status.FromString(value).details:
                info = error_details_pb2.ErrorInfo()
                if packed.Unpack(info):
                    return error.code().name, info.reason
    return error.code().name, ""


SHEARED = AFFINE.copy()
SHEARED[0, 1] = 0.5
ELSEWHERE = AFFINE.copy()
ELSEWHERE[0, 3] = 9
IMAGE = header(image(1), AFFINE)
FLOAT16 = header(np.zeros(SHAPE, np.float16), AFFINE)
BAD_OPENINGS = {
    "no role": ({"role": 0}, "validation-failed"),
    "no frame": ({"frame": None}, "validation-failed"),
    "no reference": ({"reference": None}, "validation-failed"),
    "two axes": ({"frame": pb.ArrayHeader(grid=pb.Grid(shape=(3, 3)), voxel_type=2)}, None),
    "no affine": (
        {"frame": pb.ArrayHeader(grid=pb.Grid(shape=(3, 3, 3)), voxel_type=2)},
        "bad-affine",
    ),
    "sheared": ({"reference": header(image(1), SHEARED)}, "sheared-affine"),
    "singular": ({"reference": header(image(1), np.zeros((4, 4)))}, "bad-spacing"),
    "not finite": ({"reference": header(image(1), AFFINE * np.nan)}, "bad-affine"),
    "float16": ({"frame": FLOAT16}, "unsupported-datatype"),
    "too large": (
        {
            "frame": pb.ArrayHeader(
                grid=pb.Grid(shape=(1000, 1000, 1000), affine=AFFINE[:3].ravel()), voxel_type=2
            )
        },
        "volume-too-large",
    ),
    "far too large": (
        {
            "frame": pb.ArrayHeader(
                grid=pb.Grid(shape=(2**32 - 1,) * 3, affine=AFFINE[:3].ravel()), voxel_type=2
            )
        },
        "volume-too-large",
    ),
    "labels elsewhere": ({"labels": header(image(1), ELSEWHERE)}, "grid-mismatch"),
    "labels of floats": (
        {"labels": header(np.zeros(SHAPE, np.float32), AFFINE)},
        "unsupported-datatype",
    ),
    "labels that are not sent": (
        {"outputs": pb.LiveOutputs(warped_labels=True)},
        "invalid-request",
    ),
    "points that are not sent": ({"outputs": pb.LiveOutputs(points=True)}, "invalid-request"),
    "too many points": ({"points": [pb.Point()] * 11}, "validation-failed"),
    "points that are not finite": ({"points": [pb.Point(x=float("nan"))]}, "bad-points"),
    "a transform of 3 values": ({"initial_transform": [1, 2, 3]}, "bad-affine"),
    "a singular transform": ({"initial_transform": [0.0] * 12}, "bad-transform"),
    "options": ({"options": pb.RegisterOptions(refine="most")}, "validation-failed"),
    "no such model": ({"options": pb.RegisterOptions(model="none-such")}, "model-not-found"),
    "no such session": ({"session_id": "x"}, "session-not-found"),
}


@pytest.mark.parametrize("name", BAD_OPENINGS)
def test_a_wish_that_cannot_be_is_refused_before_anything_is_sent(name):
    changes, code = BAD_OPENINGS[name]

    async def test():
        limits = {"live_max_points": 10}
        async with serving(FakeEngines(), **limits) as server, LiveClient(target(server)) as client:
            await client.send(pb.LiveRequest(open=pb.Open(**wish(**changes))))
            closed = (await client.read()).closed
            status, found = reason(await client.ended())
            assert found == closed.problem.code == (code or "validation-failed")
            assert status != "OK"
            assert not closed.is_kept
            assert server.sessions.all() == []

    run(test())


def chunk_of(number: int, **changes: object) -> pb.LiveRequest:
    """The only chunk of a frame, changed."""
    (request,) = chunks(image(2), pb.VOXEL_TARGET_FRAME, number)
    for name, value in changes.items():
        setattr(request.chunk, name, value)
    return request


def start(number: int, **more: object) -> pb.LiveRequest:
    return pb.LiveRequest(frame=pb.FrameStart(number=number, **more))


def of_floats(value: float) -> bytes:
    array = image(2).astype(np.float32)
    array[3, 4, 5] = value
    return array.tobytes()


COARSER = np.diag([4.0, 1.5, 3.0, 1.0])[:3].ravel().tolist()
TWICE = [*frame(2, image(2)), *chunks(image(3), pb.VOXEL_TARGET_FRAME, 2)]
BAD_FRAMES = {
    "a wrong checksum": ([start(2), chunk_of(2, crc32=1)], "checksum-mismatch"),
    "a gap": ([start(2), chunk_of(2, offset=4)], "chunk-out-of-order"),
    "a tiny chunk": ([start(2), *list(chunks(image(2), 4, 2, size=1000))[:1]], "chunk-size"),
    "an empty chunk": ([start(2), chunk_of(2, data=b"", crc32=0)], "chunk-size"),
    "an old number": ([start(1), chunk_of(1)], "frame-out-of-order"),
    "number 0": ([start(0)], "frame-out-of-order"),
    "another spacing": ([start(2, affine=COARSER), chunk_of(2)], "frame-mismatch"),
    "a short affine": ([start(2, affine=[1, 2])], "bad-affine"),
    "one value everywhere": ([*frame(2, np.full(SHAPE, 7, np.int16))], "no-contrast"),
    "another type of as many bytes": (
        [start(2, voxel_type=pb.VOXEL_TYPE_UINT16), chunk_of(2)],
        "frame-mismatch",
    ),
    "a larger type": (
        [
            start(2, voxel_type=pb.VOXEL_TYPE_FLOAT32),
            *chunks(image(2).astype(np.float32), pb.VOXEL_TARGET_FRAME, 2),
        ],
        "frame-mismatch",
    ),
    "a type that is none": ([start(2, voxel_type=99), chunk_of(2)], "frame-mismatch"),
    "axes in another order": ([start(2, shape=SHAPE[::-1]), chunk_of(2)], "frame-mismatch"),
    "a larger shape": (
        [
            start(2, shape=(64, 48, 25)),
            *chunks(image(2, (64, 48, 25)), pb.VOXEL_TARGET_FRAME, 2),
        ],
        "frame-mismatch",
    ),
    "no shape": ([start(2, shape=(1,)), chunk_of(2)], "frame-mismatch"),
    "what the tracker refuses": ([*frame(2, image(FAIL_AT))], "model-not-found"),
    "a defect": ([*frame(2, image(BREAK_AT))], "internal"),
    "more bytes than it has": (
        [start(2), *list(frame(2, image(2, (64, 48, 25))))[1:]],
        "frame-mismatch",
    ),
}


@pytest.mark.parametrize("name", BAD_FRAMES)
def test_a_bad_frame_is_refused_and_the_session_goes_on(name):
    messages, code = BAD_FRAMES[name]

    async def test():
        async with serving(FakeEngines()) as server, LiveClient(target(server)) as client:
            await ready(client)
            await answered(client, 1)
            await client.send(*messages)
            refused = (await client.expect("refused", "answer")).refused
            assert (refused.problem.code, refused.number) == (code, messages[0].frame.number)
            assert refused.problem.detail
            await answered(client, 3)
            credit = 4 + sum(m.credit.count for m in client.seen)
            assert credit - 3 >= 4, "a refused frame gives its credit back"

    run(test())


def test_a_frame_may_say_what_was_announced():
    async def test():
        async with serving(FakeEngines()) as server, LiveClient(target(server)) as client:
            await ready(client)
            told = {"voxel_type": pb.VOXEL_TYPE_INT16, "shape": SHAPE}
            await client.send(*frame(1, image(1), **told))
            assert (await client.expect("answer", "refused")).answer.number == 1

    run(test())


def test_a_refused_frame_that_does_not_end_is_a_flood():
    async def test():
        async with serving(FakeEngines()) as server, LiveClient(target(server)) as client:
            await ready(client)
            endless = chunk_of(2)
            await client.send(start(2, shape=(4000, 4000, 4000)), *[endless] * 17)
            status, found = reason(await client.ended())
            assert (status, found) == ("RESOURCE_EXHAUSTED", "credit-exceeded")

    run(test())


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_finite_are_refused_as_they_arrive(value):
    async def test():
        async with serving(FakeEngines()) as server, LiveClient(target(server)) as client:
            floats = image(1).astype(np.float32)
            await ready(client, frame=header(floats, AFFINE))
            bad = np.frombuffer(of_floats(value), np.float32).reshape(SHAPE)
            await client.send(*frame(1, bad))
            assert (await client.expect("refused")).refused.problem.code == "non-finite-voxels"

    run(test())


def test_a_frame_that_another_one_cuts_off_is_refused_and_the_other_is_taken():
    async def test():
        async with serving(FakeEngines()) as server, LiveClient(target(server)) as client:
            await ready(client)
            await client.send(start(1))
            await answered(client, 2)
            refused = [m.refused for m in client.seen if m.HasField("refused")]
            assert [(r.number, r.problem.code) for r in refused] == [(1, "frame-incomplete")]

    run(test())


def test_a_frame_that_seemed_whole_and_is_larger_is_refused_and_never_answered():
    async def test():
        engines = FakeEngines()
        async with serving(engines) as server, LiveClient(target(server)) as client:
            await ready(client)
            engines.gate.clear()
            await client.send(*TWICE)
            refused = (await client.expect("refused", "answer")).refused
            assert refused.problem.code == "frame-mismatch"
            engines.gate.set()
            await answered(client, 3)

    run(test())


def test_a_frame_that_is_sent_twice_is_answered_once():
    async def test():
        engines = FakeEngines()
        async with serving(engines) as server, LiveClient(target(server)) as client:
            await ready(client)
            engines.gate.clear()
            await client.send(*frame(2, image(2)), *frame(2, image(2)))
            refused = (await client.expect("refused", "answer")).refused
            assert refused.problem.code == "frame-out-of-order"
            engines.gate.set()
            assert (await client.answer())[0].number == 2
            await answered(client, 3)

    run(test())


BAD_ORDER = {
    "a chunk first": ([chunk_of(1)], "live-protocol"),
    "a frame first": ([start(1)], "live-protocol"),
    "close first": ([pb.LiveRequest(close=pb.Close())], "live-protocol"),
    "open twice": ([pb.LiveRequest(open=pb.Open(**wish()))] * 2, "live-protocol"),
    "a frame before the reference": (
        [pb.LiveRequest(open=pb.Open(**wish())), start(1)],
        "live-protocol",
    ),
    "labels before the reference": (
        [
            pb.LiveRequest(open=pb.Open(**wish(labels=IMAGE))),
            *chunks(image(1), pb.VOXEL_TARGET_LABELS),
        ],
        "chunk-out-of-order",
    ),
    "a reference of one value": (
        [
            pb.LiveRequest(open=pb.Open(**wish())),
            *chunks(np.full(SHAPE, 3, np.int16), pb.VOXEL_TARGET_REFERENCE),
        ],
        "no-contrast",
    ),
    "a mask of nothing": (
        [
            pb.LiveRequest(open=pb.Open(**wish(mask=IMAGE))),
            *chunks(image(1), pb.VOXEL_TARGET_REFERENCE),
            *chunks(np.zeros(SHAPE, np.int16), pb.VOXEL_TARGET_MASK),
        ],
        "bad-labels",
    ),
}


@pytest.mark.parametrize("name", BAD_ORDER)
def test_what_breaks_the_protocol_ends_the_call(name):
    messages, code = BAD_ORDER[name]

    async def test():
        async with serving(FakeEngines()) as server, LiveClient(target(server)) as client:
            await client.send(*messages)
            closed = (await client.expect("closed")).closed
            assert closed.problem.code == code
            assert reason(await client.ended())[1] == code
            # A broken upload can be mended by sending on from what arrived; the others cannot.
            assert closed.is_kept == (code == "chunk-out-of-order")
            assert len(server.sessions.all()) == closed.is_kept

    run(test())


@pytest.mark.parametrize("late", [chunk_of(7), *chunks(image(2), pb.VOXEL_TARGET_REFERENCE)])
def test_voxels_of_nothing_that_has_begun_end_the_session(late):
    async def test():
        async with serving(FakeEngines()) as server, LiveClient(target(server)) as client:
            await ready(client)
            await client.send(late)
            assert reason(await client.ended()) == ("FAILED_PRECONDITION", "live-protocol")
            assert server.sessions.all() == []

    run(test())


def test_more_frames_than_were_granted_end_the_session():
    async def test():
        engines = FakeEngines()
        async with (
            serving(engines, live_waiting_frames=2) as server,
            LiveClient(target(server)) as client,
        ):
            assert (await ready(client)).credit == 2
            engines.gate.clear()
            for number in range(1, 5):
                await client.send(*frame(number, image(number)))
            assert reason(await client.ended()) == ("RESOURCE_EXHAUSTED", "credit-exceeded")
            assert server.sessions.all() == []

    run(test())


def test_bytes_without_end_for_a_refused_frame_end_the_session():
    async def test():
        async with serving(FakeEngines()) as server, LiveClient(target(server)) as client:
            await ready(client)
            await client.send(start(1), *[chunk_of(1, crc32=9)] * 3)
            assert reason(await client.ended()) == ("RESOURCE_EXHAUSTED", "credit-exceeded")

    run(test())


async def read_all(call: grpc.aio.StreamStreamCall) -> None:
    while await call.read() is not grpc.aio.EOF:
        pass


def test_a_message_that_is_none_of_ours_is_told_so():
    async def test():
        async with serving(FakeEngines()) as server:
            channel = grpc.aio.insecure_channel(target(server))
            call = channel.stream_stream("/warpline.v1.LiveService/Live")()
            await call.write(struct.pack("<I", 0xFFFFFFFF))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await read_all(call)
            assert reason(caught.value) == ("INVALID_ARGUMENT", "validation-failed")
            await channel.close()

    run(test())


def test_a_budget_that_this_machine_cannot_keep_is_refused_when_the_session_opens():
    async def test():
        engines = FakeEngines(p95_s=0.25)
        async with serving(engines) as server, LiveClient(target(server)) as client:
            await client.open(**wish(budget_ms=200))
            await client.send(*chunks(image(1), pb.VOXEL_TARGET_REFERENCE))
            closed = (await client.expect("closed", "ready")).closed
            assert closed.problem.code == "budget-too-short"
            assert "250 ms" in closed.problem.detail
            assert "refine `none`" in closed.problem.detail
            error = await client.ended()
            assert reason(error) == ("FAILED_PRECONDITION", "budget-too-short")
            assert server.sessions.all() == []

    run(test())
