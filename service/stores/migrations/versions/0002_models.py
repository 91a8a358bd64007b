"""Models that jobs make: versions, and the moves of their aliases."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "model",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("last_number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_model"),
    )
    _create_version()
    _create_alias()


def downgrade() -> None:
    for table in ("model_alias", "model_version", "model"):
        op.drop_table(table)


def _create_version() -> None:
    op.create_table(
        "model_version",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("job_id", sa.Uuid(), nullable=False),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("files", JSON, nullable=False),
        sa.Column("card", JSON, nullable=False),
        sa.Column("comparison", JSON),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", "number", name="pk_model_version"),
        sa.UniqueConstraint("job_id", name="uq_model_version_job_id"),
        sa.ForeignKeyConstraint(["name"], ["model.name"], name="fk_model_version_name"),
    )


def _create_alias() -> None:
    op.create_table(
        "model_alias",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("alias", sa.String(20), nullable=False),
        sa.Column("move", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(31), nullable=False),
        sa.Column("moved_at", sa.BigInteger(), nullable=False),
        sa.Column("undone_at", sa.BigInteger()),
        sa.PrimaryKeyConstraint("name", "alias", "move", name="pk_model_alias"),
        sa.ForeignKeyConstraint(["name"], ["model.name"], name="fk_model_alias_name"),
    )
