"""The model registry in memory: a fake for tests, under the same suite as the real one."""

import threading
from datetime import datetime

from service.errors import (
    ConflictError,
    ModelInUseError,
    ModelNotFoundError,
    NothingToRollBackError,
)
from service.jobs.job import Job
from service.jobs.model import CANDIDATE, NewModel, PublishedModel, RegisteredModel, Shelf


class MemoryModelRegistry:
    """`service.jobs.ports.ModelRegistry` in one process."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._models: dict[tuple[str, int], RegisteredModel] = {}
        self._moves: dict[tuple[str, str], list[str]] = {}
        self._lock = threading.RLock()

    def list(self) -> list[RegisteredModel]:
        return [model for _key, model in sorted(self._models.items())]

    def aliases(self) -> dict[str, dict[str, str]]:
        table: dict[str, dict[str, str]] = {}
        for (name, alias), moves in self._moves.items():
            if moves:
                table.setdefault(name, {})[alias] = moves[-1]
        return table

    def shelf(self, name: str) -> Shelf:
        versions = tuple(model.version for model in self.list() if model.name == name)
        return Shelf(versions=versions, aliases=self.aliases().get(name, {}))

    def model(self, name: str, version: str) -> RegisteredModel:
        found = [model for model in self.list() if (model.name, model.version) == (name, version)]
        if not found:
            raise ModelNotFoundError(f"There is no model {name}/{version}.")
        return found[0]

    def set_alias(self, name: str, alias: str, version: str, *, instead_of: str | None) -> None:
        with self._lock:
            moves = self._moves.setdefault((name, alias), [])
            if (moves[-1] if moves else None) != instead_of:
                raise ConflictError
            moves.append(version)

    def roll_back(self, name: str, alias: str, *, away_from: str | None = None) -> str | None:
        with self._lock:
            moves = self._moves.get((name, alias), [])
            if not moves:
                raise NothingToRollBackError
            if away_from not in (None, moves[-1]):
                return moves[-1]
            moves.pop()
            return moves[-1] if moves else None

    def delete(self, name: str, version: str) -> RegisteredModel:
        with self._lock:
            self.model(name, version)  # raises where there is none
            if version in self.aliases().get(name, {}).values():
                raise ModelInUseError
            for (of, _alias), moves in self._moves.items():
                if of == name:
                    moves[:] = [where for where in moves if where != version]
            return self._models.pop((name, int(version)))

    # --- for the job store beside it ---

    def reserve(self, new: NewModel) -> int:
        """The next free number of a name."""
        with self._lock:
            self._numbers[new.name] = max(self._numbers.get(new.name, 0), new.above) + 1
            return self._numbers[new.name]

    def publish(self, job: Job, made: PublishedModel, now: datetime) -> None:
        """Make a job's model visible, and the candidate of its name."""
        if job.request.publishes != made.id:
            raise ConflictError
        with self._lock:
            self._models[made.name, int(made.version)] = RegisteredModel(
                **made.model_dump(), job_id=job.id, owner=job.owner, created_at=now
            )
            self._moves.setdefault((made.name, CANDIDATE), []).append(made.version)

    def has_files(self, prefix: str) -> bool:
        """Whether a published model has a file under this prefix."""
        return any(
            file.key.startswith(prefix)
            for model in self._models.values()
            for file in model.files.values()
        )
