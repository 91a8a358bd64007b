"""Large files in chunks; a broken transfer goes on from the last acknowledged byte.

An upload is the same over REST: begun with one it can be gone on with over the other.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from starlette.concurrency import run_in_threadpool

from service.errors import ValidationError
from service.gateway.desk import Desk
from service.gateway.parts import Parts
from service.gateway.rpc.answering import answers
from service.gateway.rpc.clerk import Clerk, uuid_of
from service.gateway.rpc.filing import Filing, received_message
from service.gateway.rpc.messages import timestamp
from service.gateway.rpc.patience import Patience
from service.pb import warpline_pb2 as pb
from service.rpc.calls import caller

Requests = AsyncIterator[pb.UploadRequest]
Told = Callable[[pb.UploadResponse | Exception], None]


class Uploads(Clerk):
    """The part of the servicer that takes files."""

    async def Upload(
        self,
        requests: Requests,
        context: Any,
    ) -> AsyncIterator[pb.UploadResponse]:
        """Take one file."""
        owner = caller()

        async def work(tell: Told) -> None:
            await receive(self.desk, owner, requests, tell)

        async with aclosing(answers(work)) as told:
            async for answer in told:
                yield answer

    async def GetUpload(
        self,
        request: pb.GetUploadRequest,
        context: Any,
    ) -> pb.GetUploadResponse:
        """How much of a file has arrived."""
        upload_id = uuid_of(request.upload_id, "upload_id")
        upload = await run_in_threadpool(self.desk.stores.uploads.upload, upload_id, caller())
        return pb.GetUploadResponse(
            upload_id=str(upload.id),
            size_bytes=upload.bytes,
            received=received_message(upload),
            expires_at=timestamp(upload.expires_at),
        )

    async def DeleteUpload(
        self,
        request: pb.DeleteUploadRequest,
        context: Any,
    ) -> pb.DeleteUploadResponse:
        """Drop a file; jobs that were made with it keep it until they end."""
        upload_id = uuid_of(request.upload_id, "upload_id")
        stores, owner = self.desk.stores, caller()
        await run_in_threadpool(
            lambda: Parts(stores, stores.uploads.upload(upload_id, owner)).drop()
        )
        return pb.DeleteUploadResponse()


async def receive(desk: Desk, owner: str, requests: Requests, tell: Told) -> None:
    """Take one file of an Upload call, as far as it comes.

    Raises:
        WarplineError: Why no more of it is taken; what was acknowledged is kept.
    """

    def told(part: pb.FileOpened | pb.FileReceived | Exception) -> None:
        if isinstance(part, pb.FileOpened):
            tell(pb.UploadResponse(opened=part))
        elif isinstance(part, pb.FileReceived):
            tell(pb.UploadResponse(received=part))
        else:
            tell(part)

    patience = Patience(requests, desk.settings.body_idle_timeout_s)
    with desk.spool.folder() as folder:
        filing = Filing(desk, owner, folder, told)
        first = await patience.next()
        if first is None or first.WhichOneof("part") != "start":
            raise ValidationError("FileStart comes first.", field="start")
        await filing.start(first.start)
        try:
            while filing.is_open and (request := await patience.next()) is not None:
                if request.WhichOneof("part") != "chunk":
                    raise ValidationError(
                        "Chunks follow FileStart, and nothing else.", field="part"
                    )
                patience.count(await filing.take(request.chunk))
        finally:
            await filing.keep()
