"""First schema: jobs, their events, inputs, idempotency keys and outbox; chores; uploads."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    _create_job()
    _index_job()
    _create_event_and_input()
    _create_idempotency_and_outbox()
    _create_chore_and_upload()


def downgrade() -> None:
    for table in ("upload", "chore", "outbox", "idempotency", "job_input", "job_event", "job"):
        op.drop_table(table)


def _create_job() -> None:
    op.create_table(
        "job",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("kind", sa.String(20), nullable=False),
        sa.Column("request", JSON, nullable=False),
        sa.Column("request_digest", sa.String(64), nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("queue", sa.String(20), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("stage", sa.String(60), nullable=False),
        sa.Column("fraction", sa.Double(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(255)),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("manifest", JSON),
        sa.Column("problem", JSON),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("not_before", sa.BigInteger(), nullable=False),
        sa.Column("deadline_at", sa.BigInteger(), nullable=False),
        sa.Column("started_at", sa.BigInteger()),
        sa.Column("finished_at", sa.BigInteger()),
        sa.Column("lease_until", sa.BigInteger()),
        sa.PrimaryKeyConstraint("number", name="pk_job"),
        sa.UniqueConstraint("id", name="uq_job_id"),
        sqlite_autoincrement=True,
    )


def _index_job() -> None:
    queued, running = sa.text("state = 'queued'"), sa.text("state = 'running'")
    for name, columns, where in (
        ("ix_job_waiting", ["queue", "priority", "number"], queued),
        ("ix_job_queued_deadline", ["deadline_at"], queued),
        ("ix_job_lease", ["lease_until"], running),
        ("ix_job_owner", ["owner", "number"], None),
        ("ix_job_owner_state", ["owner", "state"], None),
        ("ix_job_finished_at", ["finished_at"], None),
    ):
        op.create_index(name, "job", columns, sqlite_where=where, postgresql_where=where)


def _job_reference(table: str) -> tuple[sa.Column[object], sa.ForeignKeyConstraint]:
    return sa.Column("job_id", sa.Uuid(), nullable=False), sa.ForeignKeyConstraint(
        ["job_id"], ["job.id"], name=f"fk_{table}_job_id", ondelete="CASCADE"
    )


def _create_event_and_input() -> None:
    op.create_table(
        "job_event",
        *_job_reference("job_event"),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("type", sa.String(20), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("data", JSON, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "seq", name="pk_job_event"),
    )
    op.create_table(
        "job_input",
        *_job_reference("job_input"),
        sa.Column("key", sa.String(255), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "key", name="pk_job_input"),
    )
    op.create_index("ix_job_input_key", "job_input", ["key"])


def _create_idempotency_and_outbox() -> None:
    op.create_table(
        "idempotency",
        *_job_reference("idempotency"),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("key_sha256", sa.String(64), nullable=False),
        sa.Column("request_digest", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("owner", "key_sha256", name="pk_idempotency"),
    )
    op.create_index("ix_idempotency_job_id", "idempotency", ["job_id"])
    op.create_table(
        "outbox",
        *_job_reference("outbox"),
        sa.Column("topic", sa.String(20), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("topic", "job_id", name="pk_outbox"),
    )
    op.create_index("ix_outbox_due_at", "outbox", ["due_at"])
    op.create_index("ix_outbox_job_id", "outbox", ["job_id"])


def _create_chore_and_upload() -> None:
    op.create_table(
        "chore",
        sa.Column("name", sa.String(40), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_chore"),
    )
    op.create_table(
        "upload",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.String(64)),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_upload"),
        sa.UniqueConstraint("key", name="uq_upload_key"),
    )
    op.create_index("ix_upload_expires_at", "upload", ["expires_at"])
