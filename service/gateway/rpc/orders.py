"""Orders over gRPC, as the same documents that REST takes: faults have the same JSON pointers."""

from collections.abc import Mapping
from typing import Any

from starlette.concurrency import run_in_threadpool

from service.errors import BodyTooLargeError, ValidationError
from service.gateway.desk import Desk
from service.gateway.orders import Submission, WarpOrder, validated
from service.gateway.rest.storing import StoreOrder
from service.gateway.rpc.clerk import Clerk, uuid_of
from service.gateway.rpc.messages import job_message
from service.gateway.storing import store_result
from service.gateway.submitting import Taken
from service.gateway.taking_in import require_warp_files, take_in_warp
from service.gateway.taking_in_data import require_training, take_in_training
from service.gateway.training import LARGEST_BODY_BYTES, TrainOrder
from service.pb import warpline_pb2 as pb
from service.rpc.calls import caller

LONGEST_KEY = 255
OPTIONS = tuple(field.name for field in pb.RegisterOptions.DESCRIPTOR.fields)


class Orders(Clerk):
    """The methods that make jobs of files which are there already."""

    async def Warp(self, request: pb.WarpRequest, context: Any) -> pb.WarpResponse:
        """Carry images and labels from the moving space onto the fixed grid, or points."""
        job, is_replayed = await run_in_threadpool(_warp, self.desk, request, caller())
        return pb.WarpResponse(job=job, is_replayed=is_replayed)

    async def Train(self, request: pb.TrainRequest, context: Any) -> pb.TrainResponse:
        """A configuration and data in, a job out, whose result is a model."""
        job, is_replayed = await run_in_threadpool(_train, self.desk, request, caller())
        return pb.TrainResponse(job=job, is_replayed=is_replayed)

    async def StoreResult(
        self, request: pb.StoreResultRequest, context: Any
    ) -> pb.StoreResultResponse:
        """A job of its own sends the DICOM objects; while the archive is away it tries again."""
        job, is_replayed = await run_in_threadpool(_store, self.desk, request, caller())
        return pb.StoreResultResponse(job=job, is_replayed=is_replayed)


def _warp(desk: Desk, request: pb.WarpRequest, owner: str) -> tuple[pb.Job, bool]:
    body = ticket_fields(request.ticket) | {
        "job_id": request.job_id,
        "inputs": references(request.inputs),
        "options": set_fields(request, "interpolation", "label_interpolation", "fill"),
    }
    if request.points_from:
        body["from"] = request.points_from
    order = Submission(validated(WarpOrder, body))
    require_warp_files(order)
    desk.spool.require_room()
    key = idempotency_key(request.ticket.idempotency_key)
    with desk.spool.folder() as folder:
        return _settled(desk, take_in_warp(desk, owner, order, key, folder))


def _train(desk: Desk, request: pb.TrainRequest, owner: str) -> tuple[pb.Job, bool]:
    require_training(desk)
    body = request.body_json.encode()
    if len(body) > LARGEST_BODY_BYTES:
        raise BodyTooLargeError("An order of a training takes a mebibyte.", field="body_json")
    order = validated(TrainOrder, body)
    key = idempotency_key(request.idempotency_key)
    return _settled(desk, take_in_training(desk, owner, order, key))


def _store(desk: Desk, request: pb.StoreResultRequest, owner: str) -> tuple[pb.Job, bool]:
    job_id = uuid_of(request.job_id, "job_id")
    order = validated(StoreOrder, {"pacs": request.pacs})
    key = idempotency_key(request.idempotency_key)
    job, is_replayed = store_result(desk, owner, job_id, order.pacs, key)
    return job_message(job, desk.stores.jobs.place(job.id)), is_replayed


def _settled(desk: Desk, taken: Taken) -> tuple[pb.Job, bool]:
    taken.settle()
    return job_message(taken.job, desk.stores.jobs.place(taken.job.id)), taken.is_replayed


def ticket_fields(ticket: pb.Ticket) -> dict[str, Any]:
    """How a job is to be queued, as fields of an order."""
    fields: dict[str, Any] = set_fields(ticket, "priority")
    if ticket.queue:
        fields["queue"] = ticket.queue
    if ticket.HasField("deadline"):
        fields["deadline_s"] = ticket.deadline.ToTimedelta().total_seconds()
    return fields


def set_fields(message: Any, *names: str) -> dict[str, Any]:
    """Those of the optional fields that the caller has set."""
    return {name: getattr(message, name) for name in names if message.HasField(name)}


def references(inputs: Mapping[str, pb.FileReference]) -> dict[str, dict[str, str]]:
    """Files that are not sent, as fields of an order."""
    return {role: _reference(file) for role, file in inputs.items()}


def _reference(file: pb.FileReference) -> dict[str, str]:
    source = file.WhichOneof("source")
    if source is None:
        return {}
    if source == "pacs":
        return {name: getattr(file.pacs, name) for name in ("pacs", "study", "series")}
    return {source: getattr(file, source)}


def idempotency_key(text: str) -> str | None:
    """The key that makes a retry safe; None if there is none.

    Raises:
        ValidationError: If it is too long.
    """
    if len(text) > LONGEST_KEY:
        raise ValidationError(
            f"An idempotency key has up to {LONGEST_KEY} characters.", field="idempotency_key"
        )
    return text or None
