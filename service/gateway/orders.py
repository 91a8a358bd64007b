"""What a caller orders: the bodies of `POST /register` and `POST /warp`, as form or as JSON."""

import json
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, Self, TypeVar
from uuid import UUID

import pydantic
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.requests import Request

from service.errors import UnsupportedFormatError, ValidationError
from service.gateway.forms import read_form
from service.gateway.problems import faults
from service.gateway.spool import Arrival
from service.jobs.job import UID, Queue
from service.registration.options import RegisterOptions, WarpOptions

LONGEST_DEADLINE_S = 7 * 24 * 3600.0


class Reference(BaseModel):
    """A file that is not in the request: an upload, an object on an allowed host, or a series."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    pacs: str | None = Field(
        None,
        max_length=63,
        description="The archive that has the series, by the operator's name for it; "
        "with `study` and `series`.",
    )
    study: str | None = Field(None, pattern=UID, repr=False, description="Study instance UID.")
    series: str | None = Field(None, pattern=UID, repr=False, description="Series instance UID.")

    upload_id: UUID | None = Field(
        None, description="From `POST /v1/uploads`; it must be complete."
    )
    url: str | None = Field(
        None,
        max_length=4096,
        description="Where the worker fetches it; the host must be on the operator's list.",
    )

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if [self.upload_id, self.url, self.pacs].count(None) != 2:
            raise ValueError("Name either upload_id, or url, or pacs with study and series.")
        if len({part is None for part in (self.pacs, self.study, self.series)}) != 1:
            raise ValueError("A series in an archive is named by pacs, study and series together.")
        return self


class _Order(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    queue: Literal["interactive", "batch"] = Field(
        "interactive", description="`batch` waits behind `interactive`; use it for cohorts."
    )
    priority: int = Field(5, ge=0, le=9, description="Within the queue; 0 is first.")
    deadline_s: float | None = Field(
        None,
        gt=0,
        le=LONGEST_DEADLINE_S,
        description="Seconds from now after which the result is of no use; the job then expires.",
    )

    @property
    def job_queue(self) -> Queue:
        return Queue(self.queue)


RegisterRole = Literal[
    "fixed",
    "moving",
    "fixed_labels",
    "moving_labels",
    "fixed_mask",
    "moving_mask",
    "fixed_points",
    "moving_points",
    "initial_transform",
]


class RegisterOrder(_Order):
    """A registration to be made."""

    inputs: dict[RegisterRole, Reference] = Field(
        default_factory=dict, description="Files by role; `fixed` and `moving` are needed."
    )
    options: RegisterOptions = Field(default_factory=RegisterOptions)
    store_to: str | None = Field(
        None,
        max_length=63,
        description="The archive that gets the result's DICOM objects, by the operator's name for "
        "it; a job of kind `store` sends them, `links.store` of the job.",
    )


class WarpOrder(_Order):
    """More images, labels or points to be carried over by the transform of a finished job."""

    job_id: UUID = Field(description="A registration of yours that has succeeded.")
    inputs: dict[Literal["image", "labels", "points"], Reference] = Field(
        default_factory=dict, description="Files by role; at least one is needed."
    )
    points_from: Literal["fixed", "moving"] | None = Field(
        None,
        alias="from",
        description="Which space the points lie in; needed with points. Fixed points move by the "
        "field, moving points by its inverse.",
    )
    options: WarpOptions = Field(default_factory=WarpOptions)


ModelT = TypeVar("ModelT", bound=BaseModel)
OrderT = TypeVar("OrderT", RegisterOrder, WarpOrder)


@dataclass(frozen=True)
class Submission(Generic[OrderT]):
    """An order with the files that came with it, by role.

    `at_hand` are files of uploads among its inputs that need not be fetched from the store.
    """

    order: OrderT
    arrivals: dict[str, Arrival] = field(default_factory=dict)
    at_hand: dict[str, Path] = field(default_factory=dict)

    @property
    def roles(self) -> set[str]:
        """Every role that has a file, sent along or referred to."""
        return {str(role) for role in (*self.order.inputs, *self.arrivals)}

    def require(self, *roles: str) -> None:
        """Raises ValidationError if one of these roles has no file."""
        missing = [role for role in roles if role not in self.roles]
        if missing:
            raise ValidationError(
                f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing: send "
                "each as a file of the form, or name it under `inputs`.",
                field=missing[0],
                errors=tuple(
                    {"field": f"/inputs/{role}", "detail": "This file is needed."}
                    for role in missing
                ),
            )


async def read_order(
    request: Request, kind: type[OrderT], roles: Collection[str], folder: Path
) -> Submission[OrderT]:
    """Read the request's body, a form or JSON; files come to lie in `folder`.

    Raises:
        UnsupportedFormatError: If it is neither.
        ValidationError: If it does not fit the order's schema.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type == "multipart/form-data":
        return await _from_form(request, kind, roles, folder)
    if media_type == "application/json":
        return Submission(validated(kind, await request.body()))
    raise UnsupportedFormatError(
        "Send multipart/form-data with the files, or application/json with upload ids or URLs."
    )


def validated(kind: type[ModelT], body: bytes | dict[str, Any]) -> ModelT:
    """The body as a model.

    Raises:
        ValidationError: Names every fault by its JSON pointer.
    """
    try:
        if isinstance(body, bytes):
            return kind.model_validate_json(body)
        return kind.model_validate(body)
    except pydantic.ValidationError as error:
        raise faults(error.errors(include_url=False, include_input=False)) from None


async def _from_form(
    request: Request, kind: type[OrderT], roles: Collection[str], folder: Path
) -> Submission[OrderT]:
    options = type(kind.model_fields["options"].get_default(call_default_factory=True))
    own = {info.alias or name for name, info in kind.model_fields.items()} - {"inputs"}
    form = await read_form(request, folder, roles, own | set(options.model_fields))
    body: dict[str, Any] = {"options": _json_field(form.fields.pop("options", "{}"))}
    for name, value in form.fields.items():
        target = body if name in own else body["options"]
        target[name] = value
    return Submission(validated(kind, body), form.files)


def _json_field(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError):
        parsed = None
    if not isinstance(parsed, dict):
        raise ValidationError("The field `options` must hold a JSON object.", field="/options")
    return parsed
