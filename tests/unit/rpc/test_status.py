"""Errors as google.rpc.Status: every one of the tree, there and back, within what metadata hold."""

import base64
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import grpc
import pytest
from google.rpc import code_pb2, status_pb2
from grpc_status import rpc_status

from service.errors import (
    JobNotFinishedError,
    RateLimitedError,
    UnavailableError,
    ValidationError,
    WarplineError,
)
from service.errors.tree import errors_by_slug
from service.pb import warpline_pb2 as pb
from service.rpc.status import DETAILS_KEY, error_of, problem_message, status_of, trailers_of

METADATA_BYTES = 8192  # what gRPC lets a peer send by default


class Ended:
    """A call that has ended, as grpcio shows it."""

    def __init__(
        self, code: grpc.StatusCode, details: str, trailers: Sequence[tuple[str, Any]] = ()
    ) -> None:
        self._told = code, details, trailers

    def code(self) -> grpc.StatusCode:
        return self._told[0]

    def details(self) -> str:
        return self._told[1]

    def trailing_metadata(self) -> Sequence[tuple[str, Any]]:
        return self._told[2]


def sent(error: WarplineError) -> Ended:
    """The end of a call that failed so, by way of grpcio's own library."""
    status = rpc_status.to_status(status_of(error, "an-id"))
    return Ended(status.code, status.details, status.trailing_metadata)


@pytest.mark.parametrize("slug", sorted(errors_by_slug()))
def test_every_error_survives_the_wire(slug: str) -> None:
    kind = errors_by_slug()[slug]
    error = kind("What is wrong.", field="fixed", errors=({"field": "a", "detail": "b"},))
    call = sent(error)
    assert code_pb2.Code.Name(status_of(error).code) == kind.grpc_code
    back = error_of(call)
    assert type(back) is kind
    assert (back.detail, back.field, back.errors) == (error.detail, error.field, error.errors)
    assert back.wait_s == error.wait_s


def test_one_faulty_field_is_a_bad_request_and_no_list_of_faults() -> None:
    back = error_of(sent(ValidationError("Too large.", field="page_size")))
    assert (back.field, back.errors) == ("page_size", ())


@pytest.mark.parametrize(
    ("error", "wait_s"),
    [
        (RateLimitedError(retry_after_s=2.25), 2.25),
        (JobNotFinishedError(), 5.0),
        (ValidationError(), None),
    ],
)
def test_when_a_retry_may_help_is_told(error: WarplineError, wait_s: float | None) -> None:
    assert error_of(sent(error)).wait_s == wait_s


def test_more_faults_than_metadata_hold_are_cut_but_the_first_are_named() -> None:
    faults = tuple({"field": f"/files/{n}", "detail": "é" * 40} for n in range(1000))
    error = ValidationError("鉴" * 5000, field="x" * 3000, errors=faults)
    trailers = dict(trailers_of(error, "an-id"))
    packed = trailers[DETAILS_KEY]
    assert isinstance(packed, bytes)
    sentence = quote(status_of(error).message)
    assert len(base64.b64encode(packed)) + len(sentence) + 200 < METADATA_BYTES
    back = error_of(sent(error))
    assert 5 < len(back.errors) < 1000
    assert back.errors == faults[: len(back.errors)]


def test_what_others_say_is_an_error_all_the_same() -> None:
    away = error_of(Ended(grpc.StatusCode.UNAVAILABLE, "connection refused"))
    assert type(away) is UnavailableError
    foreign = error_of(Ended(grpc.StatusCode.INTERNAL, "proxy", [(DETAILS_KEY, b"\xff")]))
    assert type(foreign) is WarplineError
    assert "INTERNAL" in foreign.detail
    other = status_pb2.Status(code=5, message="elsewhere")
    told = error_of(
        Ended(grpc.StatusCode.NOT_FOUND, "elsewhere", [(DETAILS_KEY, other.SerializeToString())])
    )
    assert type(told) is WarplineError


def test_a_problem_document_is_a_message() -> None:
    error = RateLimitedError("Wait.", field="key", retry_after_s=1.5)
    told = problem_message(error.problem(), error.wait_s)
    expected = pb.Problem(
        code="rate-limited", title=error.title, detail="Wait.", field="key", is_retryable=True
    )
    expected.retry_after.FromMilliseconds(1500)
    assert told == expected
