"""One request, tried again while that may help."""

import random
from dataclasses import dataclass
from http import HTTPStatus

from service.client.problems import error_of_reply
from service.client.steps import Call, Flow, Lost, Pause, Reply
from service.errors import UnavailableError, WarplineError

TRIES = 6  # some 12 s: is anybody there?
PATIENT_TRIES = 26  # some 5 minutes: a server that knows the job is restarted, or migrates
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0
RETRIED = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


@dataclass
class Patience:
    """How often in a row a server is tried: as one nobody knows, until it has been heard."""

    tries: int = TRIES
    failures: int = 0

    def heard(self) -> None:
        """The server told of the job: it will again."""
        self.tries, self.failures = PATIENT_TRIES, 0


def answer(call: Call, tries: int = TRIES) -> Flow[Reply]:
    """The successful reply to a call.

    Every call of the API can be repeated: orders carry an Idempotency-Key, chunks their offset.

    Args:
        call: What is asked.
        tries: How often, while that may help; `PATIENT_TRIES` of what the server had accepted.

    Raises:
        WarplineError: What the server's problem document says.
        UnavailableError: If there was no answer after several tries.
    """
    for attempt in range(1, tries + 1):
        reply = yield call
        if isinstance(reply, Reply) and reply.is_success:
            return reply
        error = unanswered(reply) if isinstance(reply, Lost) else error_of(reply)
        is_worth_it = isinstance(reply, Lost) or reply.status in RETRIED
        if not is_worth_it or attempt == tries:
            raise error
        yield Pause(pause_s(attempt, error.retry_after_s))
    raise AssertionError("unreachable")  # pragma: no cover


def unanswered(lost: Lost) -> WarplineError:
    """The error behind a connection that broke."""
    return UnavailableError(f"The server does not answer ({lost.reason}). Is it running?")


def error_of(reply: Reply) -> WarplineError:
    """The error behind a reply that is not a success."""
    return error_of_reply(reply.status, reply.body, reply.retry_after_s)


def pause_s(attempt: int, retry_after_s: float | None) -> float:
    """Doubling with jitter; at least what the server asked for."""
    doubled = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** (attempt - 1))
    return max(retry_after_s or 0.0, doubled * random.uniform(0.5, 1.0))  # noqa: S311
