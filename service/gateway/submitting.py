"""From an order to a job: check the files, store them, hand the request in, answer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.gateway.desk import Desk
from service.gateway.inputs import Keeper
from service.gateway.spool import Arrival
from service.jobs.job import InputFile, Job, Queue, Request


@dataclass(frozen=True)
class Ticket:
    """How a request is to be queued."""

    queue: Queue
    priority: int
    deadline_s: float | None
    idempotency_key: str | None


def local_paths(
    desk: Desk, arrivals: Mapping[str, Arrival], inputs: Mapping[str, InputFile], folder: Path
) -> dict[str, Path]:
    """Every file where it can be read; objects of the store are fetched into `folder`.

    Addresses are left out: the worker fetches them, and so it checks them.
    """
    paths = {role: arrival.path for role, arrival in arrivals.items()}
    for role, file in inputs.items():
        if file.key is not None:
            paths[role] = folder / f"stored-{role}"
            desk.stores.blobs.get_file(file.key, paths[role])
    return paths


def submit(
    desk: Desk,
    owner: str,
    ticket: Ticket,
    arrivals: Mapping[str, Arrival],
    make: Callable[[dict[str, InputFile]], Request],
) -> tuple[Job, bool]:
    """Store the files that came along and hand in the request that `make` makes of them.

    The flag says that the idempotency key replayed an old job. Files that no new job holds are
    removed again.
    """
    keeper = Keeper(desk.stores, owner)
    try:
        kept = {role: keeper.keep(arrival) for role, arrival in arrivals.items()}
        job, is_replayed = desk.intake.submit(
            make(kept),
            owner,
            queue=ticket.queue,
            priority=ticket.priority,
            deadline_s=ticket.deadline_s,
            idempotency_key=ticket.idempotency_key,
        )
    except BaseException:
        keeper.discard()
        raise
    if is_replayed:
        keeper.discard()
    else:
        keeper.release()
    return job, is_replayed
