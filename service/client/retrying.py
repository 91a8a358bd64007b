"""One request, tried again while that may help."""

import random
from http import HTTPStatus

from service.client.problems import error_of_reply
from service.client.steps import Call, Flow, Lost, Pause, Reply
from service.errors import UnavailableError, WarplineError

TRIES = 6
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0
RETRIED = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


def answer(call: Call) -> Flow[Reply]:
    """The successful reply to a call.

    Every call of the API can be repeated: orders carry an Idempotency-Key, chunks their offset.

    Raises:
        WarplineError: What the server's problem document says.
        UnavailableError: If there was no answer after several tries.
    """
    for attempt in range(1, TRIES + 1):
        reply = yield call
        if isinstance(reply, Reply) and reply.is_success:
            return reply
        error = _error(reply)
        is_worth_it = isinstance(reply, Lost) or reply.status in RETRIED
        if not is_worth_it or attempt == TRIES:
            raise error
        yield Pause(pause_s(attempt, error.retry_after_s))
    raise AssertionError("unreachable")  # pragma: no cover


def _error(reply: Reply | Lost) -> WarplineError:
    if isinstance(reply, Lost):
        return UnavailableError(f"The server does not answer ({reply.reason}). Is it running?")
    return error_of_reply(reply.status, reply.body, reply.retry_after_s)


def pause_s(attempt: int, retry_after_s: float | None) -> float:
    """Doubling with jitter; at least what the server asked for."""
    doubled = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (attempt - 1))
    return max(retry_after_s or 0.0, doubled * random.uniform(0.5, 1.0))  # noqa: S311
