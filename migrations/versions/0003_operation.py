"""Seals over the activity trail, and maintenance"""

import sqlalchemy as sa
from alembic import op

import models

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    big = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "activity_seals",
        sa.Column("id", big, autoincrement=False, nullable=False),
        sa.Column("first_id", big, nullable=False),
        sa.Column("last_id", big, nullable=False),
        sa.Column("row_count", sa.Integer(), nullable=False),
        sa.Column("sealed_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("hash", sa.LargeBinary(length=32), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_activity_seals")),
        sa.UniqueConstraint("first_id", name=op.f("uq_activity_seals_first_id")),
    )
    op.create_table(
        "maintenance",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("is_on", sa.Boolean(), nullable=False),
        sa.Column("from_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("until_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("messages", sa.JSON(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_maintenance_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_maintenance")),
    )


def downgrade() -> None:
    op.drop_table("maintenance")
    op.drop_table("activity_seals")
