"""Cohorts: registrations that were ordered as one."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "cohort",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("subjects", sa.Integer(), nullable=False),
        sa.Column("options", JSON, nullable=False),
        sa.Column("request_digest", sa.String(64), nullable=False),
        sa.Column("key_sha256", sa.String(64)),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_cohort"),
        sa.UniqueConstraint("id", name="uq_cohort_id"),
        sa.UniqueConstraint("owner", "key_sha256", name="uq_cohort_owner"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "cohort_job",
        sa.Column("cohort_id", sa.Uuid(), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("subject", sa.String(100), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.PrimaryKeyConstraint("cohort_id", "place", name="pk_cohort_job"),
        sa.ForeignKeyConstraint(
            ["cohort_id"], ["cohort.id"], name="fk_cohort_job_cohort_id", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["job_id"], ["job.id"], name="fk_cohort_job_job_id", ondelete="CASCADE"
        ),
        sa.UniqueConstraint("job_id", name="uq_cohort_job_job_id"),
    )


def downgrade() -> None:
    op.drop_table("cohort_job")
    op.drop_table("cohort")
