"""A client of live sessions for tests, written from the proto alone: generated code and grpcio."""

import asyncio
import zlib
from collections.abc import Iterator
from typing import Any

import grpc
import numpy as np

from service.pb import warpline_pb2 as pb
from service.pb import warpline_pb2_grpc as pb_grpc

CHUNK_BYTES = 1 << 20
PATIENCE_S = 300.0  # of a busy machine that prepares a session
TYPES = {
    "uint8": pb.VOXEL_TYPE_UINT8,
    "int16": pb.VOXEL_TYPE_INT16,
    "uint16": pb.VOXEL_TYPE_UINT16,
    "int32": pb.VOXEL_TYPE_INT32,
    "float32": pb.VOXEL_TYPE_FLOAT32,
    "float16": pb.VOXEL_TYPE_FLOAT16,
}


def header(array: np.ndarray, affine: np.ndarray) -> pb.ArrayHeader:
    grid = pb.Grid(shape=array.shape[:3], affine=np.asarray(affine)[:3].ravel().tolist())
    return pb.ArrayHeader(grid=grid, voxel_type=TYPES[array.dtype.name])


def chunks(
    array: np.ndarray, target: Any, frame: int = 0, size: int = CHUNK_BYTES
) -> Iterator[pb.LiveRequest]:
    data = np.ascontiguousarray(array).tobytes()
    for at in range(0, len(data), size):
        part = data[at : at + size]
        yield pb.LiveRequest(
            chunk=pb.VoxelChunk(
                target=target, frame=frame, offset=at, data=part, crc32=zlib.crc32(part)
            )
        )


def frame(number: int, array: np.ndarray, **start: Any) -> Iterator[pb.LiveRequest]:
    """A frame from its start to its last chunk."""
    yield pb.LiveRequest(frame=pb.FrameStart(number=number, **start))
    yield from chunks(array, pb.VOXEL_TARGET_FRAME, number)


class LiveClient:
    """One connection. What comes is looked at in order with `expect`."""

    def __init__(self, target: str, key: str = "") -> None:
        self._channel = grpc.aio.insecure_channel(target)
        metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self.call = pb_grpc.LiveServiceStub(self._channel).Live(metadata=metadata)
        self.seen: list[pb.LiveResponse] = []

    async def send(self, *messages: pb.LiveRequest) -> None:
        for message in messages:
            await self.call.write(message)

    async def open(self, **what: Any) -> pb.Opened:
        await self.send(pb.LiveRequest(open=pb.Open(**what)))
        return (await self.expect("opened")).opened

    async def read(self) -> pb.LiveResponse:
        """The next message.

        Raises:
            grpc.aio.AioRpcError: If the call has ended with an error.
            EOFError: If it has ended well.
        """
        async with asyncio.timeout(PATIENCE_S):
            message = await self.call.read()
        if message is grpc.aio.EOF:
            raise EOFError
        self.seen.append(message)
        return message

    async def expect(self, *kinds: str) -> pb.LiveResponse:
        """The next message of one of these kinds; others are passed over, but kept in `seen`."""
        while True:
            message = await self.read()
            if message.WhichOneof("part") in kinds:
                return message

    async def answer(self) -> tuple[pb.FrameAnswer, dict[int, np.ndarray]]:
        """The next answer with its arrays by target, checksums checked."""
        head = (await self.expect("answer")).answer
        arrays = {}
        for announced in head.arrays:
            arrays[announced.target] = await self._array(announced, head.number)
        return head, arrays

    async def _array(self, announced: pb.AnswerArray, number: int) -> np.ndarray:
        name = next(n for n, t in TYPES.items() if t == announced.header.voxel_type)
        shape = list(announced.header.grid.shape)
        if announced.target == pb.VOXEL_TARGET_FIELD:
            shape.append(3)
        array = np.empty(shape, name)
        room, received = array.reshape(-1).view(np.uint8), 0
        while received < room.size:
            chunk = (await self.expect("chunk")).chunk
            assert (chunk.target, chunk.frame) == (announced.target, number)
            assert chunk.offset == received
            assert zlib.crc32(chunk.data) == chunk.crc32
            room[received : received + len(chunk.data)] = np.frombuffer(chunk.data, np.uint8)
            received += len(chunk.data)
        return array

    async def ended(self) -> grpc.aio.AioRpcError:
        """The error that the call ends with."""
        try:
            while True:
                await self.read()
        except grpc.aio.AioRpcError as error:
            return error

    async def close(self) -> None:
        self.call.cancel()
        await self._channel.close()

    async def __aenter__(self) -> "LiveClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
