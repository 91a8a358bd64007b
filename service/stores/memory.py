"""The job store in memory: a fake for tests, which passes the same suite as the real ones."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from service.errors import (
    ConflictError,
    IdempotencyKeyReusedError,
    JobCancelledError,
    JobExpiredError,
    JobNotFoundError,
    ValidationError,
    WorkerLostError,
)
from service.jobs.job import (
    Claim,
    Event,
    Job,
    Manifest,
    NewJob,
    Order,
    Page,
    Place,
    Progress,
    Queue,
    State,
)
from service.stores.memory_models import MemoryModelRegistry

_NOT_THE_JOBS = {"id", "deadline_s", "idempotency_key", "publishes", "request"}
RING_AGAIN = timedelta(seconds=5)


@dataclass
class _Entry:
    """A job with what the tables around it would hold."""

    number: int
    job: Job
    events: list[Event] = field(default_factory=list)
    ring_due: datetime | None = None
    tries: int = 0


class MemoryJobStore:
    """`service.jobs.ports.JobStore` in one process; gone with it."""

    def __init__(
        self,
        clock: Callable[[], float] = time.time,
        upload_exists: Callable[[UUID], bool] = lambda _id: False,
    ) -> None:
        """Start empty.

        Args:
            clock: Seconds since 1970.
            upload_exists: Whether the upload store next to this one has an upload.
        """
        self._clock = clock
        self._upload_exists = upload_exists
        self._entries: dict[UUID, _Entry] = {}
        self._keys: dict[tuple[str, str], UUID] = {}
        self._chores: dict[str, datetime] = {}
        self._last_number = 0
        self._lock = threading.RLock()
        self.models = MemoryModelRegistry()

    @contextmanager
    def _now(self) -> Iterator[datetime]:
        with self._lock:
            yield datetime.fromtimestamp(self._clock(), UTC)

    # --- faces ---

    def add(self, new: NewJob) -> tuple[Job, bool]:
        with self._now() as now:
            key = new.idempotency_key
            if key is not None and (old := self.replay(new.owner, key, new.request_digest)):
                return old, True
            number = None if new.publishes is None else self.models.reserve(new.publishes)
            job = Job(
                **new.model_dump(exclude=_NOT_THE_JOBS),
                request=new.asked(number),
                id=new.id or uuid4(),
                state=State.QUEUED,
                created_at=now,
                not_before=now,
                deadline_at=now + timedelta(seconds=new.deadline_s),
            )
            self._last_number += 1
            entry = _Entry(self._last_number, job, ring_due=now + RING_AGAIN)
            self._entries[job.id] = entry
            self._tell(entry, now, "queued", {"queue": str(new.queue)})
            if key is not None:
                self._keys[new.owner, key] = job.id
            return job, False

    def replay(self, owner: str, key: str, digest: str) -> Job | None:
        with self._lock:
            job_id = self._keys.get((owner, key))
            if job_id is None:
                return None
            if self._entries[job_id].job.request_digest != digest:
                raise IdempotencyKeyReusedError
            return self._entries[job_id].job

    def job(self, job_id: UUID, owner: str | None = None) -> Job:
        with self._lock:
            job = self._entry(job_id).job
        if owner is not None and job.owner != owner:
            raise JobNotFoundError
        return job

    def page(
        self,
        owner: str | None,
        *,
        states: Sequence[State] = (),
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page:
        if cursor is not None and not cursor.isdecimal():
            raise ValidationError("The cursor is not one that this service gave.", field="cursor")
        found = [
            entry
            for entry in self._newest_first(owner, states)
            if cursor is None or entry.number < int(cursor)
        ]
        more = str(found[limit - 1].number) if len(found) > limit else None
        return Page(jobs=[entry.job for entry in found[:limit]], cursor=more)

    def _newest_first(self, owner: str | None, states: Sequence[State]) -> list[_Entry]:
        with self._lock:
            return [
                entry
                for entry in reversed(self._entries.values())
                if owner in (None, entry.job.owner) and (not states or entry.job.state in states)
            ]

    def place(self, job_id: UUID) -> Place | None:
        with self._lock:
            entry = self._entry(job_id)
            waiting = sorted(
                (other.job.priority, other.number)
                for other in self._entries.values()
                if other.job.state == State.QUEUED and other.job.queue == entry.job.queue
            )
            if entry.job.state != State.QUEUED:
                return None
            position = waiting.index((entry.job.priority, entry.number)) + 1
            return Place(position=position, seconds_left=self._seconds_left(entry.job, position))

    def _seconds_left(self, job: Job, position: int) -> float | None:
        took = [
            (other.job.finished_at - other.job.started_at).total_seconds()
            for other in self._entries.values()
            if other.job.state == State.SUCCEEDED
            and other.job.request.kind == job.request.kind
            and other.job.finished_at is not None
            and other.job.started_at is not None
        ]
        if not took:
            return None
        at_once = max(1, self.counts().get(State.RUNNING, 0))
        return round(sum(took) / len(took) * (1 + position / at_once), 1)

    def counts(self, owner: str | None = None, states: Sequence[State] = ()) -> dict[State, int]:
        counted: dict[State, int] = {}
        for entry in self._newest_first(owner, states):
            counted[entry.job.state] = counted.get(entry.job.state, 0) + 1
        return counted

    def events(self, job_id: UUID, after: int = 0) -> list[Event]:
        with self._lock:
            entry = self._entries.get(job_id)
            return entry.events[after:] if entry else []

    def cancel(self, job_id: UUID) -> Job:
        with self._now() as now:
            entry = self._entry(job_id)
            if entry.job.state == State.QUEUED:
                self._end(entry, now, State.CANCELLED, problem=JobCancelledError().problem())
            elif entry.job.state == State.RUNNING:
                self._set(entry, cancel_requested=True)
            return entry.job

    def delete(self, job_id: UUID) -> Job:
        with self._lock:
            job = self._entry(job_id).job
            if not job.state.is_terminal:
                raise ConflictError("The job is not finished; cancel it first.")
            if self.is_read(f"jobs/{job_id}/"):
                raise ConflictError("An unfinished job reads this job's results; wait for it.")
            del self._entries[job_id]
            self._keys = {key: value for key, value in self._keys.items() if value != job_id}
            return job

    # --- workers ---

    def claim(self, queues: Sequence[Queue], worker: str, lease: timedelta) -> Claim | None:
        with self._now() as now:
            waiting = [
                (queues.index(entry.job.queue), entry.job.priority, entry.number, entry)
                for entry in self._entries.values()
                if entry.job.state == State.QUEUED
                and entry.job.queue in queues
                and entry.job.not_before <= now < entry.job.deadline_at
            ]
            if not waiting:
                return None
            entry = min(waiting)[3]
            self._set(
                entry,
                state=State.RUNNING,
                attempt=entry.job.attempt + 1,
                fence=entry.job.fence + 1,
                worker=worker,
                progress=Progress(stage="starting"),
                started_at=now,
                lease_until=now + lease,
            )
            entry.ring_due = None
            self._tell(entry, now, "started", {"attempt": entry.job.attempt})
            return Claim(job=entry.job, fence=entry.job.fence, worker=worker)

    def beat(self, claim: Claim, progress: Progress, lease: timedelta) -> Order:
        with self._now() as now:
            entry = self._held(claim)
            if entry is None:
                return Order.FENCED_OUT
            if progress.is_news(entry.job.progress):
                self._tell(entry, now, "progress", progress.told())
            self._set(entry, progress=progress, lease_until=now + lease)
            if entry.job.cancel_requested:
                return Order.CANCEL
            return Order.EXPIRE if entry.job.deadline_at <= now else Order.GO_ON

    def succeed(self, claim: Claim, manifest: Manifest, then: NewJob | None = None) -> bool:
        with self._now() as now:
            held = self._held(claim)
            if held is not None and manifest.model is not None:
                self.models.publish(held.job, manifest.model, now)
            if held is not None and then is not None:
                self.add(then)
            return self._finish(claim, State.SUCCEEDED, manifest=manifest)

    def end(self, claim: Claim, state: State, problem: dict[str, object] | None) -> bool:
        return self._finish(claim, state, problem=problem)

    def _finish(self, claim: Claim, state: State, **values: Any) -> bool:
        with self._now() as now:
            entry = self._held(claim)
            if entry is not None:
                self._end(entry, now, state, **values)
            return entry is not None

    def retry(self, claim: Claim, delay: timedelta, reason: str, *, counts: bool = True) -> bool:
        with self._now() as now:
            entry = self._held(claim)
            if entry is not None:
                self._requeue(entry, now, delay, reason)
                self._set(entry, attempt=entry.job.attempt - (0 if counts else 1))
            return entry is not None

    # --- reaper ---

    def reap(self, max_attempts: int) -> list[Job]:
        with self._now() as now:
            for entry in self._entries.values():
                self._reap(entry, now, max_attempts)
            return [entry.job for entry in self._entries.values() if self._rings(entry, now)]

    def _reap(self, entry: _Entry, now: datetime, max_attempts: int) -> None:
        job = entry.job
        is_late = job.deadline_at <= now
        if job.state == State.QUEUED and is_late:
            self._end(entry, now, State.EXPIRED, problem=JobExpiredError().problem())
        if job.state != State.RUNNING or job.lease_until is None or job.lease_until > now:
            return
        if job.cancel_requested:
            self._end(entry, now, State.CANCELLED, problem=JobCancelledError().problem())
        elif is_late:
            self._end(entry, now, State.EXPIRED, problem=JobExpiredError().problem())
        elif job.attempt >= max_attempts:
            self._end(entry, now, State.FAILED, problem=WorkerLostError().problem())
        else:
            delay = timedelta(seconds=min(60.0, 2.0 ** (job.attempt - 1)))
            self._requeue(entry, now, delay, "lease-lost")

    def _rings(self, entry: _Entry, now: datetime) -> bool:
        if entry.ring_due is None or entry.ring_due > now:
            return False
        entry.ring_due = now + RING_AGAIN * 2**entry.tries
        entry.tries += 1
        return True

    def forgotten(self, retention: timedelta, limit: int = 100) -> list[Job]:
        with self._now() as now:
            old = [
                entry.job
                for entry in self._entries.values()
                if entry.job.finished_at is not None
                and entry.job.finished_at <= now - retention
                and not self.is_read(f"jobs/{entry.job.id}/")
            ]
            return old[:limit]

    def live_keys(self, prefixes: Sequence[str]) -> set[str]:
        with self._lock:
            return {prefix for prefix in prefixes if self._is_live(prefix)}

    def _is_live(self, prefix: str) -> bool:
        kind, identity, fence = [*prefix.split("/"), ""][:3]
        if kind == "models":
            identity, fence = prefix.split("/")[3].split(".")
        if kind == "uploads":
            return self._upload_exists(UUID(identity)) or self.is_read(prefix)
        entry = self._entries.get(UUID(identity))
        if kind == "checkpoints":
            resumable = (State.QUEUED, State.RUNNING, State.FAILED)
            return entry is not None and entry.job.state in resumable
        is_current = (
            entry is not None
            and entry.job.state in (State.RUNNING, State.SUCCEEDED)
            and entry.job.fence == int(fence)
        )
        return is_current or self.is_read(prefix) or self.models.has_files(prefix)

    def is_read(self, prefix: str) -> bool:
        """Whether an unfinished job has an object under this prefix among its inputs."""
        return any(
            file.key is not None and file.key.startswith(prefix)
            for entry in self._entries.values()
            if not entry.job.state.is_terminal
            for file in entry.job.request.inputs.values()
        )

    def take_turn(self, chore: str, every: timedelta) -> bool:
        with self._now() as now:
            if self._chores.get(chore, now) > now:
                return False
            self._chores[chore] = now + every
            return True

    def ping(self) -> None:
        """Always there."""

    # --- changes ---

    def _entry(self, job_id: UUID) -> _Entry:
        if job_id not in self._entries:
            raise JobNotFoundError
        return self._entries[job_id]

    def _held(self, claim: Claim) -> _Entry | None:
        entry = self._entries.get(claim.job.id)
        if entry is None or entry.job.state != State.RUNNING or entry.job.fence != claim.fence:
            return None
        return entry

    def _set(self, entry: _Entry, **values: Any) -> None:
        entry.job = entry.job.model_copy(update=values)

    def _tell(
        self, entry: _Entry, now: datetime, type_: str, data: dict[str, Any] | None = None
    ) -> None:
        seq = len(entry.events) + 1
        entry.events.append(
            Event(job_id=entry.job.id, seq=seq, type=type_, at=now, data=data or {})
        )

    def _end(self, entry: _Entry, now: datetime, state: State, **values: Any) -> None:
        problem = values.get("problem") or {}
        if state == State.SUCCEEDED:
            values["progress"] = Progress(stage="done", fraction=1.0)
        self._set(entry, state=state, finished_at=now, lease_until=None, **values)
        entry.ring_due = None
        self._tell(entry, now, str(state), {"code": problem["code"]} if problem else None)

    def _requeue(self, entry: _Entry, now: datetime, delay: timedelta, reason: str) -> None:
        self._set(
            entry,
            state=State.QUEUED,
            progress=Progress(),
            worker=None,
            lease_until=None,
            not_before=now + delay,
        )
        entry.ring_due, entry.tries = now + delay, 0
        self._tell(entry, now, "requeued", {"reason": reason})
