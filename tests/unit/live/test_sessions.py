"""Opening, answering, closing: what comes back is what was asked for."""

import numpy as np
import pytest

from service.pb import warpline_pb2 as pb
from tests.live_client import LiveClient, chunks, frame, header
from tests.live_fakes import AFFINE, FakeEngines, answered, image, ready, run, serving, target, wish


def test_frames_are_answered_in_order_with_their_own_voxels():
    async def test():
        engines = FakeEngines()
        async with serving(engines) as server, LiveClient(target(server)) as client:
            await ready(client, reference=7)
            heads = [await answered(client, number) for number in (1, 2, 5)]
            assert engines.steps == [(7, 1), (7, 2), (7, 5)]
            assert heads[0].affine[3] == 7
            assert [stage.name for stage in heads[0].stages] == [
                "transfer",
                "wait",
                "predict",
                "warp",
                "encode",
            ]
            await client.send(pb.LiveRequest(close=pb.Close()))
            with pytest.raises(EOFError):
                await client.read()
            assert server.sessions.all() == []

    run(test())


def test_an_answer_brings_all_that_it_knows():
    async def test():
        async with serving(FakeEngines()) as server, LiveClient(target(server)) as client:
            labels = (image(3) > 250).astype(np.uint8)
            opened = await client.open(
                **wish(
                    role=pb.REFERENCE_ROLE_MOVING,
                    labels=header(labels, AFFINE),
                    mask=header(labels, AFFINE),
                    points=[pb.Point(x=1, y=2, z=3)],
                    outputs=pb.LiveOutputs(
                        field=pb.FIELD_OUTPUT_FULL,
                        warped_image=True,
                        warped_labels=True,
                        points=True,
                    ),
                )
            )
            assert opened.session_id
            assert (opened.is_resumed, opened.received_bytes, opened.last_frame) == (False, 0, 0)
            assert opened.idle_timeout.ToSeconds() == 20
            assert opened.time_to_live.ToSeconds() == 120
            await client.send(*chunks(image(1), pb.VOXEL_TARGET_REFERENCE))
            await client.send(*chunks(labels, pb.VOXEL_TARGET_LABELS))
            await client.send(*chunks(labels, pb.VOXEL_TARGET_MASK))
            told = (await client.expect("ready")).ready
            assert (told.expected_p50_ms, told.expected_p95_ms) == (10, 20)
            await client.send(*frame(4, image(9), acquired_at={"seconds": 1234, "nanos": 5}))
            head, arrays = await client.answer()
            assert (head.acquired_at.seconds, head.acquired_at.nanos) == (1234, 5)
            assert (head.verdict, list(head.reasons)) == (pb.VERDICT_WARN, ["as a test"])
            assert (head.motion.shift_mm.y, head.motion.rotation_deg) == (2, 4)
            assert (head.motion.median_mm, head.motion.max_mm) == (5, 6)
            assert (head.similarity_before, head.similarity_after) == (0.25, 0.75)
            assert [(point.x, point.y, point.z) for point in head.points] == [(1, 2, 3)]
            assert list(arrays) == [
                pb.VOXEL_TARGET_FIELD,
                pb.VOXEL_TARGET_WARPED_IMAGE,
                pb.VOXEL_TARGET_WARPED_LABELS,
            ]
            assert (arrays[pb.VOXEL_TARGET_FIELD] == 0.5).all()
            np.testing.assert_array_equal(arrays[pb.VOXEL_TARGET_WARPED_LABELS], labels)
            assert not head.is_cut_short

    run(test())


@pytest.mark.parametrize("shape", [(129, 65, 67), (64, 64, 64), (3, 2, 1)])
def test_volumes_of_any_size_arrive_whole(shape):
    async def test():
        async with serving(FakeEngines()) as server, LiveClient(target(server)) as client:
            sent = image(5, shape)
            await client.open(**wish(reference=header(sent, AFFINE), frame=header(sent, AFFINE)))
            # Odd sizes, so that voxels are cut in two.
            await client.send(*chunks(sent, pb.VOXEL_TARGET_REFERENCE, size=262_145))
            await client.expect("ready")
            await client.send(pb.LiveRequest(frame=pb.FrameStart(number=1)))
            await client.send(*chunks(sent, pb.VOXEL_TARGET_FRAME, 1, size=300_001))
            _, arrays = await client.answer()
            np.testing.assert_array_equal(arrays[pb.VOXEL_TARGET_WARPED_IMAGE], sent)

    run(test())


def test_the_budget_counts_from_a_frames_last_byte():
    async def test():
        engines = FakeEngines()
        async with serving(engines) as server, LiveClient(target(server)) as client:
            await ready(client, budget_ms=30_000)
            await answered(client, 1)
            assert engines.budgets[0] is not None
            assert 0 < engines.budgets[0] < 30

    run(test())


def test_a_client_that_says_that_nothing_more_comes_gets_its_answers_first():
    async def test():
        async with serving(FakeEngines()) as server, LiveClient(target(server)) as client:
            await client.open(**wish())
            await client.send(*chunks(image(1), pb.VOXEL_TARGET_REFERENCE))
            await client.send(*frame(1, image(11)), *frame(2, image(12)))
            await client.call.done_writing()
            assert (await client.answer())[0].number == 1
            assert (await client.answer())[0].number == 2
            with pytest.raises(EOFError):
                await client.read()
            assert [session.state for session in server.sessions.all()] == ["ready"]

    run(test())


def test_frames_may_move_and_turn():
    async def test():
        engines = FakeEngines()
        async with serving(engines) as server, LiveClient(target(server)) as client:
            await ready(client)
            turned = np.eye(4)
            turned[:3, :3] = [[0, -1.5, 0], [2.0, 0, 0], [0, 0, 3.0]]
            turned[:3, 3] = (5, -7, 11)
            await client.send(*frame(1, image(2), affine=turned[:3].ravel().tolist()))
            head, _ = await client.answer()
            grid = head.arrays[0].header.grid
            np.testing.assert_allclose(np.reshape(grid.affine, (3, 4)), turned[:3])

    run(test())
