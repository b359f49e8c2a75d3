"""Labels as they were shown, and the ends of identifiers that are not used again"""

from alembic import op
import sqlalchemy as sa
import models


revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "plan_suffixes",
        sa.Column("suffix", sa.String(length=15), nullable=False),
        sa.Column("plan_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_plan_suffixes_plan_id")),
        sa.PrimaryKeyConstraint("suffix", name=op.f("pk_plan_suffixes")),
    )
    op.execute(
        "INSERT INTO plan_suffixes (suffix, plan_id)"
        " SELECT plan_id_suffix, id FROM plans WHERE plan_id_suffix IS NOT NULL"
    )
    op.create_table(
        "plan_labels",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("plan_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("unique_id", sa.String(length=26), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("from_on", sa.Date(), nullable=False),
        sa.Column("until_on", sa.Date(), nullable=True),
        sa.ForeignKeyConstraint(["plan_id"], ["plans.id"], name=op.f("fk_plan_labels_plan_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plan_labels")),
    )
    op.create_index(
        op.f("ix_plan_labels_plan_id_until_on"),
        "plan_labels",
        ["plan_id", "until_on"],
        unique=False,
    )
    op.create_index(
        "uq_plan_labels_shown",
        "plan_labels",
        ["plan_id"],
        unique=True,
        sqlite_where=sa.text("until_on IS NULL"),
        postgresql_where=sa.text("until_on IS NULL"),
    )
    op.add_column(
        "plans", sa.Column("withdrawn_at", models.UtcDateTime(timezone=True), nullable=True)
    )


def downgrade() -> None:
    op.drop_column("plans", "withdrawn_at")
    op.drop_table("plan_labels")
    op.drop_table("plan_suffixes")
