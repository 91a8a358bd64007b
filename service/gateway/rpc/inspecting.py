"""What an uploaded file holds, before a job is made of it."""

from typing import Any

from starlette.concurrency import run_in_threadpool

from service.gateway.inspecting import InspectView, VolumeFacts, report_of
from service.gateway.rpc.clerk import Clerk, uuid_of
from service.pb import warpline_pb2 as pb
from service.rpc.calls import caller


class Inspecting(Clerk):
    """The part of the servicer that looks into files."""

    async def Inspect(self, request: pb.InspectRequest, context: Any) -> pb.InspectResponse:
        """The volumes of an upload, as `POST /inspect` tells them."""
        upload_id = uuid_of(request.upload_id, "upload_id")
        found = await run_in_threadpool(report_of, self.desk, caller(), upload_id)
        return _message(found)


def _message(view: InspectView) -> pb.InspectResponse:
    return pb.InspectResponse(
        format=view.format,
        verdict=view.verdict,
        volumes=[_volume(volume) for volume in view.volumes],
        volume_count=view.volume_count,
        warnings=view.warnings,
    )


def _volume(volume: VolumeFacts) -> pb.VolumeFacts:
    return pb.VolumeFacts(
        number=volume.number,
        modality=volume.modality,
        what=volume.what,
        datatype=volume.datatype,
        frame_of_reference=volume.frame_of_reference,
        shape=volume.shape or (),
        spacing_mm=volume.spacing_mm or (),
        affine=[value for row in volume.affine or () for value in row],
        orientation=volume.orientation,
        warnings=volume.warnings,
        problem_code=volume.problem.code if volume.problem else "",
        problem_detail=volume.problem.detail if volume.problem else "",
    )
