"""Training: figures of a running job, and data sets that were registered to be trained on."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

JSON = sa.JSON(none_as_null=True).with_variant(postgresql.JSONB(none_as_null=True), "postgresql")
NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("job", sa.Column("detail", JSON))
    op.create_table(
        "dataset",
        sa.Column("number", NUMBER, autoincrement=True, nullable=False),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner", sa.String(255), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("inputs", JSON, nullable=False),
        sa.Column("key", sa.String(255)),
        sa.Column("sha256", sa.String(64)),
        sa.Column("bytes", sa.BigInteger()),
        sa.Column("files", sa.Integer()),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_dataset"),
        sa.UniqueConstraint("id", name="uq_dataset_id"),
        sa.UniqueConstraint("owner", "name", name="uq_dataset_owner"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_dataset_key", "dataset", ["key"])


def downgrade() -> None:
    op.drop_table("dataset")
    op.drop_column("job", "detail")
