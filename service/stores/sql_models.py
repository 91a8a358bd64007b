"""The model registry on SQLite and PostgreSQL.

Versions are counted in the name's row of `model`, which is also the lock of everything that
changes under the name: two jobs never get one number, two moves of an alias never cross.
"""

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from service.errors import (
    ConflictError,
    ModelInUseError,
    ModelNotFoundError,
    NothingToRollBackError,
)
from service.jobs.job import Job, State
from service.jobs.model import CANDIDATE, NewModel, PublishedModel, RegisteredModel, Shelf
from service.stores.database import Database
from service.stores.rows import moment
from service.stores.tables import job, model, model_alias, model_version

Now = sa.ColumnElement[int]

POINTED_TO = "An alias points to this version: point it elsewhere first."
MOVED_MEANWHILE = "The alias was moved by somebody else just now; look at it and decide again."


class SqlModelRegistry:
    """`service.jobs.ports.ModelRegistry` on a database."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def list(self) -> list[RegisteredModel]:
        wanted = sa.select(model_version).order_by(model_version.c.name, model_version.c.number)
        with self._db.read() as tx:
            return [_model_of(row) for row in tx.execute(wanted).mappings()]

    def aliases(self) -> dict[str, dict[str, str]]:
        with self._db.read() as tx:
            return _aliases(tx, sa.true())

    def shelf(self, name: str) -> Shelf:
        numbers = sa.select(model_version.c.number).where(model_version.c.name == name)
        with self._db.read() as tx:
            found = tx.execute(numbers.order_by(model_version.c.number)).scalars()
            versions = tuple(str(number) for number in found)
            table = _aliases(tx, model_alias.c.name == name)
        return Shelf(versions=versions, aliases=table.get(name, {}))

    def model(self, name: str, version: str) -> RegisteredModel:
        row = None
        if version.isdecimal() and len(version) < 10 and str(int(version)) == version:
            wanted = sa.select(model_version).where(
                model_version.c.name == name, model_version.c.number == int(version)
            )
            with self._db.read() as tx:
                row = tx.execute(wanted).mappings().first()
        if row is None:
            raise ModelNotFoundError(f"There is no model {name}/{version}.")
        return _model_of(row)

    def set_alias(self, name: str, alias: str, version: str, *, instead_of: str | None) -> None:
        with self._db.write() as tx:
            _lock(tx, name)
            if next(iter(_moves(tx, name, alias)), None) != instead_of:
                raise ConflictError(MOVED_MEANWHILE)
            _move(tx, name, alias, version, self._db.clock())

    def roll_back(self, name: str, alias: str, *, away_from: str | None = None) -> str | None:
        with self._db.write() as tx:
            _lock(tx, name)
            before = _moves(tx, name, alias)
            if not before:
                raise NothingToRollBackError
            if away_from not in (None, before[0]):
                return before[0]
            tx.execute(
                sa.update(model_alias)
                .where(
                    model_alias.c.name == name,
                    model_alias.c.alias == alias,
                    model_alias.c.move == _last_move(name, alias).scalar_subquery(),
                )
                .values(undone_at=self._db.clock())
            )
            return next(iter(_moves(tx, name, alias)), None)

    def delete(self, name: str, version: str) -> RegisteredModel:
        gone = self.model(name, version)
        chosen = model_version.c.name == name, model_version.c.number == int(version)
        with self._db.write() as tx:
            _lock(tx, name)
            if version in _aliases(tx, model_alias.c.name == name).get(name, {}).values():
                raise ModelInUseError(POINTED_TO)
            if not tx.execute(sa.delete(model_version).where(*chosen)).rowcount:
                raise ModelNotFoundError(f"There is no model {name}/{version}.")
            tx.execute(
                sa.update(model_alias)
                .where(model_alias.c.name == name, model_alias.c.version == version, _standing())
                .values(undone_at=self._db.clock())
            )
        return gone


def reserve(tx: sa.Connection, new: NewModel) -> int:
    """The next free number of a name, in the transaction that stores the job."""
    return _count_up(tx, new.name, above=new.above)


def publish(tx: sa.Connection, done: Job, made: PublishedModel, now: Now) -> None:
    """Make a job's model visible, and the candidate of its name.

    Raises:
        ConflictError: If it is not the version that was reserved for the job.
    """
    if done.request.publishes != made.id:
        raise ConflictError("The model is not the version that was reserved for its job.")
    _lock(tx, made.name)
    written = made.model_dump(mode="json", include={"name", "files", "card", "comparison"})
    tx.execute(
        sa.insert(model_version).values(
            **written,
            number=int(made.version),
            owner=done.owner,
            job_id=done.id,
            fence=done.fence,
            created_at=now,
        )
    )
    _move(tx, made.name, CANDIDATE, made.version, now)


def is_live(tx: sa.Connection, attempt: str) -> bool:
    """Whether a model's files are needed, by the attempt `ID.FENCE` that made or makes them."""
    identity, _, fence = attempt.partition(".")
    try:
        job_id, number = UUID(identity), int(fence)
    except ValueError:
        return True  # not one of our keys: nothing that we may remove
    published = sa.select(1).where(
        model_version.c.job_id == job_id, model_version.c.fence == number
    )
    running = sa.select(1).where(
        job.c.id == job_id, job.c.fence == number, job.c.state == State.RUNNING
    )
    return tx.execute(sa.union_all(published, running).limit(1)).first() is not None


def _count_up(tx: sa.Connection, name: str, *, above: int | None) -> int:
    """Lock the name's row, made if it is new; with `above`, count it up past that number."""
    insert: Any = sqlite.insert if tx.dialect.name == "sqlite" else postgresql.insert
    first = 0 if above is None else above + 1
    last = model.c.last_number
    counted: sa.ColumnElement[int] = last
    if above is not None:
        counted = sa.case((last < above, above), else_=last) + 1
    adding = insert(model).values(name=name, last_number=first)
    adding = adding.on_conflict_do_update(index_elements=["name"], set_={"last_number": counted})
    return int(tx.execute(adding.returning(model.c.last_number)).scalar_one())


def _lock(tx: sa.Connection, name: str) -> None:
    _count_up(tx, name, above=None)


def _standing() -> sa.ColumnElement[bool]:
    return model_alias.c.undone_at.is_(None)


def _moves(tx: sa.Connection, name: str, alias: str) -> list[str]:
    """Where the alias pointed, last first, without what was undone; at most twice."""
    wanted = (
        sa.select(model_alias.c.version)
        .where(model_alias.c.name == name, model_alias.c.alias == alias, _standing())
        .order_by(model_alias.c.move.desc())
        .limit(2)
    )
    return list(tx.execute(wanted).scalars())


def _last_move(name: str, alias: str) -> sa.Select[tuple[int]]:
    """The number of the last move that stands."""
    return sa.select(sa.func.max(model_alias.c.move)).where(
        model_alias.c.name == name, model_alias.c.alias == alias, _standing()
    )


def _move(tx: sa.Connection, name: str, alias: str, version: str, now: Now) -> None:
    last = sa.select(sa.func.coalesce(sa.func.max(model_alias.c.move), 0)).where(
        model_alias.c.name == name, model_alias.c.alias == alias
    )
    tx.execute(
        sa.insert(model_alias).values(
            name=name,
            alias=alias,
            move=int(tx.execute(last).scalar_one()) + 1,
            version=version,
            moved_at=now,
        )
    )


def _aliases(tx: sa.Connection, which: sa.ColumnElement[bool]) -> dict[str, dict[str, str]]:
    wanted = (
        sa.select(model_alias.c.name, model_alias.c.alias, model_alias.c.version)
        .where(which, _standing())
        .order_by(model_alias.c.move)
    )
    table: dict[str, dict[str, str]] = {}
    for name, alias, version in tx.execute(wanted):
        table.setdefault(name, {})[alias] = version  # a later move takes an earlier one's place
    return table


def _model_of(row: sa.RowMapping) -> RegisteredModel:
    same = {name: row[name] for name in ("name", "owner", "job_id", "files", "card", "comparison")}
    return RegisteredModel.model_validate(
        same | {"version": str(row["number"]), "created_at": moment(row["created_at"])}
    )
