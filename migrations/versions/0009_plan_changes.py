"""Changes of plans, and where and how a plan is had"""

from alembic import op
import sqlalchemy as sa
import models


revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "plan_changes",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("public_id", sa.String(length=24), nullable=False),
        sa.Column(
            "account_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False
        ),
        sa.Column(
            "customer_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("from_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column(
            "to_plan_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("to_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True),
        sa.Column("is_end", sa.Boolean(), nullable=False),
        sa.Column("ended", sa.JSON(), nullable=False),
        sa.Column("effective_on", sa.Date(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("quote", sa.JSON(), nullable=False),
        sa.Column("charges", sa.JSON(), nullable=False),
        sa.Column("answer", sa.String(length=300), nullable=False),
        sa.Column(
            "decided_by_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
        sa.Column("created_at", models.UtcDateTime(timezone=True), nullable=False),
        sa.Column("ended_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("due_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.Column("claimed_until_at", models.UtcDateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('asked', 'planned', 'done', 'undone', 'refused')",
            name=op.f("ck_plan_changes_state"),
        ),
        sa.CheckConstraint(
            "from_id IS NOT NULL OR to_plan_id IS NOT NULL OR is_end",
            name=op.f("ck_plan_changes_something"),
        ),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_plan_changes_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_plan_changes_customer_id")
        ),
        sa.ForeignKeyConstraint(
            ["decided_by_id"], ["customers.id"], name=op.f("fk_plan_changes_decided_by_id")
        ),
        sa.ForeignKeyConstraint(
            ["from_id"], ["subscriptions.id"], name=op.f("fk_plan_changes_from_id")
        ),
        sa.ForeignKeyConstraint(
            ["to_id"], ["subscriptions.id"], name=op.f("fk_plan_changes_to_id")
        ),
        sa.ForeignKeyConstraint(
            ["to_plan_id"], ["plans.id"], name=op.f("fk_plan_changes_to_plan_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_plan_changes")),
        sa.UniqueConstraint("public_id", name=op.f("uq_plan_changes_public_id")),
    )
    op.create_index(
        op.f("ix_plan_changes_account_id_created_at"),
        "plan_changes",
        ["account_id", "created_at"],
        unique=False,
    )
    op.create_index(
        "ix_plan_changes_asked",
        "plan_changes",
        ["created_at"],
        unique=False,
        sqlite_where=sa.text("state = 'asked'"),
        postgresql_where=sa.text("state = 'asked'"),
    )
    op.create_index(
        op.f("ix_plan_changes_customer_id"), "plan_changes", ["customer_id"], unique=False
    )
    op.create_index(
        "ix_plan_changes_due",
        "plan_changes",
        ["due_at"],
        unique=False,
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index(op.f("ix_plan_changes_to_id"), "plan_changes", ["to_id"], unique=False)
    op.create_index(
        "uq_plan_changes_end",
        "plan_changes",
        ["account_id"],
        unique=True,
        sqlite_where=sa.text("is_end AND state = 'planned'"),
        postgresql_where=sa.text("is_end AND state = 'planned'"),
    )
    op.create_index(
        "uq_plan_changes_from",
        "plan_changes",
        ["from_id"],
        unique=True,
        sqlite_where=sa.text("state IN ('asked', 'planned')"),
        postgresql_where=sa.text("state IN ('asked', 'planned')"),
    )
    op.create_index(
        "uq_plan_changes_to",
        "plan_changes",
        ["account_id", "to_plan_id"],
        unique=True,
        sqlite_where=sa.text("state IN ('asked', 'planned')"),
        postgresql_where=sa.text("state IN ('asked', 'planned')"),
    )
    op.add_column("charges", sa.Column("from_on", sa.Date(), nullable=True))
    op.add_column("plans", sa.Column("areas", sa.JSON(), nullable=True))
    op.add_column("plans", sa.Column("excludes", sa.JSON(), nullable=True))
    op.add_column(
        "plans", sa.Column("needs_staff", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    op.add_column("subscriptions", sa.Column("bound_until_on", sa.Date(), nullable=True))
    op.add_column(
        "subscriptions",
        sa.Column(
            "termination_minor", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=True
        ),
    )


def downgrade() -> None:
    op.drop_column("subscriptions", "termination_minor")
    op.drop_column("subscriptions", "bound_until_on")
    op.drop_column("charges", "from_on")
    op.drop_column("plans", "needs_staff")
    op.drop_column("plans", "excludes")
    op.drop_column("plans", "areas")
    op.drop_table("plan_changes")
