"""Result files, or ranges of them, in chunks that the caller's pace draws from the store."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from starlette.concurrency import run_in_threadpool

from service.errors import RangeNotSatisfiableError
from service.gateway.desk import Desk
from service.gateway.handing_out import result_of
from service.gateway.recording import handed_out
from service.gateway.rpc.chunks import outgoing
from service.gateway.rpc.clerk import Clerk, uuid_of
from service.gateway.rpc.messages import result_messages
from service.jobs.job import ResultFile
from service.pb import warpline_pb2 as pb
from service.rpc.calls import caller


class Downloads(Clerk):
    """The part of the servicer that gives result files."""

    async def DownloadResult(
        self, request: pb.DownloadResultRequest, context: Any
    ) -> AsyncIterator[pb.DownloadResultResponse]:
        """A file's facts, then its bytes."""
        told, file = await run_in_threadpool(_found, self.desk, request, caller())
        start, end = _range_of(request, file.bytes)
        yield pb.DownloadResultResponse(file=told)
        async with aclosing(chunks_of(self.desk, request.name, file, start, end)) as chunks:
            async for chunk in chunks:
                yield pb.DownloadResultResponse(chunk=chunk)


def _found(
    desk: Desk, request: pb.DownloadResultRequest, owner: str
) -> tuple[pb.ResultFile, ResultFile]:
    job = desk.stores.jobs.job(uuid_of(request.job_id, "job_id"), owner)
    file = result_of(job, request.name)
    handed_out(desk, owner, "read", job.id, [request.name])
    told = next(one for one in result_messages(desk, job) if one.name == request.name)
    return told, file


def _range_of(request: pb.DownloadResultRequest, size: int) -> tuple[int, int]:
    """Which bytes are wanted; a range that goes on after the end ends there.

    Raises:
        RangeNotSatisfiableError: If it begins after the end.
    """
    if request.offset > size:
        raise RangeNotSatisfiableError(
            f"The file has {size} bytes; none begin at {request.offset}.", field="offset"
        )
    end = request.offset + request.length if request.HasField("length") else size
    return request.offset, min(end, size)


async def chunks_of(
    desk: Desk, name: str, file: ResultFile, start: int, end: int
) -> AsyncGenerator[pb.ResultChunk, None]:
    """Bytes [start, end) of a result; each chunk is read when the one before is on its way.

    Raises:
        ResultNotFoundError: If the job was deleted meanwhile.
    """
    if start >= end:
        return
    source = desk.stores.blobs.stream(file.key, start, end)
    while (data := await run_in_threadpool(next, source, None)) is not None:
        for chunk in outgoing(name, start, data):
            yield chunk
        start += len(data)
