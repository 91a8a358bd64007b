"""What a caller orders with `POST /train` and `POST /datasets`, checked as far as a door can.

The one thing of the trainer that the gateway knows is what a configuration may say.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Self
from urllib.parse import quote, unquote, urlsplit
from uuid import UUID

import yaml
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.requests import Request

from service.errors import (
    ArchivePathError,
    BodyTooLargeError,
    UnsupportedFormatError,
    UrlNotAllowedError,
    ValidationError,
)
from service.gateway.inputs import from_url
from service.gateway.orders import LONGEST_DEADLINE_S, validated
from service.jobs.datasets import FILE_PREFIX, LISTING, NAME
from service.jobs.job import InputFile, Queue
from service.paths import checked_path
from service.settings import Settings
from trainer.config import TrainConfig, parse_config

YAML_TYPES = frozenset({"application/yaml", "application/x-yaml", "text/yaml"})
LARGEST_BODY_BYTES = 1 << 20
LARGEST_YAML_BYTES = 256 << 10
MOST_URLS = 10_000

Fault = dict[str, Any]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Listing(_Body):
    """A part of an S3 bucket that anybody, or the worker's network, may list."""

    bucket_url: str = Field(
        max_length=2048,
        description="Address of the bucket, as `https://HOST/BUCKET`; the host must be on the "
        "operator's list. It is listed by `GET ?list-type=2` and read without credentials.",
    )
    prefix: str = Field("", max_length=512, description="Only objects whose keys begin so.")


class UrlFile(_Body):
    """One file by address, and where it is to lie."""

    url: str = Field(max_length=4096, description="The host must be on the operator's list.")
    path: str | None = Field(
        None, description="Below the data folder; by default the last part of the address."
    )


class DataSource(_Body):
    """Where the data are: exactly one of these."""

    upload_id: UUID | None = Field(
        None, description="A .zip or .tar.gz from `POST /v1/uploads`; it must be complete."
    )
    dataset_id: UUID | None = Field(None, description="From `POST /v1/datasets`.")
    urls: tuple[UrlFile | str, ...] = Field(
        (), max_length=MOST_URLS, description="Files by address, or one archive."
    )
    listing: Listing | None = Field(None, description="Everything below a prefix of a bucket.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = (self.upload_id, self.dataset_id, self.urls or None, self.listing)
        if sum(source is not None for source in given) != 1:
            raise ValueError("Name exactly one of upload_id, dataset_id, urls and listing.")
        return self


class TrainOrder(_Body):
    """A training to be made."""

    config: dict[str, Any] = Field(
        description="What to train and how: the same document as a YAML file of `warpline train`. "
        "`data.root` is left out; the worker sets it."
    )
    data: DataSource | None = Field(
        None, description="Needed, unless `config.data.format` is `none`."
    )
    priority: int = Field(5, ge=0, le=9, description="Among the trainings; 0 is first.")
    deadline_s: float = Field(
        LONGEST_DEADLINE_S,
        gt=0,
        le=LONGEST_DEADLINE_S,
        description="Seconds from now after which the model is of no use; the job then expires.",
    )

    @property
    def job_queue(self) -> Queue:
        return Queue.TRAIN


class DatasetOrder(_Body):
    """A data set to be registered, for trainings to name."""

    name: str = Field(pattern=NAME, description="Lower-case letters, digits, `.`, `_` and `-`.")
    upload_id: UUID | None = Field(
        None, description="A complete upload, .zip or .tar.gz; the upload becomes the data set."
    )
    urls: tuple[UrlFile | str, ...] = Field(
        (), max_length=MOST_URLS, description="Files by address; each training fetches them anew."
    )
    listing: Listing | None = Field(None, description="The same for a prefix of a bucket.")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = (self.upload_id, self.urls or None, self.listing)
        if sum(source is not None for source in given) != 1:
            raise ValueError("Name exactly one of upload_id, urls and listing.")
        return self


async def read_train_order(request: Request) -> TrainOrder:
    """Read the request's body, JSON or YAML.

    Raises:
        UnsupportedFormatError: If it is neither.
        BodyTooLargeError: If it is longer than a configuration ever is.
        ValidationError: If it does not fit; every fault has its JSON pointer.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body = await request.body()
    if media_type not in YAML_TYPES | {"application/json"}:
        raise UnsupportedFormatError("Send application/json or application/yaml.")
    if len(body) > (LARGEST_BODY_BYTES if media_type == "application/json" else LARGEST_YAML_BYTES):
        raise BodyTooLargeError("An order of a training takes a mebibyte as JSON, less as YAML.")
    if media_type == "application/json":
        return validated(TrainOrder, body)
    return validated(TrainOrder, _mapping(body))


class _NoAliases(yaml.SafeLoader):  # type: ignore[misc]
    """YAML without anchors: ten lines of them can unfold to a thousand million values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError
        return super().compose_node(parent, index)


def _mapping(body: bytes) -> dict[str, Any]:
    try:
        document = yaml.load(body, _NoAliases)  # noqa: S506 - a safe loader
        json.dumps(document)  # dates and the like are not JSON
    except (yaml.YAMLError, RecursionError, TypeError, ValueError):
        document = None
    if not isinstance(document, dict):
        raise ValidationError("The body is no YAML mapping of plain values without aliases.")
    return document


def checked_config(order: TrainOrder, settings: Settings) -> TrainConfig:
    """The order's configuration, within the operator's limits.

    Raises:
        ValidationError: Every fault by its JSON pointer, of the configuration and of the limits.
    """
    faults = list(_order_faults(order)) + list(_limit_faults(order.config, settings))
    config = None
    try:
        config = parse_config(order.config, "/config")
    except ValidationError as error:
        faults += error.errors or ({"field": "/config", "detail": error.detail},)
    if faults or config is None:
        raise _all_faults(faults)
    if order.data is None and config.data.format != "none":
        raise _all_faults([_fault("/data", "This configuration needs data; say where they are.")])
    return config


def _all_faults(faults: list[Fault]) -> ValidationError:
    first = faults[0]
    return ValidationError(
        f"{first['detail']} (at {first['field']})", field=first["field"], errors=tuple(faults)
    )


def _fault(field: str, detail: str) -> Fault:
    return {"field": field, "detail": detail}


def _order_faults(order: TrainOrder) -> Iterator[Fault]:
    data = order.config.get("data")
    if isinstance(data, Mapping) and "root" in data:
        yield _fault("/config/data/root", "The worker sets it; leave it out.")
    try:
        json.dumps(order.config, allow_nan=False)
    except ValueError:
        yield _fault("/config", "A number is not finite.")


def _limit_faults(config: Mapping[str, Any], settings: Settings) -> Iterator[Fault]:
    """What is more than the operator allows, looked up as sent: other faults may stand beside."""
    train = config.get("train")
    limits = {
        "epochs": settings.train_max_epochs,
        "batch_size": settings.train_max_batch,
        "max_minutes": settings.train_max_hours * 60,
    }
    for name, most in limits.items():
        wanted = train.get(name) if isinstance(train, Mapping) else None
        if isinstance(wanted, int | float) and wanted > most:
            yield _fault(f"/config/train/{name}", f"This service allows up to {most:g}.")


def files_by_address(
    settings: Settings, urls: tuple[UrlFile | str, ...], pointer: str
) -> dict[str, InputFile]:
    """Addresses as inputs, under the paths that they are to have.

    Raises:
        UrlNotAllowedError: If a host is not on the operator's list.
        ValidationError: If a path is not plain, or two are the same.
    """
    found: dict[str, InputFile] = {}
    faults: list[Fault] = []
    for index, one in enumerate(urls):
        here = f"{pointer}/{index}"
        file = UrlFile(url=one) if isinstance(one, str) else one
        url = _allowed(settings, file.url, here)
        try:
            role = f"{FILE_PREFIX}{checked_path(file.path or _last_part(file.url))}"
        except ArchivePathError as error:
            faults.append(_fault(here, error.detail))
            continue
        if role.casefold() in {known.casefold() for known in found}:
            faults.append(_fault(here, "Two files have this path; give each a `path` of its own."))
        found[role] = url
    if faults:
        raise _all_faults(faults)
    return found


def listed(settings: Settings, listing: Listing, pointer: str) -> dict[str, InputFile]:
    """A bucket's listing as an input.

    Raises:
        UrlNotAllowedError: If the host is not on the operator's list.
        ValidationError: If the address is not a bucket's.
    """
    if not re.fullmatch(r"[^?#]+", listing.bucket_url):
        raise _all_faults([_fault(f"{pointer}/bucket_url", "Leave out `?` and `#`.")])
    bucket = listing.bucket_url.rstrip("/")
    _allowed(settings, bucket, f"{pointer}/bucket_url")
    return {LISTING: InputFile(url=f"{bucket}?list-type=2&prefix={quote(listing.prefix, safe='')}")}


def _allowed(settings: Settings, url: str, pointer: str) -> InputFile:
    try:
        return from_url(settings, url, "data")
    except UrlNotAllowedError as error:
        error.field = pointer
        raise


def _last_part(url: str) -> str:
    return unquote(urlsplit(url).path.rpartition("/")[2])
