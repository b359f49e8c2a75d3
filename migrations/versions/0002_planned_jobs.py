"""What the worker does at its hour: the nightly backup"""

from alembic import op
import sqlalchemy as sa
import models


revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "planned_jobs",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("due_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("claimed_until_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("done_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("failed_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("failure", sa.String(length=500), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_planned_jobs")),
        sa.UniqueConstraint("name", name=op.f("uq_planned_jobs_name")),
    )


def downgrade() -> None:
    op.drop_table("planned_jobs")
