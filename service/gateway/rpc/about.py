"""The service about itself: what it accepts."""

from typing import Any

from service.gateway.rest.service import limits_of
from service.gateway.rpc.clerk import Clerk
from service.pb import warpline_pb2 as pb

MAX_CHUNK_BYTES = 2**20


class About(Clerk):
    """The method about limits."""

    async def GetLimits(self, request: pb.GetLimitsRequest, context: Any) -> pb.GetLimitsResponse:
        """Sizes, rates and times, so that a client can check before it sends."""
        settings = self.desk.settings
        return pb.GetLimitsResponse(
            limits_json=limits_of(settings).model_dump_json(),
            max_chunk_bytes=MAX_CHUNK_BYTES,
            has_live=settings.live_address is not None,
        )
