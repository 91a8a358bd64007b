"""Sending work: files and options to `POST /register` and `POST /warp`."""

import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Literal, TypedDict

from service.checksums import sha256_of
from service.client.problems import error_of_reply
from service.client.retrying import RETRIED, TRIES, answer, pause_s
from service.client.steps import Call, Flow, Lost, Pause
from service.client.views import Job, Limits, Upload
from service.errors import InvalidRequestError, UnavailableError
from service.registration.options import (
    InitialiseChoice,
    Interpolation,
    LabelInterpolation,
    Refine,
)
from service.registration.roles import REGISTER_ROLES, WARP_ROLES

AnyPath = str | os.PathLike[str]
INPUT_ROLES = frozenset((*REGISTER_ROLES, *WARP_ROLES))
# What the API calls things that are no options of the science.
ENVELOPE = {
    "queue": "queue",
    "priority": "priority",
    "deadline_s": "deadline_s",
    "job_id": "job_id",
    "points_from": "from",
}
# Larger orders go through uploads, which go on from their last byte when the connection breaks.
MOST_FORM_BYTES = 32 * 2**20
FORM_OVERHEAD_BYTES = 64 * 2**10


class OrderTerms(TypedDict, total=False):
    """How an order is treated."""

    queue: str
    priority: int
    deadline_s: float
    idempotency_key: str


class WarpTerms(OrderTerms, total=False):
    """What may come with `warp`; roles are paths."""

    image: AnyPath
    labels: AnyPath
    points: AnyPath
    points_from: Literal["fixed", "moving"] | None
    interpolation: Interpolation
    label_interpolation: LabelInterpolation
    fill: float


class RegisterTerms(OrderTerms, total=False):
    """What may come with `register`; roles are paths."""

    fixed_labels: AnyPath
    moving_labels: AnyPath
    fixed_mask: AnyPath
    moving_mask: AnyPath
    fixed_points: AnyPath
    moving_points: AnyPath
    initial_transform: AnyPath
    model: str
    initialise: InitialiseChoice
    refine: Refine
    interpolation: Interpolation
    label_interpolation: LabelInterpolation
    fill: float
    seed: int
    fixed_series: str | None
    moving_series: str | None
    allow_different_patients: bool
    deidentify: bool


@dataclass(frozen=True)
class Order:
    """One order: where it goes, its files by role, its options, and how it is treated."""

    path: str
    files: Mapping[str, Path]
    options: Mapping[str, Any]
    envelope: Mapping[str, Any]
    idempotency_key: str = field(default_factory=lambda: str(uuid.uuid4()))

    @classmethod
    def of(cls, path: str, terms: Mapping[str, Any]) -> "Order":
        """Sort terms into files, options and envelope; None means not given.

        Raises:
            InvalidRequestError: If a file is not there.
        """
        given = {name: value for name, value in terms.items() if value is not None}
        key = given.pop("idempotency_key", None) or str(uuid.uuid4())
        files = {role: Path(given.pop(role)) for role in sorted(INPUT_ROLES & given.keys())}
        for role, file in files.items():
            if not file.is_file():
                raise InvalidRequestError(f"There is no file {file}.", field=role)
        envelope = {ENVELOPE[name]: given.pop(name) for name in sorted(ENVELOPE.keys() & given)}
        return cls(path, files, given, envelope, key)

    @property
    def bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files.values())


def send(order: Order) -> Flow[Job]:
    """Place an order: in one form when it is small, else by uploads."""
    headers = {"idempotency-key": order.idempotency_key}
    limits = yield from fetch_limits()
    if order.bytes + FORM_OVERHEAD_BYTES <= min(MOST_FORM_BYTES, limits.max_body_bytes):
        fields = {**order.options, **order.envelope}
        form = {name: str(value) for name, value in fields.items()}
        call = Call("POST", order.path, headers=headers, form=form, files=order.files)
    else:
        inputs = {}
        for role, file in order.files.items():
            upload = yield from send_file(file, limits)
            inputs[role] = {"upload_id": str(upload.id)}
        body = {"inputs": inputs, "options": dict(order.options), **order.envelope}
        call = Call("POST", order.path, headers=headers, json=body)
    reply = yield from answer(call)
    return Job.model_validate_json(reply.body)


def fetch_limits() -> Flow[Limits]:
    """What the server accepts."""
    reply = yield from answer(Call("GET", "/v1/limits"))
    return Limits.model_validate_json(reply.body)


def send_file(file: Path, limits: Limits) -> Flow[Upload]:
    """Upload one file in chunks, each from where the server says that it is."""
    announced = {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
    reply = yield from answer(Call("POST", "/v1/uploads", json=announced))
    upload = Upload.model_validate_json(reply.body)
    failures = 0
    with file.open("rb") as source:
        while not upload.complete:
            source.seek(upload.received)
            chunk = source.read(upload.chunk_bytes or limits.upload_chunk_bytes)
            reached = yield from _send_chunk(upload, chunk)
            failures = failures + 1 if reached is None else 0
            if reached is None:
                upload = yield from _look_again(upload, failures)
            else:
                upload = reached
    return upload


def _send_chunk(upload: Upload, chunk: bytes) -> Flow[Upload | None]:
    """Send the bytes from `upload.received` on; None when it is unknown how many arrived."""
    headers = {
        "upload-offset": str(upload.received),
        "content-type": "application/octet-stream",
    }
    call = Call("PATCH", f"/v1/uploads/{upload.id}", headers=headers, content=chunk)
    reply = yield call
    if isinstance(reply, Lost) or reply.status in (*RETRIED, HTTPStatus.CONFLICT):
        return None
    if not reply.is_success:
        raise error_of_reply(reply.status, reply.body, reply.retry_after_s)
    return Upload.model_validate_json(reply.body)


def _look_again(upload: Upload, failures: int) -> Flow[Upload]:
    if failures > TRIES:
        raise UnavailableError("The upload kept breaking off. Is the connection sound?")
    yield Pause(pause_s(failures, None))
    reply = yield from answer(Call("GET", f"/v1/uploads/{upload.id}"))
    return Upload.model_validate_json(reply.body)
