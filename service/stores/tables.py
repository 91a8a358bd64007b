"""The tables, for SQLite and PostgreSQL alike; `migrations/` builds them.

Times are whole milliseconds since 1970 on the database's clock: one type that both databases
compare and add exactly. No column holds a file name, a caller's name or anything out of a file.
"""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

# The newest migration. A test compares it with `migrations/versions/`.
SCHEMA_REVISION = "0004"

Json = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
# SQLite counts up by itself only in a column that is exactly `INTEGER PRIMARY KEY`.
Number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class DatabaseNow(FunctionElement[int]):
    """Milliseconds since 1970 as the database server sees it; no worker's clock counts."""

    type = sa.BigInteger()
    inherit_cache = True


@compiles(DatabaseNow, "sqlite")
def _now_sqlite(_element: DatabaseNow, _compiler: Any, **_options: Any) -> str:
    # unixepoch('subsec') needs SQLite 3.42; julianday is as old as the hills.
    return "CAST((julianday('now') - 2440587.5) * 86400000.0 AS INTEGER)"


@compiles(DatabaseNow, "postgresql")
def _now_postgresql(_element: DatabaseNow, _compiler: Any, **_options: Any) -> str:
    # Not now(), which stands still within a transaction; stable, so that indexes can be used.
    return "CAST(EXTRACT(EPOCH FROM statement_timestamp()) * 1000 AS BIGINT)"


job = sa.Table(
    "job",
    metadata,
    sa.Column("number", Number, primary_key=True, autoincrement=True),  # order of arrival
    sa.Column("id", sa.Uuid, nullable=False, unique=True),
    sa.Column("owner", sa.String(255), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("request", Json, nullable=False),
    sa.Column("request_digest", sa.String(64), nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("queue", sa.String(20), nullable=False),
    sa.Column("priority", sa.SmallInteger, nullable=False),
    sa.Column("stage", sa.String(60), nullable=False),
    sa.Column("fraction", sa.Double, nullable=False),
    sa.Column("detail", Json),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("last_seq", sa.Integer, nullable=False),
    sa.Column("worker", sa.String(255)),
    sa.Column("cancel_requested", sa.Boolean, nullable=False),
    sa.Column("manifest", Json),
    sa.Column("problem", Json),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("not_before", sa.BigInteger, nullable=False),
    sa.Column("deadline_at", sa.BigInteger, nullable=False),
    sa.Column("started_at", sa.BigInteger),
    sa.Column("finished_at", sa.BigInteger),
    sa.Column("lease_until", sa.BigInteger),
    sqlite_autoincrement=True,  # a number is never used twice, so a page's cursor stays true
)


def _only(state: str) -> dict[str, Any]:
    """A partial index: unfinished jobs are few, finished ones many."""
    return {
        "sqlite_where": job.c.state == state,
        "postgresql_where": job.c.state == state,
    }


sa.Index("ix_job_waiting", job.c.queue, job.c.priority, job.c.number, **_only("queued"))
sa.Index("ix_job_queued_deadline", job.c.deadline_at, **_only("queued"))
sa.Index("ix_job_lease", job.c.lease_until, **_only("running"))
sa.Index("ix_job_owner", job.c.owner, job.c.number)
sa.Index("ix_job_owner_state", job.c.owner, job.c.state)
sa.Index("ix_job_finished_at", job.c.finished_at)


def _job_reference() -> sa.Column[Any]:
    return sa.Column("job_id", sa.Uuid, sa.ForeignKey("job.id", ondelete="CASCADE"), nullable=False)


event = sa.Table(
    "job_event",
    metadata,
    _job_reference(),
    sa.Column("seq", sa.Integer, nullable=False),
    sa.Column("type", sa.String(20), nullable=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("data", Json, nullable=False),
    sa.PrimaryKeyConstraint("job_id", "seq"),
)

# Objects that a job reads, so that none is removed under a job that still needs it.
job_input = sa.Table(
    "job_input",
    metadata,
    _job_reference(),
    sa.Column("key", sa.String(255), nullable=False),
    sa.PrimaryKeyConstraint("job_id", "key"),
    sa.Index("ix_job_input_key", "key"),
)

# The key itself is a caller's text, so only its digest is kept.
idempotency = sa.Table(
    "idempotency",
    metadata,
    sa.Column("owner", sa.String(255), nullable=False),
    sa.Column("key_sha256", sa.String(64), nullable=False),
    sa.Column("request_digest", sa.String(64), nullable=False),
    _job_reference(),
    sa.PrimaryKeyConstraint("owner", "key_sha256"),
    sa.Index("ix_idempotency_job_id", "job_id"),
)

# What the outside must still be told. A claim removes its job's ring; the reaper repeats the rest.
outbox = sa.Table(
    "outbox",
    metadata,
    sa.Column("topic", sa.String(20), nullable=False),
    _job_reference(),
    sa.Column("due_at", sa.BigInteger, nullable=False),
    sa.Column("tries", sa.Integer, nullable=False),
    sa.PrimaryKeyConstraint("topic", "job_id"),
    sa.Index("ix_outbox_due_at", "due_at"),
    sa.Index("ix_outbox_job_id", "job_id"),
)

# Whose turn it is to tidy up, so that fifty processes do it as often as one.
chore = sa.Table(
    "chore",
    metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("due_at", sa.BigInteger, nullable=False),
)

# One row a name, for its counter and for its lock: whoever publishes or moves an alias holds it.
model = sa.Table(
    "model",
    metadata,
    sa.Column("name", sa.String(63), primary_key=True),
    sa.Column("last_number", sa.Integer, nullable=False),
)

# No reference to the job: a model stays when its job is forgotten.
model_version = sa.Table(
    "model_version",
    metadata,
    sa.Column("name", sa.String(63), sa.ForeignKey("model.name"), nullable=False),
    sa.Column("number", sa.Integer, nullable=False),
    sa.Column("owner", sa.String(255), nullable=False),
    sa.Column("job_id", sa.Uuid, nullable=False, unique=True),
    sa.Column("fence", sa.BigInteger, nullable=False),
    sa.Column("files", Json, nullable=False),
    sa.Column("card", Json, nullable=False),
    sa.Column("comparison", Json),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.PrimaryKeyConstraint("name", "number"),
)

# Every move of every alias; of those that were not undone the last one counts. A version may be a
# shipped one, which has no row here.
model_alias = sa.Table(
    "model_alias",
    metadata,
    sa.Column("name", sa.String(63), sa.ForeignKey("model.name"), nullable=False),
    sa.Column("alias", sa.String(20), nullable=False),
    sa.Column("move", sa.Integer, nullable=False),
    sa.Column("version", sa.String(31), nullable=False),
    sa.Column("moved_at", sa.BigInteger, nullable=False),
    sa.Column("undone_at", sa.BigInteger),
    sa.PrimaryKeyConstraint("name", "alias", "move"),
)

upload = sa.Table(
    "upload",
    metadata,
    sa.Column("id", sa.Uuid, primary_key=True),
    sa.Column("owner", sa.String(255), nullable=False),
    sa.Column("key", sa.String(255), nullable=False, unique=True),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("received", sa.BigInteger, nullable=False),
    sa.Column("sha256", sa.String(64)),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("expires_at", sa.BigInteger, nullable=False),
    sa.Index("ix_upload_expires_at", "expires_at"),
)

# What may be trained on. An uploaded archive keeps the key that it had as an upload.
dataset = sa.Table(
    "dataset",
    metadata,
    sa.Column("number", Number, primary_key=True, autoincrement=True),
    sa.Column("id", sa.Uuid, nullable=False, unique=True),
    sa.Column("owner", sa.String(255), nullable=False),
    sa.Column("name", sa.String(63), nullable=False),
    sa.Column("inputs", Json, nullable=False),
    sa.Column("key", sa.String(255)),
    sa.Column("sha256", sa.String(64)),
    sa.Column("bytes", sa.BigInteger),
    sa.Column("files", sa.Integer),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("owner", "name"),
    sa.Index("ix_dataset_key", "key"),
    sqlite_autoincrement=True,
)

# Registrations that were ordered as one. The key is kept as its digest, as for a job.
cohort = sa.Table(
    "cohort",
    metadata,
    sa.Column("number", Number, primary_key=True, autoincrement=True),
    sa.Column("id", sa.Uuid, nullable=False, unique=True),
    sa.Column("owner", sa.String(255), nullable=False),
    sa.Column("subjects", sa.Integer, nullable=False),
    sa.Column("options", Json, nullable=False),
    sa.Column("request_digest", sa.String(64), nullable=False),
    sa.Column("key_sha256", sa.String(64)),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.UniqueConstraint("owner", "key_sha256"),
    sqlite_autoincrement=True,
)

cohort_job = sa.Table(
    "cohort_job",
    metadata,
    sa.Column("cohort_id", sa.Uuid, sa.ForeignKey("cohort.id", ondelete="CASCADE"), nullable=False),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("subject", sa.String(100), nullable=False),
    _job_reference(),
    sa.PrimaryKeyConstraint("cohort_id", "place"),
    sa.UniqueConstraint("job_id"),
)
