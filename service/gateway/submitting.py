"""From an order to a job: check the files, store them, hand the request in, answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from service.gateway.desk import Desk
from service.gateway.inputs import Keeper
from service.gateway.orders import Submission
from service.gateway.spool import Arrival
from service.jobs.job import InputFile, Job, Queue, Request
from service.jobs.model import NewModel


@dataclass(frozen=True)
class Ticket:
    """How a request is to be queued."""

    queue: Queue
    priority: int
    deadline_s: float | None
    idempotency_key: str | None


class Queued(Protocol):
    """An order that says how it is to be queued."""

    @property
    def job_queue(self) -> Queue: ...
    @property
    def priority(self) -> int: ...
    @property
    def deadline_s(self) -> float | None: ...


def ticket_of(order: Queued, idempotency_key: str | None) -> Ticket:
    """How the order is to be queued."""
    return Ticket(order.job_queue, order.priority, order.deadline_s, idempotency_key)


@dataclass(frozen=True)
class Taken:
    """A job that was taken in, or an old one that the idempotency key replayed.

    `settle` ends the files' life as uploads, or removes those that no job holds. It can wait until
    the caller has its answer: should the process die first, the reaper does it.
    """

    job: Job
    is_replayed: bool
    settle: Callable[[], None]


def job_of(taken: Taken) -> Job:
    """The job that was taken in."""
    return taken.job


def local_paths(
    desk: Desk, order: Submission[Any], inputs: Mapping[str, InputFile], folder: Path
) -> dict[str, Path]:
    """Every file where it can be read; objects of the store are fetched into `folder`.

    Addresses are left out: the worker fetches them, and so it checks them.
    """
    paths = {role: arrival.path for role, arrival in order.arrivals.items()} | order.at_hand
    for role, file in inputs.items():
        if file.key is not None and role not in paths:
            paths[role] = folder / f"stored-{role}"
            desk.stores.blobs.get_file(file.key, paths[role])
    return paths


def submit(
    desk: Desk,
    owner: str,
    ticket: Ticket,
    arrivals: Mapping[str, Arrival],
    make: Callable[[dict[str, InputFile]], Request],
    *,
    publishes: NewModel | None = None,
) -> Taken:
    """Store the files that came along and hand in the request that `make` makes of them.

    When that fails, no file stays behind.
    """
    keeper = Keeper(desk.stores, owner)
    try:
        kept = keeper.keep(arrivals)
        job, is_replayed = desk.intake.submit(
            make(kept),
            owner,
            queue=ticket.queue,
            priority=ticket.priority,
            deadline_s=ticket.deadline_s,
            idempotency_key=ticket.idempotency_key,
            publishes=publishes,
        )
    except BaseException:
        keeper.discard()
        raise
    return Taken(job, is_replayed, keeper.discard if is_replayed else keeper.release)
